"""What a worker calls: ask for work, give back what cannot be finished, hand in a group."""

import time
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError
from starlette.types import Receive, Scope, Send

from orchestrator import budgets, intake, leases, pauses
from orchestrator.budgets import Sender
from orchestrator.checks import canaries
from orchestrator.wiring import (
    LARGE_JSON_BYTES,
    MAY_BE_EMPTY,
    RunId,
    TheAccount,
    TheRun,
    TheServices,
    answer,
    done,
    nothing_yet,
    payer_of,
    read,
    read_body,
    services_of,
    signed_in,
    takes,
    takes_bytes,
)
from protocol.errors import Malformed, MarketError, TooLarge
from protocol.messages import LeaseRequest, Leases, ReturnedLeases, SelfCheck
from protocol.rollout import Receipt

router = APIRouter(tags=["worker"])


@router.post(
    "/runs/{run}/leases",
    response_model=Leases,
    openapi_extra=takes(LeaseRequest),
    responses=MAY_BE_EMPTY,
)
async def lease(
    services: TheServices, run: TheRun, account: TheAccount, request: Request
) -> Response:
    """Up to `count` signed leases; 204 while work is paced."""
    asked = await read(request, LeaseRequest)
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
    services: TheServices, run: TheRun, account: TheAccount, request: Request
) -> Response:
    """End the caller's pause with its own measurement; all its groups are replayed until enough are good."""
    if not await services.store.workers.is_paused(run.run_id, account.identity):
        return done()
    found = await read(request, SelfCheck, LARGE_JSON_BYTES)
    await pauses.resume(services, run, account.identity, found)
    return done()


@router.post("/runs/{run}/leases/return", status_code=204, openapi_extra=takes(ReturnedLeases))
async def return_leases(
    services: TheServices, run: TheRun, account: TheAccount, request: Request
) -> Response:
    """Free the caller's unfinished leases before their deadline."""
    asked = await read(request, ReturnedLeases)
    await leases.give_back(services, run, account.identity, asked.lease_ids)
    return done()


class Direct(APIRoute):
    """A route that calls `endpoint(run, request)` itself: described like all, but served without the
    framework's dependencies and exit stacks. Refusals are the application's middleware's, as always.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._run_id = TypeAdapter[int](RunId)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            await super().handle(scope, receive, send)
            return
        request = Request(scope, receive, send)
        try:
            run = self._run_id.validate_python(request.path_params["run"])
        except ValidationError as error:
            wrong = [e | {"loc": ("path", "run")} for e in error.errors()]
            raise RequestValidationError(wrong) from error
        response: Response = await self.endpoint(run, request)
        await response(scope, receive, send)


direct = APIRouter(route_class=Direct)


@direct.post(
    "/runs/{run}/submissions",
    response_model=Receipt,
    openapi_extra=takes_bytes("A Submission's canonical bytes as one zstd frame"),
)
async def submit(run: RunId, request: Request) -> Response:
    """The signed receipt, also where admission rejects; the same submission gets the same one.

    A request is counted before its body is read, or, of a sender whose last ones were good, in the round
    trip that reads the lease. The busiest route: it takes nothing by dependency, whose resolution costs a
    tenth of a millisecond.
    """
    began, services = time.perf_counter(), services_of(request)
    account = await signed_in(request)
    served = await services.run(run)
    sender = Sender(account.identity, payer_of(request, account))
    name, trust = (run, account.identity), request.app.state.trust
    if not trust.use(name):
        await budgets.spend(services, request, sender.payer)
        await leases.require_leased(services, served, account.identity)
    request.state.payer = sender.payer
    try:
        body = await read_body(request, intake.most_bytes(served))
        arrived_at = services.clock()
        receipt = await intake.take(services, served, sender, body, arrived_at=arrived_at)
    except MarketError as error:
        trust.lose(name)
        if isinstance(error, (Malformed, TooLarge)):
            await budgets.charge(services, request, budgets.MALFORMED)
        raise
    if isinstance(receipt, Receipt) and not receipt.rejection:
        trust.earn(name)
    services.metrics.submit_seconds.observe(time.perf_counter() - began)
    return answer(receipt)


router.include_router(direct)
