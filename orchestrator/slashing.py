"""Drive fraud reports from a condemning verdict to the stake: signed, proposed, executed.

A report starts in `lua/verdict.lua`, in the same step that excludes the worker. It is proposed whatever
is left at stake, because the accusation on chain is also what answers a claim that the worker's work was
skipped. Each stage asks the chain first, so repeating one after a crash sends nothing twice.
"""

import structlog

from contracts.errors import ContractError
from contracts.state import SlashStatus
from orchestrator.market import Market, Run
from orchestrator.records import Report
from protocol.epoch import FraudReport
from protocol.errors import Forbidden, NotFound
from protocol.messages import FraudReportSignature, FraudReportTask, FraudReportTasks
from protocol.signing import recover

UNTAKEABLE = frozenset({"NotJoined", "SlashTooLarge", "BadReportTime", "ZeroAmount"})
"""Refusals of the report itself, which no other signatures and no later time would change. Any other
may pass: a signer that withdrew in front of the transaction is left out of the next quorum."""


async def tasks(market: Market, run: Run) -> FraudReportTasks:
    """Return the reports that still want signatures."""
    found = [report for report in await _reports(market, run) if report.stage == "signing"]
    return FraudReportTasks(
        tasks=tuple(
            FraudReportTask(**report.model_dump(exclude={"stage"}, mode="python"))
            for report in found
        )
    )


async def add_signature(
    market: Market, run: Run, work_digest: bytes, signed: FraudReportSignature
) -> None:
    """Keep a verifier's signature of a report."""
    raw = await market.queue.call("HGET", run.prefix + "reports", work_digest.hex())
    if raw is None:
        raise NotFound(f"no fraud report about 0x{work_digest.hex()}")
    digest = market.chain.domain.digest(_on_chain(Report.from_json(raw)))
    signer = recover(digest, signed.signature)
    identity = await market.chain.identity_of(signer)
    if identity not in run.chain.verifiers:
        raise Forbidden(f"{identity} is not a verifier of run {run.run_id}, or signed another text")
    await market.queue.call("HSET", _accused_key(run, work_digest), identity, signed.signature)


async def tick(market: Market, run: Run) -> None:
    """Take every report one step further where its time has come."""
    for report in await _reports(market, run):
        if report.stage == "signing":
            await _propose(market, run, report)
        elif report.stage == "proposed":
            await _execute(market, run, report)


async def _propose(market: Market, run: Run, report: Report) -> None:
    _, state = await market.chain.slash(run.run_id, report.worker, report.work_digest)
    if state.status is SlashStatus.NONE:
        signatures = await market.queue.hash(_accused_key(run, report.work_digest))
        if len(signatures) < run.chain.threshold:
            return
        digest = market.chain.domain.digest(_on_chain(report))
        quorum = await market.chain.quorum(run.chain, digest, signatures)
        if quorum is None:
            return
        try:
            await market.chain.propose_slash(_on_chain(report), quorum)
        except ContractError as error:
            await _refused(market, run, report, error)
            return
    await _move(market, run, report, "proposed")
    await market.announce(
        *(run.run_id, "slash_proposed"), worker=report.worker, amount=report.amount
    )


async def _execute(market: Market, run: Run, report: Report) -> None:
    slash_id, state = await market.chain.slash(run.run_id, report.worker, report.work_digest)
    if state.status is SlashStatus.PROPOSED:
        if await market.chain.block_time() < state.deadline:
            return
        await market.chain.execute_slash(slash_id)
    elif state.status is SlashStatus.APPEALED:
        return
    if state.status is SlashStatus.DISMISSED:
        await _move(market, run, report, "dismissed")
        return
    await _move(market, run, report, "executed")
    await market.announce(run.run_id, "slashed", worker=report.worker, amount=str(state.held))


async def _refused(market: Market, run: Run, report: Report, error: ContractError) -> None:
    """Give up what the ledger will never take, go on with what it already has, keep the rest."""
    log = structlog.get_logger()
    log.warning("slash refused", run_id=run.run_id, worker=report.worker, error=str(error))
    if error.name in UNTAKEABLE:
        await _move(market, run, report, "dismissed")
    elif error.name == "AlreadyReported":
        await _move(market, run, report, "proposed")


async def _move(market: Market, run: Run, report: Report, stage: str) -> None:
    moved = report.model_copy(update={"stage": stage})
    key, digest = run.prefix + "reports", report.work_digest.hex()
    await market.queue.call("HSET", key, digest, moved.to_json())
    log = structlog.get_logger()
    log.info("slash moved", run_id=run.run_id, worker=report.worker, stage=stage)


async def _reports(market: Market, run: Run) -> list[Report]:
    found = await market.queue.hash(run.prefix + "reports")
    return [Report.from_json(found[digest]) for digest in sorted(found)]


def _on_chain(report: Report) -> FraudReport:
    return FraudReport(
        run_id=report.run_id,
        worker=report.worker,
        work_digest=report.work_digest,
        evidence_digest=report.evidence_digest,
        amount=int(report.amount),
        reported_at=report.reported_at,
    )


def _accused_key(run: Run, work_digest: bytes) -> str:
    return f"{run.prefix}accused:{work_digest.hex()}"
