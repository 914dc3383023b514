"""Drive fraud reports from evidence to the stake: signed, proposed, executed.

A report about a worker starts with the vote that excludes it (`rules/votes.py`). One about a
verifier starts here, once it has failed a second canary and the canary is open for all to check; the
others sign it, never the accused. A report is proposed whatever
is left at stake, because the accusation on chain is also what answers a claim that the worker's work was
skipped. Each stage asks the chain first, so repeating one after a crash sends nothing twice.
"""

import structlog

from ledger.errors import ContractError
from ledger.state import SlashStatus
from orchestrator.run import Run
from orchestrator.services import Services
from orchestrator.store.reports import Report
from protocol.epoch import FraudReport
from protocol.errors import Forbidden, NotFound
from protocol.messages import MOST_CLOSED, FraudReportSignature, FraudReportTask, FraudReportTasks
from protocol.signing import recover

UNTAKEABLE = frozenset({"NotJoined", "SlashTooLarge", "BadReportTime", "ZeroAmount"})
"""Refusals of the report itself, which no other signatures and no later time would change. Any other
may pass: a signer that withdrew in front of the transaction is left out of the next quorum."""


async def tasks(services: Services, run: Run) -> FraudReportTasks:
    """Return the newest reports that still want signatures."""
    reports = (await services.store.reports.all(run.run_id)).values()
    waiting = (report for report in reports if report.stage == "signing")
    found = sorted(waiting, key=lambda report: -report.reported_at)[:MOST_CLOSED]
    return FraudReportTasks(
        tasks=tuple(
            FraudReportTask(**report.model_dump(exclude={"stage"}, mode="python"))
            for report in found
        )
    )


async def add_signature(
    services: Services, run: Run, work_digest: bytes, signed: FraudReportSignature
) -> None:
    """Keep a verifier's signature, for the report about this work whose digest it signs."""
    found = await services.store.reports.all(run.run_id)
    about = {key: report for key, report in found.items() if report.work_digest == work_digest}
    if not about:
        raise NotFound(f"no fraud report about 0x{work_digest.hex()}")
    identity = ""
    for key, report in about.items():
        signer = recover(services.chain.domain.digest(FraudReport.of(report)), signed.signature)
        identity = await services.chain.identity_of(signer)
        if identity in run.chain.verifiers and identity != report.worker:
            await services.store.reports.sign(run.run_id, key, identity, signed.signature)
            return
    raise Forbidden(
        f"{identity} is not a verifier of run {run.run_id}, is the accused, or signed another text"
    )


async def tick(services: Services, run: Run) -> None:
    """Take every report one step further where its time has come."""
    await _accuse(services, run)
    for key, report in (await services.store.reports.all(run.run_id)).items():
        if report.stage == "signing":
            await _propose(services, run, key, report)
        elif report.stage == "proposed":
            await _execute(services, run, key, report)


async def _accuse(services: Services, run: Run) -> None:
    """Report verifiers that failed two canaries, where a quorum without them can sign it."""
    for accusation in await services.store.reports.accusations(run.run_id):
        digest, verifier = accusation.work_digest, accusation.verifier
        canary = run.canaries.get(await services.store.groups.worker(run.run_id, digest))
        if canary is None or not canary.is_open:
            continue  # nobody could check it yet
        others = [v for v in run.chain.verifiers if v != verifier]
        log = structlog.get_logger().bind(run_id=run.run_id, verifier=verifier)
        if len(others) < run.chain.threshold:
            log.error("stake cannot be taken: no quorum without the accused", others=len(others))
        else:
            verdict = await services.store.groups.verdict_of(run.run_id, digest, verifier)
            report = Report(
                run_id=run.run_id,
                worker=verifier,
                work_digest=digest,
                evidence_digest=verdict.evidence_digest(),
                amount=str(run.chain.min_stake),
                reported_at=await services.chain.block_time(),
            )
            await services.store.reports.start(run.run_id, accusation.key, report)
            log.warning("verifier reported", digest="0x" + digest.hex())
        await services.store.reports.settle_accusation(run.run_id, accusation)


async def _propose(services: Services, run: Run, key: str, report: Report) -> None:
    _, state = await services.chain.slash(run.run_id, report.worker, report.work_digest)
    if state.status is SlashStatus.NONE:
        signatures = await services.store.reports.signatures(run.run_id, key)
        if len(signatures) < run.chain.threshold:
            return
        digest = services.chain.domain.digest(FraudReport.of(report))
        quorum = await services.chain.quorum(run.chain, digest, signatures)
        if quorum is None:
            return
        try:
            await services.chain.propose_slash(FraudReport.of(report), quorum)
        except ContractError as error:
            await _refused(services, run, key, report, error)
            return
    await _move(services, run, key, report, "proposed")
    await services.announce(
        *(run.run_id, "slash_proposed"), worker=report.worker, amount=report.amount
    )


async def _execute(services: Services, run: Run, key: str, report: Report) -> None:
    slash_id, state = await services.chain.slash(run.run_id, report.worker, report.work_digest)
    if state.status is SlashStatus.PROPOSED:
        if await services.chain.block_time() < state.deadline:
            return
        await services.chain.execute_slash(slash_id)
    elif state.status is SlashStatus.APPEALED:
        return
    if state.status is SlashStatus.DISMISSED:
        await _move(services, run, key, report, "dismissed")
        return
    await _move(services, run, key, report, "executed")
    await services.announce(run.run_id, "slashed", worker=report.worker, amount=str(state.held))


async def _refused(
    services: Services, run: Run, key: str, report: Report, error: ContractError
) -> None:
    """Give up what the ledger will never take, go on with what it already has, keep the rest."""
    log = structlog.get_logger()
    log.warning("slash refused", run_id=run.run_id, worker=report.worker, error=str(error))
    if error.name in UNTAKEABLE:
        await _move(services, run, key, report, "dismissed")
    elif error.name == "AlreadyReported":
        await _move(services, run, key, report, "proposed")


async def _move(services: Services, run: Run, key: str, report: Report, stage: str) -> None:
    moved = report.model_copy(update={"stage": stage})
    await services.store.reports.keep(run.run_id, key, moved)
    log = structlog.get_logger()
    log.info("slash moved", run_id=run.run_id, worker=report.worker, stage=stage)
