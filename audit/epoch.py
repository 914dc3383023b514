"""Check an epoch from its published file, as a verifier must before it signs.

Pure. How leaves and header follow from the file is `protocol/epoch.py`'s, which the ledger's own hashes and the
shared vectors hold. `rollout_worker/verify/epochs.py` fetches what needs the market (where a group stands, its lease and its body), and `check_group`
judges it. Left out: whether accepted work is missing, which workers prove with their receipts.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise

from protocol.canonical import keccak256
from protocol.commitment import SpokeFor, check_work
from protocol.constants import NUM_TOKENS_PER_UNIT
from protocol.errors import MarketError
from protocol.messages import Contribution, EpochFile, GroupState, RunInfo, SubmissionStatus
from protocol.rollout import Submission, Work, rollout_seed, task_index
from protocol.run import RunSpec
from protocol.signing import Domain, recover

IsOwed = Callable[[int], bool]
"""Whether the run owes work of this date, by the ledger."""


class EpochRefused(Exception):
    """Something in a proposed epoch does not follow from signed work; the message says what."""


def work_digest(item: Contribution, *, run_id: int, domain: Domain) -> bytes:
    """Return the digest the worker signed, which names the submission."""
    return domain.digest(
        Work(
            run_id=run_id,
            worker=item.worker,
            nonce=item.nonce,
            payload_digest=item.payload_digest,
            policy_version=item.policy_version,
            submitted_at=item.submitted_at,
            tokens=item.tokens,
            gflops=item.gflops,
        )
    )


def check_file(
    file: EpochFile,
    before: Mapping[str, tuple[int, int]],
    *,
    secret_hash: bytes,
    now: int,
    is_owed: IsOwed,
    spec: RunSpec,
    domain: Domain,
    spoke_for: SpokeFor,
) -> dict[bytes, Contribution]:
    """Check everything that file and chain can show; return the contributions by work digest.

    `before` is every account of the epoch before as (earned, last nonce). `now` is the newest block's
    time: if the run were halted before work dated later, that work would be provable fraud, and its
    signers slashed. Raises `EpochRefused`.
    """
    if keccak256(file.secret) != secret_hash:
        raise EpochRefused("the secret is not the one committed on chain when the epoch opened")
    keys = [(int(item.worker, 16), item.nonce) for item in file.contributions]
    if any(left >= right for left, right in pairwise(keys)):
        raise EpochRefused("contributions do not ascend strictly by (worker, nonce)")
    found: dict[bytes, Contribution] = {}
    accounts = dict(before)
    for item in file.contributions:
        digest = work_digest(item, run_id=file.run_id, domain=domain)
        _check_contribution(item, digest, spec=spec, spoke_for=spoke_for)
        if item.submitted_at > now or not is_owed(item.submitted_at):
            raise EpochRefused(
                f"nonce {item.nonce} of {item.worker} is dated {item.submitted_at}, when the run "
                f"owed nothing or which is after the newest block, {now}"
            )
        earned, last_nonce = accounts.get(item.worker, (0, 0))
        if item.nonce <= last_nonce:
            raise EpochRefused(
                f"nonce {item.nonce} of {item.worker} is not after {last_nonce}, which was settled"
            )
        accounts[item.worker] = (earned + item.units, item.nonce)
        found[digest] = item
    workers = [int(account.worker, 16) for account in file.accounts]
    if any(left >= right for left, right in pairwise(workers)):
        raise EpochRefused("accounts do not ascend strictly by worker")
    if {a.worker: (a.earned, a.last_nonce) for a in file.accounts} != accounts:
        raise EpochRefused("the accounts are not those before plus the contributions")
    return found


def _check_contribution(
    item: Contribution, digest: bytes, *, spec: RunSpec, spoke_for: SpokeFor
) -> None:
    signer = recover(digest, item.signature)
    if not spoke_for(signer, item.worker, item.submitted_at):
        raise EpochRefused(f"nonce {item.nonce} of {item.worker} is signed by {signer}")
    if item.units != item.tokens // NUM_TOKENS_PER_UNIT:
        raise EpochRefused(f"{item.units} units are paid for {item.tokens} tokens")
    if item.gflops != spec.gflops(item.tokens):
        raise EpochRefused(f"{item.gflops} gflops are claimed for {item.tokens} tokens")


def check_group(
    item: Contribution,
    status: SubmissionStatus,
    submission: Submission,
    *,
    secret: bytes | None,
    info: RunInfo,
    domain: Domain,
    spoke_for: SpokeFor,
) -> None:
    """Check one contribution against what the market shows of it; raise `EpochRefused`.

    `secret` is that of the lease's epoch, None until it is revealed: seeds cannot be checked before,
    and whoever reads the chain later checks them.
    """
    name, signed = f"nonce {item.nonce} of {item.worker}", status.lease
    if status.state is not GroupState.ACCEPTED:
        raise EpochRefused(f"{name} is paid but {status.state}")
    digest = work_digest(item, run_id=info.run_id, domain=domain)
    try:
        check_work(digest, signed, submission, info=info, domain=domain, spoke_for=spoke_for)
    except MarketError as error:
        raise EpochRefused(f"{name}: {error}") from error
    if secret is not None:
        _check_draws(item, status, secret, info.spec)


def _check_draws(
    item: Contribution, status: SubmissionStatus, secret: bytes, spec: RunSpec
) -> None:
    lease = status.lease.lease
    seeds = tuple(
        rollout_seed(lease.run_id, lease.lease_id, secret, i) for i in range(spec.group_size)
    )
    index = task_index(lease.run_id, lease.lease_id, secret, num_tasks=spec.num_tasks)
    if lease.seeds != seeds or lease.index != index:
        raise EpochRefused(
            f"seeds or task of nonce {item.nonce} of {item.worker} were chosen, not drawn from the "
            "committed secret"
        )
