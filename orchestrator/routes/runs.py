"""Runs: which are served, what they agreed on, and asking for one to be served."""

from fastapi import APIRouter, Request, Response

from orchestrator import views
from orchestrator.wiring import AStranger, TheMarket, TheRun, answer, read, takes
from protocol.messages import RunInfo, RunList, RunRegistration

router = APIRouter(tags=["runs"], dependencies=[AStranger])


@router.get("/runs", response_model=RunList)
async def list_runs(market: TheMarket) -> Response:
    """Every run served here."""
    return answer(await views.run_list(market))


@router.post("/runs", response_model=RunInfo, openapi_extra=takes(RunRegistration))
async def register_run(market: TheMarket, request: Request) -> Response:
    """Serve a run whose spec's hash is on chain and which names this orchestrator."""
    asked = await read(request, RunRegistration, market.config.limits.max_json_bytes)
    run = await market.register(asked.run_id, asked.spec)
    return answer(await views.run_info(market, run))


@router.get("/runs/{run}", response_model=RunInfo)
async def get_run(market: TheMarket, run: TheRun) -> Response:
    """A run's agreed terms, status, prices and newest policy."""
    return answer(await views.run_info(market, run))
