"""Trials: verifiers measure groups of engine classes without bounds, and sign what comes of them."""

from fastapi import APIRouter, Request, Response

from orchestrator import baselines
from orchestrator.wiring import (
    AStranger,
    TheAccount,
    TheMarket,
    TheRun,
    answer,
    done,
    nothing_yet,
    read,
    read_verdict,
    takes,
)
from protocol.baseline import EndorsedBaseline, Trials
from protocol.errors import Malformed
from protocol.messages import AuditRequest, AuditTasks
from protocol.verdict import Verdict

router = APIRouter(tags=["trials"])


@router.get("/runs/{run}/trials", response_model=Trials, dependencies=[AStranger])
async def list_trials(market: TheMarket, run: TheRun) -> Response:
    """Engine classes beyond the spec's: who is on trial, and which were admitted."""
    return answer(await baselines.trials(market, run))


@router.post("/runs/{run}/trials", response_model=AuditTasks, openapi_extra=takes(AuditRequest))
async def take_trial_groups(
    market: TheMarket, run: TheRun, account: TheAccount, request: Request
) -> Response:
    """Groups to measure; 204 while there are none for this verifier."""
    asked = await read(request, AuditRequest, market.config.limits.max_json_bytes)
    tasks = await baselines.take(market, run, account, asked.count)
    return answer(tasks) if tasks else nothing_yet(market.config.retry_after_seconds)


@router.post("/runs/{run}/trials/{work_digest}", status_code=204, openapi_extra=takes(Verdict))
async def give_measurement(
    market: TheMarket, run: TheRun, account: TheAccount, work_digest: str, request: Request
) -> Response:
    """Keep the caller's signed measurement of a trial group. May be repeated."""
    verdict = await read_verdict(request, account, work_digest)
    await baselines.measured(market, run, verdict)
    return done()


@router.post("/runs/{run}/baselines", status_code=204, openapi_extra=takes(EndorsedBaseline))
async def endorse_baseline(
    market: TheMarket, run: TheRun, account: TheAccount, request: Request
) -> Response:
    """Count the caller's signature of a baseline; with enough it stands. May be repeated."""
    endorsed = await read(request, EndorsedBaseline, market.config.limits.max_json_bytes)
    if endorsed.endorsement.verifier != account.identity:
        raise Malformed("the endorsement is another verifier's than the session's")
    await baselines.endorse(market, run, endorsed)
    return done()
