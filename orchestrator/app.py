"""The ASGI application: routes, refusals as JSON, and the description of it all."""

from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from orchestrator import wiring
from orchestrator.auth import account_of
from orchestrator.budgets import Debtors, Trust
from orchestrator.events import Streams
from orchestrator.jobs import Service
from orchestrator.routes import blobs, page, public, trainer, verifier, worker
from orchestrator.routes.public import ALIVE
from orchestrator.services import Services
from orchestrator.wiring import SCHEMAS, a_stranger
from protocol import messages
from protocol.errors import MarketError, TooManyRequests, Unauthorized
from protocol.messages import ErrorBody
from protocol.verdict import Verdict
from protocol.wire import Wire


def create_app(services: Services, service: Service | None = None) -> FastAPI:
    """Return the application; with a service, its background work lives as long as the app."""
    app = FastAPI(
        title="Rollcall orchestrator",
        version="1",
        lifespan=_lifespan(services, service),
        openapi_url=None,  # both descriptions are among our routes, which somebody pays for
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        responses={"default": {"model": ErrorBody}},
    )
    app.state.services = services
    limits, part = services.config.limits, services.config.part
    app.state.trust = Trust(part(Trust.MOST_BODIES))
    app.state.debtors = Debtors()
    app.state.event_streams = Streams(
        part(limits.max_event_streams), part(limits.max_event_streams_per_address)
    )
    for module in (worker, verifier, trainer, blobs, public):  # the most asked first
        app.include_router(module.router, prefix="/v1")
    app.include_router(public.probes)
    app.include_router(page.router)
    app.add_exception_handler(MarketError, _refuse)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(HTTPException, _http)
    app.add_middleware(RefuseDebtors, services=services, debtors=app.state.debtors)
    app.add_middleware(CountAnswers, services=services)
    app.add_middleware(AnswerHeads)
    app.add_middleware(RequireOneHost)
    app.openapi = lambda: _describe(app)  # type: ignore[method-assign]
    return app


def _lifespan(services: Services, service: Service | None) -> Any:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        services.rewards.start()
        if service is not None:
            service.start()
        yield
        if service is not None:
            await service.close()
        await services.close()

    return lifespan


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, MarketError)
    body = ErrorBody(
        code=error.code, message=error.message, retry_after_seconds=error.retry_after_seconds
    )
    headers = {}
    if error.retry_after_seconds is not None:
        headers["retry-after"] = f"{error.retry_after_seconds:g}"
    return Response(body.to_json(), error.status, headers, media_type="application/json")


async def _malformed(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    wrong = "; ".join(f"{e['loc'][-1]}: {e['msg']}" for e in error.errors())
    body = ErrorBody(code="malformed", message=wrong)
    return Response(body.to_json(), 400, media_type="application/json")


async def _http(request: Request, error: Exception) -> Response:
    """Refuse what no route takes. It costs its address a request, as an answer would."""
    assert isinstance(error, HTTPException)
    try:
        await a_stranger(request)
    except MarketError as refusal:
        return await _refuse(request, refusal)
    code = "not_found" if error.status_code == 404 else "malformed"
    body = ErrorBody(code=code, message=f"{request.method} {request.url.path}: {error.detail}")
    headers = dict(error.headers or {})
    if "GET" in headers.get("Allow", ""):
        headers["Allow"] += ", HEAD"  # `AnswerHeads` answers it
    return Response(body.to_json(), error.status_code, headers, media_type="application/json")


class _HeadSent(Exception):
    """The head of an answer is out, and no more is wanted."""


class RequireOneHost:
    """Refuse a request that names two hosts, or none in HTTP/1.1 (RFC 9112, 3.2): a proxy before this one may
    have looked at the other."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if scope["type"] == "http":
            num = sum(name == b"host" for name, _ in scope["headers"])
            if num > 1 or (num == 0 and scope["http_version"] != "1.0"):
                body = ErrorBody(code="malformed", message=f"{num} Host headers: send one")
                app = Response(body.to_json(), 400, media_type="application/json")
        await app(scope, receive, send)


class AnswerHeads:
    """Answer HEAD wherever there is a GET: as that, ended before its body. Ranges are GET's alone."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def head(message: MutableMapping[str, Any]) -> None:
            await send(message)
            await send({"type": "http.response.body"})
            raise _HeadSent

        headers = [(name, value) for name, value in scope["headers"] if name != b"range"]
        with suppress(_HeadSent):
            await self._app({**scope, "method": "GET", "headers": headers}, receive, head)


class RefuseDebtors:
    """Refuse before anything else what an address asks that owes: routing and dependencies cost more than that.

    Who pays for itself is left to its route, for what anyone may ask is paid by the address whoever asks it.
    """

    def __init__(self, app: ASGIApp, services: Services, debtors: Debtors) -> None:
        self._app = app
        self._services = services
        self._debtors = debtors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (refusal := await self._refusal(scope)) is None:
            await self._app(scope, receive, send)
            return
        response = await _refuse(Request(scope), refusal)
        await response(scope, receive, send)

    async def _refusal(self, scope: Scope) -> TooManyRequests | None:
        now = self._services.clock()
        if scope["type"] != "http" or not self._debtors.any_owes(now) or scope["path"] == ALIVE:
            return None
        request = Request(scope)
        with suppress(Unauthorized):
            if account_of(self._services, request).is_staked:
                return None
        return await self._debtors.refusal(wiring.payer_of(request).name, now)


class CountAnswers:
    """Count answers by route and status. Plain ASGI: the framework's wrapper costs a task each."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app = app
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def counted(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                path = getattr(scope.get("route"), "path", "unknown")
                self._services.metrics.requests.labels(path, message["status"]).inc()
            await send(message)

        await self._app(scope, receive, counted)


def _describe(app: FastAPI) -> dict[str, Any]:
    """Return OpenAPI with the request bodies' schemas, which FastAPI does not see."""
    if app.openapi_schema is None:
        described = get_openapi(title=app.title, version=app.version, routes=app.routes)
        schemas = described["components"]["schemas"]
        for methods in described["paths"].values():
            for operation in methods.values():  # the framework would say a function's name
                operation["summary"], _, rest = operation["description"].partition("\n\n")
                if not rest:
                    del operation["description"]
        described_messages: list[type[Wire]] = [*_messages(), Verdict]
        for message in described_messages:
            schema = message.model_json_schema(ref_template=SCHEMAS + "{model}")
            for name, part in schema.pop("$defs", {}).items():
                schemas.setdefault(name, part)
            schemas.setdefault(message.__name__, schema)
        described["components"]["schemas"] = dict(sorted(schemas.items()))
        app.openapi_schema = described
    return app.openapi_schema


def _messages() -> list[type[Wire]]:
    found = [value for value in vars(messages).values() if isinstance(value, type)]
    return [value for value in found if issubclass(value, Wire) and value.model_fields]
