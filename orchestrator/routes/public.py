"""What anyone may watch: workers, events, metrics and probes."""

import re
from collections.abc import AsyncIterator, Callable
from functools import partial

from fastapi import APIRouter, Request, Response
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from orchestrator import events, views
from orchestrator.services import Services
from orchestrator.wiring import AStranger, TheMarket, TheRun, answer
from protocol.errors import Malformed, MarketError
from protocol.messages import WorkerInfos
from protocol.wire import checksum_address

router = APIRouter(tags=["public"], dependencies=[AStranger])
probes = APIRouter(tags=["probes"])

EVENT_ID = re.compile(r"\$|[0-9]{1,19}(-[0-9]{1,19})?")


@router.get("/workers/{address}", response_model=WorkerInfos)
async def get_worker(services: TheMarket, address: str) -> Response:
    """A worker's acceptance by reason and earnings, per run."""
    try:
        worker = checksum_address(address)
    except ValueError as error:
        raise Malformed(str(error)) from error
    return answer(await views.worker_infos(services, worker))


@router.get("/runs/{run}/events")
async def follow_events(services: TheMarket, run: TheRun, request: Request) -> Response:
    """Server-sent events from `Last-Event-ID` (or `?after=`) on; `after=$` for new ones only."""
    after = request.headers.get("last-event-id") or request.query_params.get("after")
    after = after or events.FIRST
    if not EVENT_ID.fullmatch(after):
        raise Malformed(f"{after[:40]!r} is not an event id")
    address = request.client.host if request.client else "unknown"
    streams: events.Streams = request.app.state.event_streams
    streams.open(address)
    body = _stream(services, run.run_id, after)
    return Streamed(body, partial(streams.close, address))


@probes.get("/metrics")
async def metrics(services: TheMarket) -> Response:
    """Prometheus exposition."""
    return Response(services.metrics.text(), media_type="text/plain; version=0.0.4")


@probes.get("/healthz")
async def is_alive() -> Response:
    """The process answers."""
    return Response("ok", media_type="text/plain")


@probes.get("/readyz")
async def is_ready(services: TheMarket) -> Response:
    """Redis and the chain answer too."""
    try:
        await services.store.runs.answers()
        await services.chain.answers()
    except MarketError as error:
        return Response(error.message, 503, media_type="text/plain")
    return Response("ready", media_type="text/plain")


class Streamed(StreamingResponse):
    """Server-sent events that give their place back however the answer ends, begun or not."""

    def __init__(self, body: AsyncIterator[bytes], close: Callable[[], None]) -> None:
        super().__init__(body, media_type="text/event-stream")
        self._close = close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._close()


async def _stream(services: Services, run_id: int, after: str) -> AsyncIterator[bytes]:
    async for piece in events.follow(services.store, run_id, after=after):
        yield piece
