"""A claim that cannot fail proves nothing: each is broken by the results it is about."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from audit.epoch import EpochReport
from audit.history import Posted
from audit.run import RunReport
from client.public import Reader
from protocol.messages import WorkerInfo
from rollcall.demo.claims import check_claims
from rollcall.demo.market import STAKE
from rollcall.demo.results import ESCROW, Clock, Results, Sold, WorkerResult, standing_of
from tests.orchestrator.test_settling import earn
from tests.stage.front import serving
from tests.stage.place import Place
from tests.stage.work import spec

HONEST, CHEAT = "0x" + "11" * 20, "0x" + "22" * 20
RATE = 10
POSTED = Posted(1, 0, 0, b"", b"", b"", "", b"", 0, 0, "")


def standing(**changes: Any) -> WorkerInfo:
    good: dict[str, Any] = {
        "run_id": 1,
        "worker": HONEST,
        "accepted_groups": 2,
        "accepted_tokens": 100,
        "rejected_by_reason": {},
        "is_excluded": False,
        "exclusion": "",
        "dropped_leases": 0,
        "paused": "",
        "most_leases": 4,
        "notice": "",
        "earned": 100,
        "last_nonce": 2,
    }
    return WorkerInfo(**{**good, **changes})


def worker(**changes: Any) -> WorkerResult:
    honest = WorkerResult(
        name="worker-honest",
        address=HONEST,
        engine="transformers-cpu",
        does="",
        named={},
        num_sent=2,
        standing=standing(),
        earned_units=100,
        claimed=1000,
        balance_gained=1000,
        stake=STAKE,
        tokens_per_second=1.0,
        share_waited=0.5,
    )
    return replace(honest, **changes)


def caught(**changes: Any) -> WorkerInfo:
    found: dict[str, Any] = {
        "is_excluded": True,
        "accepted_groups": 0,
        "accepted_tokens": 0,
        "rejected_by_reason": {"replay_margin": 1},
    }
    return standing(**{**found, **changes})


def cheat(**changes: Any) -> WorkerResult:
    found: dict[str, Any] = {
        "name": "worker-cheat",
        "address": CHEAT,
        "does": "int4",
        "named": {"int4": 1},
        "standing": caught(),
        "earned_units": 0,
        "claimed": 0,
        "balance_gained": 0,
        "stake": 0,
    }
    return worker(**{**found, **changes})


def group(**changes: Any) -> Sold:
    return replace(Sold(HONEST, 0.0, 0, "accepted", 0, 50, True), **changes)


def audit(*differences: str, num_looked_at: int = 2) -> RunReport:
    epoch = EpochReport(POSTED, num_groups=2, num_looked_at=num_looked_at)
    return RunReport(1, [epoch], list(differences), {HONEST: 100})


def results(**changes: Any) -> Results:
    good = Results(
        clock=Clock(0, 0, 0, 0),
        spec=spec(rate=RATE, max_staleness=4, num_held_out=512),
        num_steps=2,
        accuracy={0: 0.52, 2: 0.91},
        steps=[],
        sold=[
            group(),
            group(trained_in=1, policy_version=1),
            group(worker=CHEAT, state="rejected", trained_in=-1),
        ],
        workers=[worker(), cheat()],
        audit=audit(),
        manifests=[],
        events=[],
        left=ESCROW - 1000,
    )
    return replace(good, **changes)


def broken(found: Results) -> set[str]:
    return {claim.name for claim in check_claims(found) if not claim.holds}


def test_a_good_market_holds_every_claim() -> None:
    assert broken(results()) == set()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda: results(accuracy={0: 0.52, 2: 0.849}), "accuracy"),
        (lambda: results(accuracy={0: 0.601, 2: 0.91}), "accuracy"),
        (lambda: results(spec=spec(rate=RATE, num_held_out=511)), "accuracy"),
        (lambda: with_cheat(standing=caught(is_excluded=False)), "found by replay"),
        (lambda: with_cheat(standing=caught(rejected_by_reason={"bad_length": 1})), "found by"),
        (lambda: with_cheat(named={"int8": 1}), "found by replay"),
        (lambda: with_cheat(named={}), "found by replay"),
        (lambda: results(sold=[*results().sold, group(worker=CHEAT, trained_in=1)]), "trained on"),
        (lambda: with_cheat(claimed=1), "paid nothing"),
        (lambda: with_cheat(earned_units=1), "paid nothing"),
        (lambda: with_cheat(stake=STAKE), "slashed"),
        (lambda: with_honest(standing=standing(rejected_by_reason={"bad_length": 1})), "rejected"),
        (lambda: with_honest(standing=standing(accepted_groups=0)), "no honest group"),
        (lambda: with_honest(claimed=990), "paid exactly"),
        (lambda: with_honest(balance_gained=990), "paid exactly"),
        (lambda: with_honest(standing=standing(accepted_tokens=101)), "paid exactly"),
        (lambda: results(left=ESCROW), "escrowed"),
        (lambda: with_cheat(balance_gained=1), "escrowed"),
        (lambda: with_honest(earned_units=0, claimed=0, balance_gained=0), "paid exactly"),
        (lambda: results(audit=audit("a false sum")), "rollcall audit"),
        (lambda: results(audit=audit(num_looked_at=0)), "rollcall audit"),
        (lambda: results(sold=[group(), group(trained_in=1, state="replay")]), "admitted"),
        (
            lambda: results(
                sold=[group(), group(trained_in=5)], num_steps=6, accuracy={0: 0.5, 6: 0.9}
            ),
            "admitted",
        ),
        (lambda: results(sold=[group()]), "admitted"),
        (lambda: results(workers=[worker()]), "cheat"),
        (lambda: results(workers=[cheat()]), "honest"),
    ],
)
def test_a_claim_breaks_with_what_it_is_about(change: Callable[[], Results], words: str) -> None:
    assert any(words in name for name in broken(change()))


def with_cheat(**changes: Any) -> Results:
    return results(workers=[worker(), cheat(**changes)])


def with_honest(**changes: Any) -> Results:
    return results(workers=[worker(**changes), cheat()])


def test_a_worker_that_never_leased_has_sold_nothing(place: Place) -> None:
    """Its engine may come up after the last step: the report says so, and is written."""
    tokens = earn(place)
    with serving(place) as (front, _), Reader(front.url) as reader:
        alice, bob = place.ground.address("alice"), place.ground.address("bob")
        assert standing_of(reader, place.run_id, alice).accepted_tokens == tokens
        assert standing_of(reader, place.run_id, bob).accepted_groups == 0
