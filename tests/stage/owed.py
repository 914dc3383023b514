"""Work that an orchestrator took and that no epoch has: receipts, and verdicts on it."""

from audit.omissions import KeptReceipt
from ledger.state import Condemnation
from protocol.canonical import keccak256
from protocol.rollout import Lease, Receipt, SignedLease, Work, lease_id
from protocol.signing import Domain, Signable, sign
from protocol.verdict import NOTHING_MEASURED, Outcome, Rejection, Verdict
from tests.stage.world import World

Promise = tuple[Work, Receipt]


def signature_of(world: World, name: str, message: Signable) -> bytes:
    """Return a person's signature over a message of this market."""
    domain = Domain(world.deployment.chain_id, world.deployment.ledger)
    return sign(bytes(world.people[name].key), domain.digest(message))


def taken(
    world: World, name: str, nonce: int, tokens: int, *, at: int | None = None, by: str = "operator"
) -> Promise:
    """Return work of the run and the receipt that `by` signs for it, both dated now or `at`."""
    domain = Domain(world.deployment.chain_id, world.deployment.ledger)
    dated = world.by(name).block_time() if at is None else at
    num_parameters = world.by(name).run(world.run_id).num_parameters
    work = Work(
        run_id=world.run_id,
        worker=world.address(name),
        nonce=nonce,
        payload_digest=keccak256(f"{name} {nonce} {tokens}".encode()),
        policy_version=1,
        submitted_at=dated,
        tokens=tokens,
        gflops=-(-2 * num_parameters * tokens // 10**9),
    )
    receipt = Receipt(
        run_id=work.run_id,
        worker=work.worker,
        nonce=nonce,
        work_digest=domain.digest(work),
        received_at=dated,
        rejection="",
        detail="",
        signature=bytes(65),
    )
    signature = signature_of(world, by, receipt)
    return work, receipt.model_copy(update={"signature": signature})


def kept_of(work: Work, receipt: Receipt) -> KeptReceipt:
    """Return a promise as its worker keeps it, with a lease."""
    lease = Lease(
        lease_id=lease_id(work.run_id, work.worker, work.nonce),
        run_id=work.run_id,
        worker=work.worker,
        nonce=work.nonce,
        epoch=0,
        environment="arithmetic",
        index=0,
        prompt=(1, 2),
        policy_version=work.policy_version,
        policy_digest=bytes(32),
        temperature_millionths=1_000_000,
        max_tokens=8,
        seeds=(1, 2),
        rate=1,
        deadline=work.submitted_at + 60,
    )
    signed = SignedLease(lease=lease, signature=bytes(65))
    return KeptReceipt(receipt=receipt, work=work, lease=signed)


def verdict_on(world: World, work: Work, name: str) -> Verdict:
    """Return a verifier's signed verdict that work is false."""
    domain = Domain(world.deployment.chain_id, world.deployment.ledger)
    verdict = Verdict(
        run_id=work.run_id,
        work_digest=domain.digest(work),
        verifier=world.address(name),
        outcome=Outcome.REJECTED,
        rejection=Rejection.REPLAY_MISMATCH.value,
        detail="tokens that are not the seeded winner",
        rollouts=(0,),
        stats=NOTHING_MEASURED,
        mismatches=(),
        decided_at=work.submitted_at,
        signature=bytes(65),
    )
    return verdict.model_copy(update={"signature": signature_of(world, name, verdict)})


def condemned(world: World, work: Work, *names: str) -> list[Condemnation]:
    """Return these verifiers' verdicts as the ledger reads them (v0 has the first place)."""
    return [Condemnation.of(verdict_on(world, work, name), int(name[1:])) for name in names]


def end(world: World) -> None:
    """Stop the run and close it as soon as that can be."""
    operator = world.by("operator")
    operator.stop_run(world.run_id)
    close(world)


def close(world: World) -> None:
    """Close a stopped run as soon as that can be."""
    operator = world.by("operator")
    world.clock.now = operator.run(world.run_id).settle_until + 1
    operator.close_run(world.run_id)


def decide(world: World) -> None:
    """Let the time pass in which receipts of a closed run are shown and answered."""
    dates = world.by("operator").owed_dates(world.run_id)
    assert dates is not None
    world.clock.now = dates.paid_from
