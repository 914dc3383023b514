"""Read-only views for anyone: a run, a submission, an epoch, a worker."""

import asyncio

from orchestrator.checks.canaries import face_of
from orchestrator.checks.withholding import reason_of
from orchestrator.leases import notice_of
from orchestrator.replays import subject_of
from orchestrator.run import Run
from orchestrator.services import Services
from orchestrator.store.records import GroupRecord
from protocol.checks.draw import Draw
from protocol.errors import NotFound
from protocol.messages import (
    EpochInfo,
    EpochStage,
    GroupState,
    RunInfo,
    RunList,
    SubmissionStatus,
    WorkerInfo,
    WorkerInfos,
)
from protocol.rollout import Receipt


async def run_info(services: Services, run: Run) -> RunInfo:
    """Return what anyone may know of a run before working for it."""
    policy = await services.newest_policy(run)
    return RunInfo(
        run_id=run.run_id,
        spec=run.spec,
        chain_id=services.chain.domain.chain_id,
        ledger=services.chain.domain.ledger,
        token=run.chain.token,
        status=run.status,
        newest_version=policy.manifest.version if policy else -1,
        published_at=policy.manifest.created_at if policy else 0,
        epoch=max(0, run.chain.num_opened - 1),
        budget_left_units=min(await services.budget_left_units(run), (1 << 63) - 1),
        permit_until=min(run.chain.permit_until, (1 << 64) - 1),
        num_voters=len(run.voters),
        threshold=run.chain.threshold,
        min_stake=str(run.chain.min_stake),
    )


async def run_list(services: Services) -> RunList:
    await services.recover()
    infos = [await run_info(services, services.runs[run_id]) for run_id in sorted(services.runs)]
    return RunList(runs=tuple(infos))


async def submission_status(services: Services, run: Run, work_digest: bytes) -> SubmissionStatus:
    """Return where one submission stands, with its verdicts in order of time."""
    subject = await subject_of(services, run, work_digest)
    verdicts = await services.store.groups.verdicts(run.run_id, work_digest)
    group = subject.group
    face = face_of(
        group,
        verdicts,
        run.canaries.get(group.worker),
        is_drawn_openly=_is_drawn_openly(run, group),
    )
    draw = _shown_draw(run, group)
    return SubmissionStatus(
        work_digest=work_digest,
        state=face.state,
        rejection=face.rejection,
        detail=face.detail,
        lease=subject.lease,
        body=group.body,
        receipt=Receipt.from_json(group.receipt),
        rewards=group.rewards,
        trained_in=group.trained_in,
        draw_epoch=draw.epoch,
        draw_rate_millionths=draw.rate,
        verdicts=face.verdicts,
    )


def _shown_draw(run: Run, group: GroupRecord) -> Draw:
    """Return what a paid group's draw was made from once that epoch's secret is out; nothing before.

    A verifier could tell a canary by it: a group that is replayed though its worker's record asks for few.
    """
    is_out = _is_drawn_openly(run, group)
    if not is_out or group.canary or group.state is not GroupState.ACCEPTED:
        return Draw(epoch=0, rate=0)
    return Draw(epoch=group.draw_epoch, rate=group.draw_rate)


def _is_drawn_openly(run: Run, group: GroupRecord) -> bool:
    """Return whether the secret is out that drew the group for a replay, or did not."""
    return group.draw_epoch < run.num_revealed


async def epoch_info(services: Services, run: Run, epoch: int) -> EpochInfo:
    """Return where an epoch stands; raise `NotFound` for one that was never opened."""
    if (
        epoch >= run.chain.num_opened
        and epoch >= (await services.chain.recent(run.run_id)).num_opened
    ):
        raise NotFound(f"run {run.run_id} has not opened epoch {epoch}")
    record = await services.store.epochs.epoch(run.run_id, epoch)
    if record is None:
        zero, stage = bytes(32), EpochStage.OPEN
        return EpochInfo(
            run_id=run.run_id, epoch=epoch, stage=stage, file=zero, header_digest=zero, signers=()
        )
    signatures = await services.store.epochs.signatures(record)
    stage = EpochStage.FINAL if epoch < run.chain.num_final else record.stage
    return EpochInfo(
        run_id=run.run_id,
        epoch=epoch,
        stage=stage,
        file=record.file,
        header_digest=record.header_digest,
        signers=tuple(signer.decode() for signer in sorted(signatures)),
    )


async def worker_infos(services: Services, worker: str) -> WorkerInfos:
    """Return a worker's standing in every run it ever leased from."""
    await services.recover()
    found = await asyncio.gather(
        *(_worker_info(services, r, worker) for r in services.runs.values())
    )
    return WorkerInfos(runs=tuple(info for info in found if info is not None))


async def _worker_info(services: Services, run: Run, worker: str) -> WorkerInfo | None:
    record = await services.store.workers.record(run.run_id, worker)
    if record is None:
        return None
    num_waiting, waiting_tokens = await services.store.workers.waiting(run.run_id, worker)
    return WorkerInfo(
        run_id=run.run_id,
        worker=worker,
        accepted_groups=record.accepted_groups + num_waiting,
        accepted_tokens=record.accepted_tokens + waiting_tokens,
        rejected_by_reason=record.rejected_by_reason,
        is_excluded=record.is_excluded,
        exclusion=reason_of(worker, record.excluded_for) if record.is_excluded else "",
        dropped_leases=record.num_dropped,
        paused=record.paused,
        most_leases=run.spec.drop_rule.most_leases(record.drop_debt),
        notice=notice_of(run.spec, record.drop_debt),
        earned=record.earned,
        last_nonce=record.last_settled,
    )
