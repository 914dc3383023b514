"""Verdicts: who may give them, how many it takes, and what becomes of undecided ones."""

from pathlib import Path

import pytest

from orchestrator.store.keys import run_prefix
from protocol.checks.draw import votes_that_condemn
from protocol.messages import GroupState, VerifierInfos, WorkerInfos
from protocol.verdict import Outcome
from tests.stage.evidence import NAMED
from tests.stage.ground import Ground
from tests.stage.place import Place, opened

ACCEPTED, REJECTED, UNDECIDED = Outcome.ACCEPTED, Outcome.REJECTED, Outcome.UNDECIDED


def code(response: object) -> str:
    return str(response.json()["code"])  # type: ignore[attr-defined]


def one_group(place: Place, worker: str = "alice") -> bytes:
    party = place.party(worker)
    return party.deliver(party.leases()[0].lease).work_digest


def test_only_the_runs_staked_verifiers_judge(place: Place) -> None:
    digest = one_group(place)
    for name in ("alice", "stranger", "v1"):
        assert code(place.party(name).judge(digest, ACCEPTED)) == "forbidden"
    assert code(place.party("v0").judge(digest, ACCEPTED)) == "audit_foreign"
    forged = place.party("v0").verdict(digest, ACCEPTED).model_copy(update={"detail": "x"})
    path = place.path(f"audits/0x{digest.hex()}/verdict")
    assert code(place.party("v0").post(path, forged.to_json())) == "bad_signature"
    assert place.state(digest) is GroupState.REPLAY


def test_a_second_different_verdict_by_the_same_key_conflicts(place: Place) -> None:
    digest, verifier = one_group(place), place.party("v0")
    assert verifier.decide(digest, ACCEPTED) == "accepted"
    assert verifier.decide(digest, ACCEPTED) == "accepted"
    response = verifier.judge(digest, REJECTED)
    assert (response.status_code, code(response)) == (409, "conflicting_verdict")
    assert place.state(digest) is GroupState.ACCEPTED
    assert len(place.status(digest).verdicts) == 1


def test_a_verdict_on_unknown_work_or_for_another_run_is_refused(place: Place) -> None:
    verifier = place.party("v0")
    assert code(verifier.judge(b"\x05" * 32, ACCEPTED)) == "not_found"
    work = one_group(place)
    for outcome, wrong, refusal in (
        (ACCEPTED, {"run_id": 10**6}, "malformed"),
        (REJECTED, {"rejection": ""}, "malformed"),
        (ACCEPTED, {"decided_at": 1}, "clock_skew"),
    ):
        told = verifier.tell(verifier.verdict(work, outcome, None, **wrong))
        assert code(told) == refusal
    assert code(verifier.seal(verifier.verdict(work, ACCEPTED, run_id=10**6))) == "malformed"


def test_an_undecided_replay_comes_back_and_condemns_nobody(place: Place) -> None:
    digest, verifier = one_group(place), place.party("v0")
    assert len(verifier.audits()) == 1
    assert verifier.decide(digest, UNDECIDED) == "replay"
    assert verifier.audits() == ()
    place.wait(6)
    assert [task.work_digest for task in verifier.audits()] == [digest]
    assert verifier.decide(digest, ACCEPTED) == "accepted"


def test_a_lapsed_replay_goes_to_somebody_else_first(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    with opened(ground, redis_url, tmp_path / "b", num_verifiers=2, threshold=2) as place:
        digest = one_group(place)
        first, second = place.party("v0"), place.party("v1")
        # Two votes are needed: each verifier gets one of the two places, once.
        assert len(first.audits()) == 1
        assert first.audits() == ()
        assert len(second.audits()) == 1
        place.wait(31)
        assert first.decide(digest, ACCEPTED) == "replay"
        assert first.audits() == ()
        assert len(second.audits()) == 1


def test_a_verifier_that_lets_a_replay_lapse_waits_until_others_had_it(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    with opened(ground, redis_url, tmp_path / "b", num_verifiers=3, threshold=2) as place:
        one_group(place)
        lazy = place.party("v0")
        assert len(lazy.audits()) == 1
        place.wait(31)
        assert lazy.audits() == ()
        assert len(place.party("v1").audits()) == 1
        assert len(place.party("v2").audits()) == 1
        place.wait(31)
        assert len(lazy.audits()) == 1, "all have been asked: the next round is open to everyone"


@pytest.mark.parametrize(
    ("votes", "states"),
    [
        ([ACCEPTED, ACCEPTED], ["replay", "accepted"]),
        ([REJECTED, REJECTED], ["replay", "rejected"]),
        ([REJECTED, ACCEPTED, ACCEPTED], ["replay", "replay", "accepted"]),
        ([ACCEPTED, REJECTED, REJECTED], ["replay", "replay", "rejected"]),
        ([REJECTED, UNDECIDED, REJECTED], ["replay", "replay", "rejected"]),
    ],
)
def test_two_of_three_must_agree(
    ground: Ground,
    redis_url: str,
    tmp_path: Path,
    votes: list[Outcome],
    states: list[str],
) -> None:
    with opened(ground, redis_url, tmp_path / "b", num_verifiers=3, threshold=2) as place:
        digest = one_group(place)
        found = []
        for n, vote in enumerate(votes):
            found.append(
                place.party(f"v{n}").decide(digest, vote, NAMED if vote is REJECTED else {})
            )
            place.wait(6)  # an undecided replay is offered again
        assert found == states
        infos = WorkerInfos.from_json(
            place.get(f"/v1/workers/{place.ground.address('alice')}").content
        )
        mine = next(info for info in infos.runs if info.run_id == place.run_id)
        assert mine.is_excluded == (states[-1] == "rejected")


@pytest.mark.parametrize(
    ("threshold", "num_verifiers", "votes"), [(1, 1, 1), (2, 2, 2), (2, 3, 2), (3, 5, 3), (1, 3, 2)]
)
def test_a_stake_takes_two_replays_wherever_there_are_two_verifiers(
    threshold: int, num_verifiers: int, votes: int
) -> None:
    assert votes_that_condemn(threshold, num_verifiers) == votes


def test_whom_a_quorum_overrules_is_recorded_and_announced(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    with opened(ground, redis_url, tmp_path / "b", num_verifiers=3, threshold=2) as place:
        digest = one_group(place)
        for name, vote in (("v0", ACCEPTED), ("v1", REJECTED), ("v2", REJECTED)):
            place.party(name).decide(digest, vote)
        infos = VerifierInfos.from_json(place.get(place.path("verifiers")).content).verifiers
        odd = {info.verifier: info.num_odd for info in infos}
        assert odd == {ground.address(name): int(name == "v0") for name in ("v0", "v1", "v2")}
        assert all(info.has_vote for info in infos)
        kinds = events(place)
        assert kinds.count("odd_one_out") == 1
        assert kinds.index("verdict") > kinds.index("submission")
        metrics = place.get("/metrics").text
        assert 'rollcall_verifier_findings_total{kind="odd_one_out"' in metrics


def test_no_vote_is_seen_before_a_group_is_decided(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    """Who could see the first vote would copy it: two verdicts, one replay."""
    with opened(ground, redis_url, tmp_path / "b", num_verifiers=2, threshold=2) as place:
        digest = one_group(place)
        place.party("v0").decide(digest, REJECTED)
        assert place.status(digest).verdicts == ()
        assert "verdict" not in events(place)
        place.party("v1").decide(digest, REJECTED)
        assert len(place.status(digest).verdicts) == 2
        assert events(place).count("verdict") == 2


def events(place: Place) -> list[str]:
    """Return the kinds of a run's events so far."""
    prefix = run_prefix(place.run_id)
    entries = place.call(place.services.store.queue.call, "XRANGE", prefix + "events", "-", "+")
    return [fields[b"kind"].decode() for _, fields in entries]


def test_one_rejection_of_two_needed_does_not_slash_unless_one_is_enough(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    for threshold, reports in ((2, 0), (1, 1)):
        with opened(
            ground, redis_url, tmp_path / "b", num_verifiers=threshold, threshold=threshold
        ) as place:
            place.party("v0").decide(one_group(place), REJECTED, NAMED)
            tasks = place.get(place.path("fraud-reports")).json()["tasks"]
            assert len(tasks) == reports
