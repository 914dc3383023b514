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
async def lease(market: TheMarket, run: TheRun, account: TheAccount, request: Request) -> Response:
    """Up to `count` signed leases; 204 while work is paced."""
    asked = await read(request, LeaseRequest, market.config.limits.max_json_bytes)
    room = await canaries.room(market, run, account.identity)
    if room == 0:
        return nothing_yet(market.config.retry_after_seconds)
    if room is not None:
        asked = asked.model_copy(update={"count": min(asked.count, room)})
    granted = await leases.grant(market, run, account, asked)
    if granted is None:
        return nothing_yet(market.config.retry_after_seconds)
    return answer(granted)


@router.post("/runs/{run}/self-check", status_code=204, openapi_extra=takes(SelfCheck))
async def self_check(
    market: TheMarket, run: TheRun, account: TheAccount, request: Request
) -> Response:
    """End the caller's pause with its own measurement; all its groups are replayed until enough are good."""
    found = await read(request, SelfCheck, market.config.limits.max_json_bytes)
    await pauses.resume(market, run, account.identity, found)
    return done()


@router.post("/runs/{run}/leases/return", status_code=204, openapi_extra=takes(ReturnedLeases))
async def return_leases(
    market: TheMarket, run: TheRun, account: TheAccount, request: Request
) -> Response:
    """Free the caller's unfinished leases before their deadline."""
    asked = await read(request, ReturnedLeases, market.config.limits.max_json_bytes)
    await leases.give_back(market, run, account.identity, asked.lease_ids)
    return done()
