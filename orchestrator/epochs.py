"""Drive epochs from open to final: carry settlement's rules to the queue, the verifiers and the chain.

Every step asks the chain where it stands and may be repeated, so a crash between any two of them
costs a round. One epoch is settled at a time, lowest first, because each names the root before it.

    open → (time is up and there is work) next one opened → frozen: file and header written
         → signed by m verifiers → posted → challenge window → final
                      ↑                       │ voided, retracted or lost: `reconciling.py`
                      └─ frozen anew ─────────┘

After a voided epoch the lowest takes all that can be paid, the later ones what is left: so work that
an epoch skipped is in the next one whatever the reason was, and everybody waits one window only.
"""

import asyncio
from collections.abc import Iterable

import structlog

from ledger.state import LedgerStatus
from orchestrator import reconciling, restoring
from orchestrator.reconciling import mark_posted
from orchestrator.rules import settle
from orchestrator.rules.settle import OpenEpoch
from orchestrator.run import Run
from orchestrator.services import Services
from orchestrator.store.records import Epoch
from orchestrator.unsettled import has_undecided, payable
from protocol.canonical import keccak256
from protocol.epoch import EpochHeader, header_of, uri_of
from protocol.errors import NotFound, Refused
from protocol.messages import Account, Contribution, EpochFile, EpochSignature, EpochStage
from protocol.signing import recover

MAX_PENDING = 8
"""Opened and not posted, the ledger's own bound."""


async def tick(services: Services, run: Run) -> None:
    """Take the next steps that are due for a run; finality first, for nothing may hold it up."""
    await services.look(run)
    are_ours = await reconciling.reconcile(services, run)
    # The work of what others post after this is not marked yet: it waits a round.
    reconciled = run.chain.num_posted
    await _finish(services, run)
    await restoring.restore(services, run)
    if run.chain.status is LedgerStatus.CLOSED:
        return
    if run.is_open:
        await _open_next(services, run)
    if are_ours and run.chain.num_posted == reconciled < run.chain.num_opened:
        await _settle(services, run, run.chain.num_posted)


async def add_signature(services: Services, run: Run, epoch: int, signed: EpochSignature) -> None:
    """Keep a verifier's signature of an epoch's header."""
    record = await services.store.epochs.epoch(run.run_id, epoch)
    if record is None:
        raise Refused(f"epoch {epoch} has no header yet: wait until its stage is signing")
    signer = recover(record.header_digest, signed.signature)
    identity = await services.chain.identity_of(signer)
    if identity not in run.chain.verifiers:
        raise Refused(f"{identity} is not a verifier of run {run.run_id}, or signed another header")
    await services.store.epochs.sign(record, identity, signed.signature)


async def _open_next(services: Services, run: Run) -> None:
    """Open an epoch at once where work can be drawn from none; else when the newest one's time is up
    and there is work to settle.
    """
    opened = run.chain.num_opened
    if opened - run.chain.num_posted >= MAX_PENDING:
        return
    if opened > run.num_revealed:
        if opened - run.chain.num_posted >= MAX_PENDING - 1:
            return
        age = run.chain_time - await _opened_at(services, run, opened - 1)
        is_due = age >= run.spec.epoch_seconds and await payable(services, run, opened - 1)
        if not is_due and not run.is_behind:
            return
    secret_hash = keccak256(services.secret(run.run_id, opened))
    epoch = await services.chain.open_epoch(run.run_id, secret_hash)
    run.is_behind = False
    run.chain = await services.chain.run(run.run_id)
    structlog.get_logger().info("epoch opened", run_id=run.run_id, epoch=epoch)


async def _opened_at(services: Services, run: Run, epoch: int) -> int:
    if epoch not in run.opened_at:
        run.opened_at[epoch] = (await services.chain.epoch(run.run_id, epoch)).opened_at
    return run.opened_at[epoch]


async def _settle(services: Services, run: Run, epoch: int) -> None:
    record = await services.store.epochs.epoch(run.run_id, epoch)
    if record is None and await _is_closed(services, run, epoch):
        record = await _freeze(services, run, epoch)
    if record is None:
        return
    signatures = await services.store.epochs.signatures(record)
    pending = run.chain.num_posted - run.chain.num_final
    if len(signatures) < run.chain.threshold or pending >= MAX_PENDING:
        return
    quorum = await services.chain.quorum(run.chain, record.header_digest, signatures)
    if quorum is not None:
        await _post(services, run, record, quorum)


async def _is_closed(services: Services, run: Run, epoch: int) -> bool:
    """Return whether nothing can be added to an epoch any more.

    A later epoch is open; or the run rests or has ended, its leases are over and its replays are
    decided (or the time for posting runs out: then what is decided is paid and the rest is lost).
    """
    if epoch < run.chain.num_opened - 1 and run.chain.status is not LedgerStatus.STOPPED:
        return True
    if run.is_open or not await payable(services, run, run.chain.num_opened - 1):
        return False
    if not await has_undecided(services, run):
        return True
    if run.chain.status is not LedgerStatus.STOPPED:
        return False
    return run.chain.settle_until - run.chain_time < run.chain.settle_window // 4


async def _freeze(services: Services, run: Run, epoch: int) -> Epoch | None:
    """Write the epoch's file, header and record; None where the work changed underneath."""
    work = await payable(services, run, epoch)
    before = await services.chain.epoch(run.run_id, epoch - 1) if epoch else None
    opened = OpenEpoch(
        run_id=run.run_id,
        epoch=epoch,
        generation=run.chain.generation,
        prev_account_root=before.account_root if before else bytes(32),
        secret=services.secret(run.run_id, epoch),
    )
    accounts = await _accounts_before(services, run, epoch)
    data, header = await asyncio.to_thread(_written, opened, tuple(work.values()), accounts)
    record = Epoch(
        run_id=run.run_id,
        epoch=epoch,
        generation=run.chain.generation,
        stage=EpochStage.SIGNING,
        file=await services.blobs.add(data),
        header_digest=services.chain.domain.digest(header),
        header_hash=header.struct_hash(),
        num_groups=len(work),
        total_units=header.total,
    )
    if not await services.store.epochs.freeze(record, work):
        return None
    run.num_revealed = max(run.num_revealed, epoch + 1)
    run.is_behind = len(work) >= settle.MOST_GROUPS
    log = structlog.get_logger()
    log.info("epoch frozen", run_id=run.run_id, epoch=epoch, groups=len(work), units=header.total)
    return record


def _written(
    opened: OpenEpoch, work: Iterable[Contribution], accounts: Iterable[Account]
) -> tuple[bytes, EpochHeader]:
    file = settle.epoch_file(opened, work, accounts)
    data = file.canonical()
    return data, header_of(file, data)


async def _post(services: Services, run: Run, record: Epoch, quorum: dict[str, bytes]) -> None:
    data = await services.blobs.get(record.file)
    file = await asyncio.to_thread(EpochFile.from_canonical, data)
    header = await asyncio.to_thread(header_of, file, data)
    await services.chain.post_epoch(header, file.secret, quorum, uri_of(record.file))
    # In this order: leases must not be granted on money that is committed and counted nowhere.
    run.chain = await services.chain.run(run.run_id)
    await mark_posted(services, run, record)


async def _finish(services: Services, run: Run) -> None:
    """Make ripe epochs final, and credit final ones once."""
    if run.chain.num_final < run.chain.num_posted:
        ripe = await services.chain.epoch(run.run_id, run.chain.num_final)
        if run.chain_time >= ripe.final_at and not ripe.holds:
            await services.chain.advance(run.run_id)
            run.chain = await services.chain.run(run.run_id)
    credited = await services.store.epochs.num_credited(run.run_id)
    for epoch in range(credited, run.chain.num_final):
        await reconciling.credit(services, run, epoch)


async def _accounts_before(services: Services, run: Run, epoch: int) -> tuple[Account, ...]:
    if not epoch:
        return ()
    record = await services.store.epochs.epoch(run.run_id, epoch - 1)
    if record is None:
        raise NotFound(f"epoch {epoch - 1} of run {run.run_id} was posted without this queue")
    return await reconciling.accounts(services, run, record)
