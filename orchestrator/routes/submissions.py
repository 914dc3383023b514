"""Submissions: hand in a group, ask where it stands."""

import time
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError
from starlette.types import Receive, Scope, Send

from orchestrator import intake, views
from orchestrator.auth import account_of
from orchestrator.wiring import (
    AStranger,
    RunId,
    TheMarket,
    TheRun,
    answer,
    market_of,
    read_body,
    takes_bytes,
    word,
)
from protocol.constants import MAX_SUBMISSION_BYTES
from protocol.messages import SubmissionStatus
from protocol.rollout import Receipt

router = APIRouter(tags=["submissions"])


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

    The account's rate is counted in the same round trip that reads the lease. The busiest route:
    it takes nothing by dependency, whose resolution costs a tenth of a millisecond.
    """
    began, services = time.perf_counter(), market_of(request)
    account = account_of(services, request)
    body = await read_body(request, MAX_SUBMISSION_BYTES)
    receipt = await intake.take(services, await services.run(run), account, body)
    services.metrics.submit_seconds.observe(time.perf_counter() - began)
    return answer(receipt)


router.include_router(direct)


@router.get(
    "/runs/{run}/submissions/{work_digest}",
    response_model=SubmissionStatus,
    dependencies=[AStranger],
)
async def get_submission(services: TheMarket, run: TheRun, work_digest: str) -> Response:
    """Where it stands, why, and all that is needed to replay it."""
    return answer(await views.submission_status(services, run, word(work_digest)))
