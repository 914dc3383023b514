"""Leases: ask for work, give back what cannot be finished."""

from fastapi import APIRouter, Request, Response

from orchestrator import leases, pauses
from orchestrator.checks import canaries
from orchestrator.wiring import (
    TheAccount,
    TheMarket,
    TheRun,
    answer,
    done,
    nothing_yet,
    read,
    takes,
)
from protocol.messages import LeaseRequest, Leases, ReturnedLeases, SelfCheck

router = APIRouter(tags=["leases"])


@router.post("/runs/{run}/leases", response_model=Leases, openapi_extra=takes(LeaseRequest))
async def lease(
    services: TheMarket, run: TheRun, account: TheAccount, request: Request
) -> Response:
    """Up to `count` signed leases; 204 while work is paced."""
    asked = await read(request, LeaseRequest, services.config.limits.max_json_bytes)
    room = await canaries.room(services, run, account.identity)
    if room == 0:
        return nothing_yet(services.config.retry_after_seconds)
    if room is not None:
        asked = asked.model_copy(update={"count": min(asked.count, room)})
    granted = await leases.grant(services, run, account, asked)
    if granted is None:
        return nothing_yet(services.config.retry_after_seconds)
    return answer(granted)


@router.post("/runs/{run}/self-check", status_code=204, openapi_extra=takes(SelfCheck))
async def self_check(
    services: TheMarket, run: TheRun, account: TheAccount, request: Request
) -> Response:
    """End the caller's pause with its own measurement; all its groups are replayed until enough are good."""
    found = await read(request, SelfCheck, services.config.limits.max_json_bytes)
    await pauses.resume(services, run, account.identity, found)
    return done()


@router.post("/runs/{run}/leases/return", status_code=204, openapi_extra=takes(ReturnedLeases))
async def return_leases(
    services: TheMarket, run: TheRun, account: TheAccount, request: Request
) -> Response:
    """Free the caller's unfinished leases before their deadline."""
    asked = await read(request, ReturnedLeases, services.config.limits.max_json_bytes)
    await leases.give_back(services, run, account.identity, asked.lease_ids)
    return done()
