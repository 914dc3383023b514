"""The pause: work that passes group by group and drifts over many stops leases, never pay or stake."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.constants import MICRO
from protocol.messages import SELF_CHECK_GROUPS, GroupState, SelfCheck
from protocol.run import AuditPolicy
from protocol.verdict import Outcome, ReplayStats
from tests.orchestrator.test_dropping import drawn_at, standing
from tests.orchestrator.test_ladder import reports
from tests.orchestrator.test_verdicts import code, events, one_group
from tests.stage.evidence import UNPAID_CLAIMS, measured
from tests.stage.ground import Ground
from tests.stage.place import Party, Place, opened

ACCEPTED = Outcome.ACCEPTED
FOUND = "nats of log-probability gap: 9 above the reference"


@pytest.fixture
def three(ground: Ground, redis_url: str, tmp_path: Path) -> Iterator[Place]:
    """Two of three verifiers decide, and replay a part of what an established worker does."""
    with opened(
        *(ground, redis_url, tmp_path / "b"),
        num_verifiers=3,
        threshold=2,
        audit=AuditPolicy(num_probation_groups=1, rate_millionths=1),
        groups_per_batch=200,
    ) as place:
        yield place


def alarmed(place: Place, *names: str) -> bytes:
    """Have enough accept alice's next group, and these of them say that it carried her test over its bound."""
    digest = one_group(place)
    for name in ("v0", "v1")[: place.services.runs[place.run_id].chain.threshold]:
        drifts = name in names
        detail = FOUND if drifts else ""
        place.party(name).decide(digest, ACCEPTED, drifts=drifts, detail=detail)
    return digest


def self_check(worker: Party, stats: ReplayStats, count: int = SELF_CHECK_GROUPS) -> str:
    """Send what a self-check measured, the same in every group; return the refusal's code."""
    body = SelfCheck.model_construct(policy_version=0, stats=(stats,) * count)
    response = worker.post(worker.place.path("self-check"), body.to_json())
    return "" if response.status_code == 204 else code(response)


def test_alarms_of_enough_verifiers_stop_leases_and_nothing_else(three: Place) -> None:
    alice = three.party("alice")
    unfinished = alice.leases(1)[0].lease
    digest = alarmed(three, "v0", "v1")
    assert three.state(digest) is GroupState.ACCEPTED
    refused = alice.lease()
    assert (refused.status_code, code(refused)) == (409, "self_check_due")
    message = refused.json()["message"]
    assert FOUND in message
    assert "`rollcall doctor --calibrate`" in message
    late = alice.deliver(unfinished).work_digest
    for name in ("v0", "v1"):
        three.party(name).decide(late, ACCEPTED)
    info = standing(three, alice)
    assert (info.paused, info.is_excluded, info.accepted_groups) == (FOUND, False, 2)
    assert not reports(three)
    assert events(three).count("paused") == 1
    assert three.party("bob").lease().status_code == 200


def test_one_alarm_of_three_does_not_pause(three: Place) -> None:
    alarmed(three, "v0")
    assert three.party("alice").lease().status_code == 200
    assert not standing(three, three.party("alice")).paused


def test_verifiers_may_alarm_over_different_groups(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    """Each folds the groups that it replayed: their tests do not cross at the same one."""
    with opened(
        *(ground, redis_url, tmp_path / "b"), num_verifiers=2, threshold=2, groups_per_batch=200
    ) as place:
        alarmed(place, "v0")
        assert place.party("alice").lease().status_code == 200
        alarmed(place, "v0")
        assert place.party("alice").lease().status_code == 200, "twice the same verifier"
        alarmed(place, "v1")
        assert code(place.party("alice").lease()) == "self_check_due"


def test_an_alarm_says_what_crossed_and_is_about_accepted_work(place: Place) -> None:
    digest, verifier = one_group(place), place.party("v0")
    verifier.audits()
    for outcome, detail, remark in (
        (ACCEPTED, "", "says in `detail` what crossed"),
        (Outcome.REJECTED, FOUND, "only a group that is accepted by itself"),
    ):
        refused = verifier.tell(verifier.verdict(digest, outcome, drifts=True, detail=detail))
        assert code(refused) == "malformed"
        assert remark in refused.text
    assert place.state(digest) is GroupState.REPLAY


def test_a_self_check_that_breaks_the_bounds_ends_no_pause(three: Place) -> None:
    alice, law = three.party("alice"), three.spec.thresholds
    alarmed(three, "v0", "v1")
    assert self_check(alice, measured(10, law, claims=UNPAID_CLAIMS)) == "refused"
    near = law.gap.drift // law.gap.group
    faint = measured(10, law).model_copy(
        update={"gap_nanonats": law.gap.reference * 10 + law.gap.group - 1}
    )
    assert near < SELF_CHECK_GROUPS
    assert self_check(alice, faint) == "refused", "each group passes, and all of them drift"
    few = self_check(alice, measured(10, law), SELF_CHECK_GROUPS - 1)
    assert few == "malformed", "too few groups to show what drifts"
    assert code(alice.lease()) == "self_check_due"
    assert standing(three, alice).paused


def test_after_a_self_check_all_groups_are_replayed_as_a_newcomers_are(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    audit = AuditPolicy(num_probation_groups=3, rate_millionths=1)
    with opened(ground, redis_url, tmp_path / "b", audit=audit, groups_per_batch=200) as place:
        assert rates(place, "bob", 4) == [MICRO, MICRO, MICRO, 1]
        assert rates(place, "alice", 2) == [MICRO, MICRO]
        alarmed(place, "v0")
        assert not self_check(place.party("alice"), measured(10, place.spec.thresholds))
        assert not standing(place, place.party("alice")).paused
        assert events(place).count("resumed") == 1
        assert rates(place, "alice", 4) == [MICRO, MICRO, MICRO, 1]


def rates(place: Place, worker: str, count: int) -> list[int]:
    """Sell groups, have those that were drawn accepted, and return the share each was drawn with."""
    found = []
    for _ in range(count):
        digest = one_group(place, worker)
        found.append(drawn_at(place, digest))
        if place.state(digest) is GroupState.REPLAY:
            place.party("v0").decide(digest, ACCEPTED)
    return found


def test_who_is_not_paused_resumes_nothing(three: Place) -> None:
    assert self_check(three.party("alice"), measured(10, three.spec.thresholds)) == ""
    assert "resumed" not in events(three)
