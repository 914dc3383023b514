"""Hold what the queue believes about pending epochs against what the chain says of them.

A posted epoch is not settled: a proof, a retraction or a re-organisation may take it off the chain,
and anyone with a quorum may post another in its place. Until an epoch is final its work is only set
aside; here it is taken up again, once, whatever became of the epoch and wherever a crash came between.
What each difference means is `fate_of`'s, which is pure; the rest carries it out.
"""

import asyncio
from enum import StrEnum

import structlog

from orchestrator.run import Run
from orchestrator.services import Services
from orchestrator.store.events import event_body
from orchestrator.store.records import Epoch
from protocol.canonical import content_digest, keccak256
from protocol.epoch import blob_of
from protocol.errors import NotFound
from protocol.messages import Account, EpochFile, EpochStage


class EpochPosition(StrEnum):
    """Where an epoch stands, by the queue's record of it and the chain's."""

    OPEN = "open"
    """Neither frozen nor posted."""
    WAITS = "waits"
    """Frozen, and can still be posted."""
    STANDS = "stands"
    """Posted as we wrote it."""
    UNMARKED = "unmarked"
    """Posted as we wrote it, and a crash kept the queue from learning of it."""
    UNPOSTED = "unposted"
    """Was posted and is not any more, though nothing was voided: the same header is posted again."""
    VOIDED = "voided"
    """Its header is worth nothing any more: its work is frozen anew."""
    FOREIGN = "foreign"
    """Somebody posted another header in its place: our work waits until that is voided or final."""


def fate_of(
    record: Epoch | None, *, epoch: int, num_posted: int, generation: int, header_hash: bytes
) -> EpochPosition:
    """Return where an epoch stands; all but `record` is the chain's, the hash zero before posting."""
    if epoch < num_posted:
        if record is None or record.header_hash != header_hash:
            return EpochPosition.FOREIGN
        return (
            EpochPosition.UNMARKED if record.stage is EpochStage.SIGNING else EpochPosition.STANDS
        )
    if record is None:
        return EpochPosition.OPEN
    if record.generation != generation:
        return EpochPosition.VOIDED
    return EpochPosition.WAITS if record.stage is EpochStage.SIGNING else EpochPosition.UNPOSTED


async def reconcile(services: Services, run: Run) -> bool:
    """Bring the queue up to the chain; return whether every pending posted epoch is ours.

    Each epoch is one atomic step that may be repeated, so a crash between two costs a round.
    """
    credited = await services.store.epochs.num_credited(run.run_id)
    are_ours = True
    for epoch in range(credited, run.chain.num_opened):
        record = await services.store.epochs.epoch(run.run_id, epoch)
        header_hash = bytes(32)
        if epoch < run.chain.num_posted:
            header_hash = (await services.chain.epoch(run.run_id, epoch)).header_hash
        fate = fate_of(
            record,
            epoch=epoch,
            num_posted=run.chain.num_posted,
            generation=run.chain.generation,
            header_hash=header_hash,
        )
        match fate:
            case EpochPosition.UNMARKED if record is not None:
                await mark_posted(services, run, record)
            case EpochPosition.UNPOSTED if record is not None:
                kept = record.model_copy(update={"stage": EpochStage.SIGNING})
                await _restore(services, run, record, kept)
            case EpochPosition.VOIDED if record is not None:
                await _restore(services, run, record, None)
            case EpochPosition.WAITS if record is not None:
                if (
                    await services.blobs.size(record.file) is None
                ):  # nobody can sign it: frozen anew
                    await _restore(services, run, record, None)
            case EpochPosition.FOREIGN:
                are_ours = False
                if record is not None:
                    await _restore(services, run, record, None)
    return are_ours


async def mark_posted(services: Services, run: Run, record: Epoch) -> None:
    """Set an epoch's work aside: it is committed on chain, and neither leased against nor final."""
    posted = record.model_copy(update={"stage": EpochStage.POSTED})
    fields = {"epoch": record.epoch, "units": record.total_units, "groups": record.num_groups}
    event = event_body(run.run_id, "epoch_posted", services.clock(), fields)
    await services.store.epochs.mark_posted(posted, event)
    structlog.get_logger().info("epoch posted", run_id=run.run_id, **fields)


async def _restore(services: Services, run: Run, record: Epoch, kept: Epoch | None) -> None:
    fields = {"epoch": record.epoch, "units": record.total_units, "groups": record.num_groups}
    event = event_body(run.run_id, "epoch_voided", services.clock(), fields)
    await services.store.epochs.restore(record, kept, event)
    log = structlog.get_logger()
    log.warning("epoch taken back", run_id=run.run_id, generation=record.generation, **fields)


async def credit(services: Services, run: Run, epoch: int) -> None:
    """Tell workers what they have earned, from the accounts whose root is final."""
    record = await services.store.epochs.epoch(run.run_id, epoch)
    if record is None:
        try:
            record = await adopt(services, run, epoch)
        except NotFound as error:
            await _tell(services, run, error.message)
            raise
    credited = await accounts(services, run, record)
    final = record.model_copy(update={"stage": EpochStage.FINAL})
    fields = {"epoch": epoch, "units": record.total_units, "accounts": len(credited)}
    event = event_body(run.run_id, "epoch_final", services.clock(), fields)
    await services.store.epochs.credit(final, credited, event)
    structlog.get_logger().info("epoch final", run_id=run.run_id, **fields)


async def accounts(services: Services, run: Run, record: Epoch) -> tuple[Account, ...]:
    """Return an epoch's accounts, from its file."""
    try:
        data = await services.blobs.get(record.file)
    except NotFound as error:
        trouble = (
            f"the file of epoch {record.epoch} is lost: PUT it under /v1/blobs/0x{record.file.hex()} "
            "(each worker has one in the epochs/ of its data_dir, each verifier in its cache)"
        )
        await _tell(services, run, trouble)
        raise NotFound(trouble) from error
    await _tell(services, run, "")
    return (await asyncio.to_thread(EpochFile.from_canonical, data)).accounts


async def _tell(services: Services, run: Run, trouble: str) -> None:
    """Have all copies of this orchestrator lease no work that cannot be settled, or lease it again."""
    if trouble != run.trouble:
        await services.store.runs.tell_trouble(run.run_id, trouble)
        run.trouble = trouble


async def adopt(services: Services, run: Run, epoch: int) -> Epoch:
    """Return a record of a final epoch that is not ours, so that settlement goes on from its accounts.

    Raises `NotFound` where its file is not among our blobs: it is fetched from nowhere else, since
    whoever posted it chose the address.
    """
    header_hash = (await services.chain.epoch(run.run_id, epoch)).header_hash
    posting = await services.chain.posting(run.run_id, epoch, header_hash)
    data = await _published(services, posting.data_uri)
    if keccak256(data) != posting.data_hash:
        raise NotFound(
            f"epoch {epoch} of run {run.run_id} is final under a header that is not ours, and "
            f"{posting.data_uri!r} is no file of ours with Keccak-256 0x{posting.data_hash.hex()}: "
            "PUT it under /v1/blobs where that is its address, or stop the run; nothing can be "
            "settled on top of it"
        )
    file = await asyncio.to_thread(EpochFile.from_canonical, data)
    return Epoch(
        run_id=run.run_id,
        epoch=epoch,
        generation=file.generation,
        stage=EpochStage.POSTED,
        file=content_digest(data),
        header_digest=bytes(32),
        header_hash=header_hash,
        num_groups=len(file.contributions),
        total_units=sum(item.units for item in file.contributions),
    )


async def _published(services: Services, uri: str) -> bytes:
    digest = blob_of(uri)
    if digest is None or await services.blobs.size(digest) is None:
        return b""
    return await services.blobs.get(digest)
