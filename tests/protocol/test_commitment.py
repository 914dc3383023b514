"""What everybody who reads another's work asks of it, and what a receipt is held to: each lie is refused."""

from typing import Any

import pytest

from protocol.commitment import SpokeFor, check_receipt, check_work, commit
from protocol.errors import MarketError
from protocol.messages import RunInfo, RunStatus
from protocol.rollout import (
    Lease,
    Receipt,
    Rollout,
    SignedLease,
    Submission,
    lease_id,
    read_submission,
    work_of,
)
from protocol.signing import address_of, sign
from tests.stage.terms import DOMAIN, RUN, make_spec, person

WORKER, HOT, STRANGER = (bytes([n]) * 32 for n in (11, 12, 13))
SPEC = make_spec(group_size=4, max_prompt_tokens=16, max_tokens=16)
INFO = RunInfo(
    run_id=RUN,
    spec=SPEC,
    chain_id=DOMAIN.chain_id,
    ledger=DOMAIN.ledger,
    token=address_of(STRANGER),
    status=RunStatus.OPEN,
    newest_version=0,
    published_at=0,
    epoch=0,
    budget_left_units=1,
    permit_until=0,
    num_voters=1,
    threshold=1,
    min_stake="0",
)
HONEST: dict[str, Any] = {
    "lease_id": lease_id(RUN, address_of(WORKER), 3),
    "run_id": RUN,
    "worker": address_of(WORKER),
    "nonce": 3,
    "epoch": 0,
    "environment": SPEC.environment,
    "index": 5,
    "prompt": (7, 8),
    "policy_version": 0,
    "policy_digest": SPEC.model_digest,
    "temperature_millionths": SPEC.temperature_millionths,
    "max_tokens": SPEC.max_tokens,
    "seeds": (1, 2, 3, 4),
    "rate": SPEC.rate,
    "deadline": 1_800_000_060,
}
GROUP = tuple(Rollout.of([token, 2], [-0.5, -1.0]) for token in range(4))
NOW = 1_800_000_000


def lease(*, by: bytes = bytes(person("orchestrator").key), **changes: Any) -> SignedLease:
    made = Lease.model_validate(HONEST | changes)
    return SignedLease(lease=made, signature=sign(by, DOMAIN.digest(made)))


def submission(signed: SignedLease, *, by: bytes = WORKER, **changes: Any) -> Submission:
    """Sign a group under a lease; `changes` are made before."""
    made = commit(signed.lease, GROUP, engine="e", spec=SPEC, domain=DOMAIN, key=by, now=NOW)
    found = read_submission(made.body, SPEC.most_submission_bytes)
    changed = found.model_copy(update=changes)
    return changed.model_copy(update={"signature": sign(by, digest_of(signed, changed))})


def digest_of(signed: SignedLease, found: Submission) -> bytes:
    gflops = SPEC.gflops(found.num_tokens())
    return DOMAIN.digest(work_of(signed.lease, found, gflops=gflops))


def hot_until(end: int) -> SpokeFor:
    """The registry where HOT is the worker's hot key and ends then."""

    def spoke_for(signer: str, worker: str, dated: int) -> bool:
        is_hot = (signer, worker) == (address_of(HOT), address_of(WORKER)) and dated < end
        return signer == worker or is_hot

    return spoke_for


NO_HOT_KEY = hot_until(0)


def check(
    signed: SignedLease,
    found: Submission,
    *,
    digest: bytes | None = None,
    spoke_for: SpokeFor | None = NO_HOT_KEY,
) -> None:
    """`digest` is what was asked for: by default the one that the worker signed."""
    asked = digest or digest_of(signed, found)
    check_work(asked, signed, found, info=INFO, domain=DOMAIN, spoke_for=spoke_for)


def test_honest_work_is_what_it_is_said_to_be() -> None:
    check(lease(), submission(lease()))


def test_a_hot_key_speaks_until_it_ends_and_is_anyones_where_no_chain_is() -> None:
    found = submission(lease(), by=HOT)
    check(lease(), found, spoke_for=hot_until(NOW + 1))
    check(lease(), found, spoke_for=None)
    with pytest.raises(MarketError, match="who did not speak for"):
        check(lease(), found, spoke_for=hot_until(NOW))


@pytest.mark.parametrize(
    ("signed", "said"),
    [
        (lease(by=STRANGER), "the lease is signed by"),
        (lease(run_id=2), "the lease's run is 2"),
        (lease(lease_id=bytes(32)), "the lease's lease id"),
        (lease(rate=SPEC.rate + 1), "the lease's rate"),
        (lease(temperature_millionths=1), "the lease's temperature"),
        (lease(max_tokens=1), "the lease's max_tokens"),
        (lease(seeds=(1, 2)), "the lease's group size"),
        (lease(environment="gsm8k"), "the lease's environment"),
    ],
)
def test_work_under_a_lease_that_the_run_never_gave_is_refused(
    signed: SignedLease, said: str
) -> None:
    """The worker signed all of it: only the lease is false."""
    with pytest.raises(MarketError, match=said):
        check(signed, submission(signed))


@pytest.mark.parametrize(
    "changes",
    [
        {"engine": "another"},
        {"prompt": (7, 9)},
        {"rollouts": GROUP[::-1]},
        {"rollouts": GROUP[:3]},
        {"submitted_at": NOW + 1},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_another_group_than_was_asked_for_is_refused(changes: dict[str, Any]) -> None:
    """Signed by the worker too: only the digest that names the work tells them apart."""
    signed = lease()
    shown = submission(signed, **changes)
    check(signed, shown)
    asked = digest_of(signed, submission(signed))
    with pytest.raises(MarketError, match=f"what is shown as work 0x{asked.hex()} is 0x"):
        check(signed, shown, digest=asked)


def test_a_body_that_names_another_lease_is_refused() -> None:
    """The digest does not see it: it takes the lease's own id."""
    found = submission(lease()).model_copy(update={"lease_id": bytes(32)})
    assert digest_of(lease(), found) == digest_of(lease(), submission(lease()))
    with pytest.raises(MarketError, match="with lease id 0x0000"):
        check(lease(), found)


def test_work_that_its_worker_did_not_sign_is_refused() -> None:
    for found in (
        submission(lease(), by=STRANGER),
        submission(lease()).model_copy(update={"signature": bytes(65)}),
    ):
        with pytest.raises(MarketError):
            check(lease(), found)


def receipt(*, by: bytes = bytes(person("orchestrator").key), **changes: Any) -> Receipt:
    fields = {
        "run_id": RUN,
        "worker": address_of(WORKER),
        "nonce": 3,
        "work_digest": bytes([7]) * 32,
        "received_at": NOW,
        "rejection": "",
        "detail": "",
        "signature": bytes(65),
    }
    unsigned = Receipt.model_validate(fields | changes)
    return unsigned.model_copy(update={"signature": sign(by, DOMAIN.digest(unsigned))})


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        (receipt(by=STRANGER), "the receipt is signed by"),
        (receipt(work_digest=bytes(32)), "for other work"),
        (receipt(run_id=2), "for other work"),
        (receipt(nonce=4), "for other work"),
        (receipt(worker=address_of(STRANGER)), "for other work"),
    ],
)
def test_a_receipt_of_other_work_is_refused(shown: Receipt, said: str) -> None:
    args = lease().lease, bytes([7]) * 32
    check_receipt(receipt(), *args, spec=SPEC, domain=DOMAIN)
    with pytest.raises(MarketError, match=said):
        check_receipt(shown, *args, spec=SPEC, domain=DOMAIN)
