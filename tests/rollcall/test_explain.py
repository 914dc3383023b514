"""A verdict beside a replay: reproduced, contradicted, or not to be judged by one group."""

from dataclasses import replace

import numpy as np
import pytest

from protocol.checks.evidence import Hypothesis
from protocol.run import RunSpec
from protocol.signing import Domain, address_of, sign
from protocol.user_error import UserError
from protocol.verdict import Mismatch, Outcome, Verdict
from rollcall.cli.desk import word_of
from rollcall.explain.explain import Judgement, compare
from rollout_worker.replay.hypotheses import Named
from rollout_worker.replay.measure import Findings, stats_of
from tests.stage.bounds import thresholds
from tests.stage.live import key_of
from tests.stage.terms import digest_of, make_spec, weights

DOMAIN = Domain(31337, "0x" + "11" * 20)
KEY, HOT = key_of("a verifier"), key_of("its hot key")
FINDINGS = [
    Findings(
        claimed=np.array([5, 6, 7], dtype=np.uint32),
        expected=np.array([5, 9, 7], dtype=np.uint32),
        margins=np.array([0.0, 0.7, 0.0]),
        gaps=np.array([0.0, 0.1, 0.0]),
        surprisals=np.array([0.1, 0.2, 0.3]),
    )
]
WRONG = Mismatch(rollout=0, position=1, expected=9, claimed=6, margin_nanonats=700_000_000)


HONEST = stats_of(FINDINGS)


def verdict(outcome: Outcome, *, key: bytes = KEY, **changes: object) -> Verdict:
    fields: dict[str, object] = {
        "run_id": 1,
        "work_digest": bytes(32),
        "verifier": address_of(KEY),
        "outcome": outcome,
        "rejection": "replay_mismatch" if outcome is Outcome.REJECTED else "",
        "detail": "",
        "rollouts": (0,),
        "stats": stats_of(FINDINGS),
        "mismatches": (WRONG,) if outcome is Outcome.REJECTED else (),
        "decided_at": 1,
        "signature": bytes(65),
    }
    unsigned = Verdict.model_validate(fields | changes)
    return unsigned.model_copy(update={"signature": sign(key, DOMAIN.digest(unsigned))})


def terms(*, match: float) -> RunSpec:
    """Return a run whose replays must find this share of winners, whatever the margins and gaps."""
    model_digest = digest_of(weights(0))
    bounds = thresholds(model_digest, match=match, margin=1, gap=1)
    return make_spec(model_digest=model_digest, thresholds=bounds)


def compared(
    found: Verdict,
    outcome: Outcome = Outcome.REJECTED,
    named: Named | None = None,
    **how: object,
) -> Judgement:
    """Hold a verdict against a replay that finds this outcome, by bounds that make it so."""
    spec = terms(match=0.9 if outcome is Outcome.REJECTED else 0.5)
    options = {"about": (1, bytes(32)), "domain": DOMAIN, "spoke_for": None} | how
    return compare(found, FINDINGS, named, spec, **options)  # type: ignore[arg-type]


def test_a_verdict_is_reproduced_where_outcome_signature_and_positions_are() -> None:
    judgement = compared(verdict(Outcome.REJECTED))
    assert (judgement.is_reproduced, judgement.num_expected) == (True, 1)
    assert compared(verdict(Outcome.ACCEPTED), Outcome.ACCEPTED).is_reproduced


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (verdict(Outcome.ACCEPTED), "this replay finds it rejected"),
        (
            verdict(Outcome.REJECTED, mismatches=(WRONG.model_copy(update={"claimed": 8}),)),
            "names token 8 at rollout 0, position 1",
        ),
        (
            verdict(Outcome.REJECTED, mismatches=(WRONG.model_copy(update={"position": 3}),)),
            "which the work has not",
        ),
        (
            verdict(Outcome.REJECTED).model_copy(update={"detail": "added afterwards"}),
            "signed by 0x",
        ),
        (
            verdict(
                Outcome.REJECTED,
                hypothesis="int4",
                stats=HONEST.model_copy(update={"gap_nanonats": 10**12}),
                explained=HONEST,
            ),
            "its figures make it named, this replay's make it unpaid",
        ),
    ],
)
def test_a_verdict_that_does_not_follow_is_contradicted(found: Verdict, said: str) -> None:
    judgement = compared(found)
    assert judgement.is_reproduced is False
    assert said in judgement.remark


def test_a_verdict_on_other_work_says_nothing_of_this() -> None:
    accepting = verdict(Outcome.ACCEPTED)
    assert compared(accepting, Outcome.ACCEPTED).is_reproduced
    for about in ((1, b"\x01" * 32), (2, bytes(32))):
        judgement = compared(accepting, Outcome.ACCEPTED, about=about)
        assert judgement.is_reproduced is False
        assert "it is about work 0x00" in judgement.remark


def test_a_hot_key_s_verdict_counts_where_the_registry_knows_it() -> None:
    hot = verdict(Outcome.REJECTED, key=HOT)
    assert "give --rpc" in compared(hot).remark
    assert compared(hot, spoke_for=lambda *_: True).is_reproduced
    assert compared(hot, spoke_for=lambda *_: False).is_reproduced is False


def test_what_one_group_cannot_show_is_left_open() -> None:
    assert compared(verdict(Outcome.UNDECIDED, detail="no weights")).is_reproduced is None
    elsewhere = verdict(Outcome.REJECTED, rejection="worker_excluded", mismatches=())
    assert compared(elsewhere).is_reproduced is None
    alarm = compared(verdict(Outcome.ACCEPTED, drifts=True), Outcome.ACCEPTED)
    assert alarm.is_reproduced
    assert "takes more than one group to see" in alarm.remark


def test_a_verdict_is_held_against_the_rollouts_that_it_is_about() -> None:
    right = replace(FINDINGS[0], expected=FINDINGS[0].claimed, margins=np.zeros(3))
    more = [right, *FINDINGS]
    spec = terms(match=0.9)
    at_one = WRONG.model_copy(update={"rollout": 1})
    for rollouts, outcome, wrong in (
        ((0,), Outcome.ACCEPTED, ()),
        ((1,), Outcome.REJECTED, (at_one,)),
    ):
        signed = verdict(outcome, rollouts=rollouts, mismatches=wrong)
        judged = compare(
            signed, more, None, spec, about=(1, bytes(32)), domain=DOMAIN, spoke_for=None
        )
        assert judged.is_reproduced, judged.remark
    beyond = verdict(Outcome.ACCEPTED, rollouts=(2,))
    judged = compare(beyond, more, None, spec, about=(1, bytes(32)), domain=DOMAIN, spoke_for=None)
    assert judged.is_reproduced is False
    assert "rollouts [2], which the work has not" in judged.remark


def test_another_name_for_what_was_done_is_told() -> None:
    named = Named(Hypothesis.INT8, "weights rounded to int8", stats_of(FINDINGS))
    same = compared(verdict(Outcome.REJECTED, hypothesis="int8"), named=named)
    assert same.remark == "as found here"
    other = compared(verdict(Outcome.REJECTED, hypothesis="int4"), named=named)
    assert other.remark == "as found here, but for what was done: int8"
    nameless = compared(verdict(Outcome.REJECTED, hypothesis="int4"))
    assert "nothing tried explains it" in nameless.remark


def test_a_digest_is_thirty_two_bytes_in_hex() -> None:
    assert word_of("0x" + "ab" * 32, "a digest") == b"\xab" * 32
    for text in ("0x12", "0x" + "zz" * 32, ""):
        with pytest.raises(UserError, match=r"a digest is not hex|a digest has 64"):
            word_of(text, "a digest")
