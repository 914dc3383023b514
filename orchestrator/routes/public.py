"""What anyone may call: sign-in, runs, workers, policies, epochs, verifiers, events, and the probes."""

import re
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from orchestrator import budgets, events, policies, slashes, views
from orchestrator.auth import sign_in
from orchestrator.checks import canaries
from orchestrator.wiring import (
    BYTES,
    LARGE_JSON_BYTES,
    AStranger,
    TheRun,
    TheServices,
    answer,
    costs,
    gives,
    payer_of,
    read,
    takes,
    word,
)
from protocol.errors import Malformed, MarketError
from protocol.messages import (
    CanaryInfos,
    EpochInfo,
    FraudReportTasks,
    RunInfo,
    RunList,
    RunRegistration,
    Session,
    SessionRequest,
    SubmissionStatus,
    VerifierInfos,
    WorkerInfos,
)
from protocol.policies.manifest import SignedManifest
from protocol.wire import checksum_address

router = APIRouter(tags=["public"], dependencies=[AStranger])
probes = APIRouter(tags=["probes"])

ALIVE = "/healthz"
"""Whoever watches over this process asks it, and is never refused."""
EVENT_ID = re.compile(r"\$|[0-9]{1,19}(-[0-9]{1,19})?")

Number = Annotated[int, Path(ge=0, lt=1 << 32)]
Version = Annotated[int, Query(ge=0, lt=1 << 32)]

MOST_RECORDS = 1024

"""Versions that one request may ask the records of."""


@router.post(
    "/session",
    response_model=Session,
    openapi_extra=takes(SessionRequest),
    dependencies=[costs(budgets.SIGN_IN)],
)
async def open_session(services: TheServices, request: Request) -> Response:
    """Exchange a signed text, used once, for a token."""
    asked = await read(request, SessionRequest)
    domains = services.config.allowed_domains or (request.headers.get("host", ""),)
    return answer(await sign_in(services, asked, domains=domains))


@router.get("/runs", response_model=RunList)
async def list_runs(services: TheServices) -> Response:
    """Every run served here."""
    return answer(await views.run_list(services))


@router.post(
    "/runs",
    response_model=RunInfo,
    openapi_extra=takes(RunRegistration),
    dependencies=[costs(budgets.REGISTRATION)],
)
async def register_run(services: TheServices, request: Request) -> Response:
    """Serve a run whose spec's hash is on chain and which names this orchestrator."""
    asked = await read(request, RunRegistration, LARGE_JSON_BYTES)
    run = await services.register(asked.run_id, asked.spec)
    return answer(await views.run_info(services, run))


@router.get("/runs/{run}", response_model=RunInfo)
async def get_run(services: TheServices, run: TheRun) -> Response:
    """A run's agreed terms, status, prices and newest policy."""
    return answer(await views.run_info(services, run))


@router.get("/workers/{address}", response_model=WorkerInfos)
async def get_worker(services: TheServices, address: str) -> Response:
    """A worker's acceptance by reason and earnings, per run."""
    try:
        worker = checksum_address(address)
    except ValueError as error:
        raise Malformed(str(error)) from error
    return answer(await views.worker_infos(services, worker))


@router.get(
    "/runs/{run}/submissions/{work_digest}",
    response_model=SubmissionStatus,
)
async def get_submission(services: TheServices, run: TheRun, work_digest: str) -> Response:
    """Where it stands, why, and all that is needed to replay it."""
    return answer(await views.submission_status(services, run, word(work_digest)))


@router.get("/runs/{run}/policies/{version}", response_model=SignedManifest)
async def get_policy(
    services: TheServices, run: TheRun, version: str, request: Request
) -> Response:
    """A version's manifest, by number or `latest`."""
    manifest = await policies.manifest_of(services, run, version)
    await budgets.charge(services, request, len(manifest) // budgets.PART_BYTES)
    return answer(manifest)


@router.get("/runs/{run}/lineage", **gives(BYTES, 200))
async def get_lineage(
    services: TheServices,
    run: TheRun,
    request: Request,
    first: Version = 1,
    last: Version = MOST_RECORDS,
) -> Response:
    """Canonical `Records` of what made versions `first` … `last`, as many as one answer holds."""
    last = min(last, first + MOST_RECORDS - 1)
    await budgets.charge(services, request, max(0, last - first) // budgets.RECORDS)
    records = await policies.records_of(services, run, first, last)
    return Response(records.canonical(), media_type="application/octet-stream")


@router.get("/runs/{run}/epochs/{epoch}", response_model=EpochInfo)
async def get_epoch(services: TheServices, run: TheRun, epoch: Number) -> Response:
    """An epoch's stage, the blob with every contribution, and the digest verifiers sign."""
    return answer(await views.epoch_info(services, run, epoch))


@router.get("/runs/{run}/fraud-reports", response_model=FraudReportTasks)
async def list_fraud_reports(services: TheServices, run: TheRun) -> Response:
    """Reports that want signatures."""
    return answer(await slashes.tasks(services, run))


@router.get("/runs/{run}/verifiers", response_model=VerifierInfos)
async def list_verifiers(services: TheServices, run: TheRun) -> Response:
    """Every verifier's verdicts by outcome, whether its vote counts, and why not."""
    return answer(await canaries.verifier_infos(services, run))


@router.get("/runs/{run}/canaries", response_model=CanaryInfos)
async def list_canaries(run: TheRun) -> Response:
    """Commitments to groups of known quality, and those opened by now."""
    return answer(canaries.infos(run))


@router.get("/runs/{run}/events", **gives("text/event-stream", 200))
async def follow_events(services: TheServices, run: TheRun, request: Request) -> Response:
    """Server-sent events from `Last-Event-ID` (or `?after=`) on; `after=$` for new ones only."""
    after = request.headers.get("last-event-id") or request.query_params.get("after")
    after = after or events.FIRST
    if not EVENT_ID.fullmatch(after):
        raise Malformed(f"{after[:40]!r} is not an event id")
    streams: events.Streams = request.app.state.event_streams
    place = streams.open(payer_of(request).name)
    body = events.follow(services.store, run.run_id, after=after, place=place)
    return Streamed(body, partial(streams.close, place))


@probes.get(
    "/metrics", dependencies=[AStranger, costs(budgets.PAGE)], response_class=PlainTextResponse
)
async def metrics(services: TheServices) -> Response:
    """Counters and gauges, for Prometheus."""
    return Response(services.metrics.text(), media_type="text/plain; version=0.0.4")


@probes.get(ALIVE, response_class=PlainTextResponse)
async def is_alive() -> Response:
    """The process answers."""
    return Response("ok", media_type="text/plain")


@probes.get("/readyz", dependencies=[AStranger], response_class=PlainTextResponse)
async def is_ready(services: TheServices) -> Response:
    """Redis takes a write and the chain answers."""
    try:
        await services.store.runs.answers()
        await services.chain.answers()
    except MarketError as error:
        return Response(error.message, 503, media_type="text/plain")
    return Response("ready", media_type="text/plain")


@probes.get("/openapi.json", include_in_schema=False, dependencies=[AStranger, costs(budgets.PAGE)])
async def describe(request: Request) -> Response:
    """All routes and messages, for programs."""
    return JSONResponse(request.app.openapi())


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
