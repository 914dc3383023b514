"""Two of three verifiers collude with a worker: they pass all of its false work, and may judge all else well.

Two votes decide, so without canaries the false work is paid. Canaries do not stop what was passed before
one was failed; they end it: neither colluder can tell an accomplice's false group from a canary's.
"""

from pathlib import Path

from protocol.messages import GroupState
from protocol.verdict import Outcome
from tests.orchestrator.test_canaries import ALICE, BOB, code, deliver, examined, info
from tests.stage.ground import Ground
from tests.stage.place import Place

COLLUDERS, HONEST = ("v0", "v1"), "v2"


def judge_false_work(place: Place, digest: bytes) -> GroupState:
    """Have the colluders pass a false group and the honest verifier condemn it, where it is asked to."""
    for name in COLLUDERS:
        place.party(name).audits()
        place.party(name).judge(digest, Outcome.ACCEPTED)
    place.party(HONEST).audits()
    place.party(HONEST).judge(digest, Outcome.REJECTED)
    return place.state(digest)


def test_two_colluders_have_false_work_paid_where_nobody_tests_them(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    with examined(ground, redis_url, tmp_path, false=()) as place:
        digest = deliver(place, ALICE).work_digest
        assert judge_false_work(place, digest) is GroupState.ACCEPTED
        place.tick(seconds=11)
        for name in COLLUDERS:
            assert place.sign_epoch(0, name).status_code == 204
        place.tick()
        place.tick(seconds=3)
        assert ground.by("v0").run(place.run_id).finalised > 0


def test_both_lose_their_votes_by_the_first_false_canary(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    with examined(ground, redis_url, tmp_path, false=(BOB,)) as place:
        canary = deliver(place, BOB).work_digest
        judge_false_work(place, canary)
        assert [info(place, n).has_vote for n in (*COLLUDERS, HONEST)] == [False, False, True]
        # From here on nothing of the accomplice's is decided without the honest verifier, and none is leased.
        for name in COLLUDERS:
            assert code(place.party(name).post(place.path("audits"), b'{"count":1}')) == "vote_lost"
        place.tick()
        assert code(place.party(ALICE).lease()) == "run_not_open"


def test_work_they_passed_alone_before_is_not_decided_by_their_votes(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    with examined(ground, redis_url, tmp_path, false=(BOB,)) as place:
        false_work = deliver(place, ALICE).work_digest
        canary = deliver(place, BOB).work_digest
        for name in COLLUDERS:
            place.party(name).audits()
        place.party("v0").judge(false_work, Outcome.ACCEPTED)
        assert place.state(false_work) is GroupState.REPLAY
        place.party("v0").judge(canary, Outcome.ACCEPTED)
        place.party(HONEST).decide(canary, Outcome.REJECTED)
        place.party("v1").judge(canary, Outcome.REJECTED)
        assert not info(place, "v0").has_vote
        place.party("v1").judge(false_work, Outcome.ACCEPTED)
        assert place.state(false_work) is GroupState.REPLAY, "one vote of two counts"
        place.wait(61)
        place.party(HONEST).decide(false_work, Outcome.REJECTED)
        assert place.state(false_work) is GroupState.REPLAY, "unpaid: they disagree for good"


def test_the_honest_verifier_cannot_be_framed_by_the_majority(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    """Both call honest canaries false: the answer was committed before, whatever the majority says."""
    with examined(ground, redis_url, tmp_path, false=(), honest=(BOB,)) as place:
        digest = deliver(place, BOB).work_digest
        for name in COLLUDERS:
            place.party(name).decide(digest, Outcome.REJECTED)
        place.party(HONEST).decide(digest, Outcome.ACCEPTED)
        assert [info(place, n).has_vote for n in (*COLLUDERS, HONEST)] == [False, False, True]
