"""What a paid group is held to, whoever looks: a verifier before it signs, an auditor afterwards."""

from typing import Any

import pytest

from audit.epoch import EpochRefused, check_group
from protocol.canonical import keccak256
from protocol.messages import Contribution, GroupState, SubmissionStatus
from protocol.rollout import SignedLease, Submission, lease_id, rollout_seed, task_index, work_of
from protocol.signing import address_of
from tests.protocol.test_commitment import (
    INFO,
    NO_HOT_KEY,
    SPEC,
    STRANGER,
    WORKER,
    lease,
    receipt,
    submission,
)
from tests.stage.terms import DOMAIN, RUN

SECRET = keccak256(b"an epoch's secret")
LEASE_ID = lease_id(RUN, address_of(WORKER), 3)
DRAWN: dict[str, Any] = {
    "seeds": tuple(rollout_seed(RUN, LEASE_ID, SECRET, i) for i in range(SPEC.group_size)),
    "index": task_index(RUN, LEASE_ID, SECRET, num_tasks=SPEC.num_tasks),
}


def paid(signed: SignedLease, found: Submission, **changes: Any) -> Contribution:
    work = work_of(signed.lease, found, gflops=SPEC.gflops(found.num_tokens()))
    fields = work.model_dump(exclude={"run_id"}) | {
        "units": work.tokens,
        "signature": found.signature,
    }
    return Contribution.model_validate(fields | changes)


def check(
    item: Contribution,
    signed: SignedLease,
    found: Submission,
    *,
    state: GroupState = GroupState.ACCEPTED,
    secret: bytes | None = SECRET,
) -> None:
    status = SubmissionStatus(
        work_digest=bytes(32),
        state=state,
        rejection="",
        detail="",
        lease=signed,
        body=bytes(32),
        receipt=receipt(),
        rewards=(),
        trained_in=-1,
        draw_epoch=0,
        draw_rate_millionths=0,
        verdicts=(),
    )
    check_group(
        *(item, status, found),
        secret=secret,
        info=INFO,
        domain=DOMAIN,
        spoke_for=NO_HOT_KEY,
    )


def test_a_drawn_group_that_its_worker_signed_passes() -> None:
    signed = lease(**DRAWN)
    check(paid(signed, submission(signed)), signed, submission(signed))


@pytest.mark.parametrize(
    "changes",
    [
        {"worker": address_of(STRANGER)},
        {"nonce": 4},
        {"payload_digest": bytes(32)},
        {"policy_version": 1},
        {"submitted_at": 1},
        {"tokens": 9},
        {"gflops": 9},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_contribution_that_says_other_than_was_signed_is_refused(changes: dict[str, Any]) -> None:
    signed = lease(**DRAWN)
    found = submission(signed)
    with pytest.raises(EpochRefused, match="what is shown as work"):
        check(paid(signed, found, **changes), signed, found)


def test_a_lease_on_other_terms_or_a_body_that_a_stranger_signed_is_refused() -> None:
    cheap = lease(**DRAWN, max_tokens=1)
    with pytest.raises(EpochRefused, match=r"nonce 3 of 0x\w+: the lease's max_tokens"):
        check(paid(cheap, submission(cheap)), cheap, submission(cheap))
    signed = lease(**DRAWN)
    with pytest.raises(EpochRefused, match="who did not speak for"):
        check(paid(signed, submission(signed)), signed, submission(signed, by=STRANGER))


@pytest.mark.parametrize("chosen", [{"seeds": (1, 2, 3, 4)}, {"index": 5}], ids=["seeds", "task"])
def test_what_was_chosen_is_refused_once_the_secret_is_known(chosen: dict[str, Any]) -> None:
    signed = lease(**DRAWN | chosen)
    found = submission(signed)
    check(paid(signed, found), signed, found, secret=None)
    with pytest.raises(EpochRefused, match="were chosen, not drawn"):
        check(paid(signed, found), signed, found)


def test_what_is_not_accepted_is_not_paid() -> None:
    signed = lease(**DRAWN)
    for state in (GroupState.REPLAY, GroupState.REJECTED):
        with pytest.raises(EpochRefused, match=f"is paid but {state}"):
            check(paid(signed, submission(signed)), signed, submission(signed), state=state)
