"""Runs: which are served, what they agreed on, and asking for one to be served."""

from fastapi import APIRouter, Request, Response

from orchestrator import views
from orchestrator.wiring import AStranger, TheMarket, TheRun, answer, read, takes
from protocol.messages import RunInfo, RunList, RunRegistration

router = APIRouter(tags=["runs"], dependencies=[AStranger])


@router.get("/runs", response_model=RunList)
async def list_runs(services: TheMarket) -> Response:
    """Every run served here."""
    return answer(await views.run_list(services))


@router.post("/runs", response_model=RunInfo, openapi_extra=takes(RunRegistration))
async def register_run(services: TheMarket, request: Request) -> Response:
    """Serve a run whose spec's hash is on chain and which names this orchestrator."""
    asked = await read(request, RunRegistration, services.config.limits.max_json_bytes)
    run = await services.register(asked.run_id, asked.spec)
    return answer(await views.run_info(services, run))


@router.get("/runs/{run}", response_model=RunInfo)
async def get_run(services: TheMarket, run: TheRun) -> Response:
    """A run's agreed terms, status, prices and newest policy."""
    return answer(await views.run_info(services, run))
