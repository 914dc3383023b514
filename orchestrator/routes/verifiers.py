"""Verifiers under test: how each has judged, and what was committed to test them with."""

from fastapi import APIRouter, Response

from orchestrator.checks import canaries
from orchestrator.wiring import AStranger, TheMarket, TheRun, answer
from protocol.messages import CanaryInfos, VerifierInfos

router = APIRouter(tags=["verifiers"], dependencies=[AStranger])


@router.get("/runs/{run}/verifiers", response_model=VerifierInfos)
async def list_verifiers(services: TheMarket, run: TheRun) -> Response:
    """Every verifier's verdicts by outcome, whether its vote counts, and why not."""
    return answer(await canaries.verifier_infos(services, run))


@router.get("/runs/{run}/canaries", response_model=CanaryInfos)
async def list_canaries(run: TheRun) -> Response:
    """Commitments to groups of known quality, and those opened by now."""
    return answer(canaries.infos(run))
