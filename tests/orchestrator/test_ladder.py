"""The ladder: what a verdict's own figures justify, and how many verifiers it takes.

One rejected group costs its pay, whatever is said about it. Stake goes where enough verifiers' figures name
what was done, or find gross evidence in two groups.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha1
from pathlib import Path
from typing import Any

import pytest

from orchestrator import replays
from orchestrator.rules.ballots import Suspicion
from orchestrator.store.keys import run_prefix
from orchestrator.store.queue import Script
from protocol.checks.evidence import Consequence
from protocol.checks.withholding import WITHHELD
from protocol.messages import FraudReportTask, FraudReportTasks, GroupState
from protocol.verdict import Outcome
from tests.orchestrator.test_dropping import standing
from tests.orchestrator.test_verdicts import code, events, one_group
from tests.stage.evidence import GROSS, NAMED
from tests.stage.ground import Ground
from tests.stage.place import Found, Place, opened

REJECTED, ACCEPTED = Outcome.REJECTED, Outcome.ACCEPTED
CLAIMED = {**NAMED, "left_wrong": 3}
"""A named hypothesis that explains next to nothing."""


@pytest.fixture
def three(ground: Ground, redis_url: str, tmp_path: Path) -> Iterator[Place]:
    """Two of three verifiers decide."""
    with opened(ground, redis_url, tmp_path / "b", num_verifiers=3, threshold=2) as place:
        yield place


def rejected_by(place: Place, *found: Found, worker: str = "alice") -> bytes:
    """Have verifiers in their order reject a fresh group of a worker's, each with its own evidence."""
    digest = one_group(place, worker)
    for n, strength in enumerate(found):
        place.party(f"v{n}").decide(digest, REJECTED, strength)
    assert place.state(digest) is GroupState.REJECTED
    return digest


def reports(place: Place) -> tuple[FraudReportTask, ...]:
    return FraudReportTasks.from_json(place.get(place.path("fraud-reports")).content).tasks


def stands(place: Place, worker: str = "alice") -> bool:
    """Return whether a worker is neither excluded nor reported, and still gets leases."""
    party = place.party(worker)
    is_excluded = standing(place, party).is_excluded
    assert is_excluded == bool(reports(place))
    return not is_excluded and party.lease().status_code == 200


def test_a_rejected_group_is_not_paid_and_its_worker_goes_on(three: Place) -> None:
    for _ in range(3):
        rejected_by(three, {}, {})
    assert stands(three)
    paid = one_group(three)
    for name in ("v0", "v1"):
        three.party(name).decide(paid, ACCEPTED)
    info = standing(three, three.party("alice"))
    assert (info.accepted_groups, info.rejected_by_reason) == (1, {"replay_mismatch": 3})


def test_one_gross_group_is_not_paid_and_the_second_costs_the_stake(three: Place) -> None:
    first = rejected_by(three, GROSS, GROSS)
    assert stands(three)
    rejected_by(three, GROSS, GROSS, worker="bob")
    assert stands(three), "another worker's is no second"
    second = rejected_by(three, GROSS, GROSS)
    assert not stands(three)
    [report] = reports(three)
    assert (report.work_digest, report.also) == (second, first)
    assert report.worker == three.party("alice").address
    assert code(three.party("alice").lease()) == "excluded"


def test_gross_evidence_of_one_verifier_of_two_needed_counts_for_nothing(three: Place) -> None:
    for _ in range(3):
        rejected_by(three, GROSS, {})
        rejected_by(three, {}, GROSS)
    assert stands(three)


def test_a_cheat_that_a_quorum_names_costs_the_stake_by_one_group(three: Place) -> None:
    digest = rejected_by(three, NAMED, NAMED)
    assert not stands(three)
    [report] = reports(three)
    assert (report.work_digest, report.also) == (digest, bytes(32))


def test_one_liar_of_three_takes_no_stake_whatever_it_names(three: Place) -> None:
    for _ in range(2):
        rejected_by(three, NAMED, {})
        rejected_by(three, {}, NAMED)
    assert stands(three)


def test_named_evidence_is_gross_too(three: Place) -> None:
    """One of two names what the other finds gross: each group is gross by both."""
    rejected_by(three, NAMED, GROSS)
    assert stands(three)
    rejected_by(three, GROSS, NAMED)
    assert not stands(three)


@pytest.mark.parametrize(
    ("found", "follows"),
    [
        ({"wrong": 3}, Consequence.UNPAID),
        ({"wrong": 5}, Consequence.GROSS),
        ({"claims": 100.0}, Consequence.UNPAID),
        ({"claims": 8.9, "hypothesis": "int8"}, Consequence.UNPAID),
        ({"claims": 9.1, "hypothesis": "int8"}, Consequence.NAMED),
        ({"claims": 100.0, "hypothesis": "int8", "left_claims": 11.9}, Consequence.NAMED),
        ({"claims": 100.0, "hypothesis": "int8", "left_claims": 12.1}, Consequence.UNPAID),
        ({"wrong": 5, "hypothesis": "int8", "left_wrong": 3}, Consequence.GROSS),
        ({"wrong": 5, "hypothesis": "unseeded", "surprisal": 8.0}, Consequence.GROSS),
        ({"wrong": 5, "hypothesis": "unseeded", "surprisal": 4.5}, Consequence.NAMED),
    ],
)
def test_the_figures_decide_and_not_the_name(
    place: Place, found: dict[str, Any], follows: Consequence
) -> None:
    digest = one_group(place)
    place.party("v0").decide(digest, REJECTED, found)
    run = place.services.runs[place.run_id]
    kept = place.call(
        place.services.store.queue.hash, f"{run_prefix(run.run_id)}findings:{digest.hex()}"
    )
    assert list(kept.values()) == [follows.value.encode()]
    assert stands(place) == (follows is not Consequence.NAMED)


def test_who_believes_the_name_without_its_figures_takes_stake_by_a_word(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A verdict that says int4 and shows that int4 explains nothing; in a run of a single verifier."""
    with monkeypatch.context() as trusting:
        trusting.setattr(replays, "consequence", by_name)
        rejected_by(place, CLAIMED, worker="bob")
        assert not stands(place, "bob")


def by_name(verdict: Any, _: object) -> Consequence:
    return Consequence.NAMED if verdict.hypothesis else Consequence.UNPAID


def test_a_name_that_explains_nothing_is_worth_what_the_group_alone_is(place: Place) -> None:
    rejected_by(place, CLAIMED)
    assert stands(place)


def test_an_unknown_hypothesis_is_refused_and_the_vote_can_be_sent_again(place: Place) -> None:
    digest, verifier = one_group(place), place.party("v0")
    verifier.audits()
    unknown = verifier.verdict(digest, REJECTED, NAMED, hypothesis="witchcraft")
    refused = verifier.tell(unknown)
    assert (refused.status_code, code(refused)) == (400, "malformed")
    message = refused.json()["message"]
    assert "'witchcraft' is unknown: name one of unseeded," in message
    assert "\n" not in message
    assert place.state(digest) is GroupState.REPLAY
    assert verifier.judge(digest, REJECTED, NAMED).status_code == 200
    assert place.state(digest) is GroupState.REJECTED


@pytest.mark.parametrize(
    ("outcome", "found", "said"),
    [
        (REJECTED, {"claims": 0.0}, "is rejected and its figures keep every bound"),
        (ACCEPTED, {"wrong": 5}, "is accepted and its figures break a bound"),
    ],
)
def test_figures_that_contradict_their_outcome_are_refused(
    place: Place,
    outcome: Outcome,
    found: dict[str, Any],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    digest, verifier = one_group(place), place.party("v0")
    verifier.audits()
    refused = verifier.judge(digest, outcome, found)
    assert refused.status_code == 400 and said in refused.json()["message"]
    assert place.state(digest) is GroupState.REPLAY
    monkeypatch.setattr(replays, "follows", lambda *_: True)
    assert verifier.judge(digest, outcome, found).status_code == 200
    assert place.state(digest).value == outcome.value


@contextmanager
def established(
    ground: Ground, redis_url: str, folder: Path, *, num_rollouts: int = 1, **more: Any
) -> Iterator[Place]:
    """A run without probation, whose groups of four are all drawn."""
    with opened(
        *(ground, redis_url, folder / "b"),
        audit={
            "num_probation_groups": 0,
            "rate_millionths": 999_999,
            "num_rollouts": num_rollouts,
        },
        group_size=4,
        **more,
    ) as place:
        yield place


@pytest.mark.parametrize("num_rollouts", [1, 3, 4, 9])
def test_an_audit_names_as_many_rollouts_as_the_run_asks_for(
    ground: Ground, redis_url: str, tmp_path: Path, num_rollouts: int
) -> None:
    with established(ground, redis_url, tmp_path, num_rollouts=num_rollouts) as place:
        digest = one_group(place)
        [task] = place.party("v0").audits()
        assert len(set(task.rollouts)) == len(task.rollouts) == min(num_rollouts, 4)
        assert task.rollouts == tuple(sorted(task.rollouts))
        assert place.party("v0").decide(digest, ACCEPTED) == "accepted"


def test_a_newcomers_rollouts_are_all_replayed(place: Place) -> None:
    one_group(place)
    [task] = place.party("v0").audits()
    assert task.rollouts == tuple(range(place.spec.group_size))


def test_a_verdict_over_other_rollouts_fewer_tokens_or_all_is_refused(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    """Who chooses what it looks at chooses the rollout that was sampled honestly."""
    with established(ground, redis_url, tmp_path) as place:
        digest, verifier = one_group(place), place.party("v0")
        [task] = verifier.audits()
        honest = verifier.verdict(digest, ACCEPTED)
        fewer = honest.stats.model_copy(update={"num_tokens": 1, "num_matched": 1})
        other = tuple({0, 1, 2, 3} - set(task.rollouts))[:1]
        for changes in (
            {"rollouts": other},
            {"stats": fewer},
            {"rollouts": (0, 1, 2, 3)},
            {"rollouts": ()},
        ):
            refused = verifier.tell(verifier.verdict(digest, ACCEPTED, **changes))
            assert (refused.status_code, code(refused)) == (400, "malformed")
            assert f"of {list(task.rollouts)}: replay what the audit task names" in refused.text
        assert place.state(digest) is GroupState.REPLAY
        assert verifier.judge(digest, ACCEPTED).status_code == 200


def test_a_convenient_rollout_vouches_where_nobody_asks_which_it_was(
    ground: Ground, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replays, "_require_covering", lambda *_: None)
    with established(ground, redis_url, tmp_path) as place:
        digest, verifier = one_group(place), place.party("v0")
        [task] = verifier.audits()
        other = tuple({0, 1, 2, 3} - set(task.rollouts))[:1]
        assert verifier.judge(digest, ACCEPTED, rollouts=other).status_code == 200
        assert place.state(digest) is GroupState.ACCEPTED


@pytest.mark.parametrize("shields", [True, False])
def test_an_exclusion_for_withholding_does_not_shield_the_stake(
    three: Place, monkeypatch: pytest.MonkeyPatch, shields: bool
) -> None:
    """Who keeps a few groups back on purpose is excluded with its stake whole; its false work comes to light later."""
    if shields:
        monkeypatch.setattr(
            "orchestrator.store.votes.Suspicion", lambda _, *known: Suspicion(True, *known)
        )
    digest, alice = one_group(three), three.party("alice")
    tallies = three.services.store.tallies
    assert three.call(tallies.withhold, three.run_id, alice.address, WITHHELD, "{}")
    assert "dropped poor ones" in standing(three, alice).exclusion
    for name in ("v0", "v1"):
        three.party(name).decide(digest, REJECTED, NAMED)
    assert [report.worker for report in reports(three)] == [alice.address] * (not shields)
    if not shields:
        assert standing(three, alice).exclusion.startswith("a replay found false work")


@pytest.mark.parametrize("opens", [False, True])
def test_exclusion_shows_the_hidden_votes_on_the_workers_other_groups(
    three: Place, opens: bool
) -> None:
    """Else nobody ever sees them, and their places are kept for a week."""
    queue = three.services.store.queue
    if not opens:
        left_hidden = (
            "show_ballots(max_events, digest, '')\n    drop_places(digest, num_verifiers)\n"
        )
        queue._scripts["write"] = without(queue._scripts["write"], left_hidden)
    other = one_group(three)
    for name in ("v1", "v2"):
        three.party(name).audits()
        verdict = three.party(name).verdict(other, ACCEPTED)
        assert three.party(name).seal(verdict).is_success
    assert three.party("v2").tell(verdict).is_success
    rejected_by(three, NAMED, NAMED)
    prefix = run_prefix(three.run_id)
    assert three.status(other).rejection == "worker_excluded"
    assert events(three).count("verdict") == 2 + opens
    assert bool(three.call(queue.call, "EXISTS", f"{prefix}ballots:{other.hex()}")) != opens
    places = three.call(queue.call, "ZRANGE", prefix + "audits", 0, -1)
    assert any(other.hex() in place.decode() for place in places) != opens


def without(script: Script, part: str) -> Script:
    """Return a script with a part taken out."""
    assert part in script.source
    source = script.source.replace(part, "")
    return Script(source, sha1(source.encode(), usedforsecurity=False).hexdigest())
