"""How a route reads a request and writes an answer: bodies with limits, JSON of the protocol's types.

Bodies are read here and not by FastAPI, because a limit must hold before the bytes are in memory and
because strict types are parsed from JSON itself. The OpenAPI description is given by hand for that.
"""

import asyncio
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Path, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from orchestrator import budgets
from orchestrator.auth import SignedIn, account_of
from orchestrator.budgets import Payer
from orchestrator.run import Run
from orchestrator.services import Services
from protocol.errors import Malformed, TooLarge, Unauthorized
from protocol.wire import Wire

Message = TypeVar("Message", bound=Wire)
BYTES = "application/octet-stream"
SCHEMAS = "#/components/schemas/"

SMALL_JSON_BYTES = 1 << 17
"""What anyone may send of most messages: a thousand leases to return have 70 kB."""
LARGE_JSON_BYTES = 1 << 20
"""A run's spec, what a verifier or a paused worker measured."""


async def read_body(request: Request, most: int, remedy: str = "") -> bytes:
    """Return the body; raise `TooLarge`, with its remedy, before more than `most` bytes were kept.

    Raises `Malformed` where it breaks off, or is not there after `body_seconds`: a sender that drips
    bytes must not hold memory and a connection for ever.
    """
    coding = request.headers.get("content-encoding", "identity")
    if coding != "identity":
        raise Malformed(f"the body is coded as {coding[:40]}: send it without content-encoding")
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and int(stated) > most:
        raise TooLarge(f"the body has {stated} bytes, at most {most} are taken here{remedy}")
    seconds = services_of(request).config.limits.body_seconds
    parts, total = [], 0
    try:
        async with asyncio.timeout(seconds):
            async for part in request.stream():
                total += len(part)
                if total > most:
                    raise TooLarge(
                        f"the body has more than {most} bytes, the most taken here{remedy}"
                    )
                parts.append(part)
    except TimeoutError as error:
        raise Malformed(
            f"{total} bytes of the body came within {seconds:g} s: send it at once"
        ) from error
    except ClientDisconnect as error:
        raise Malformed(f"the body broke off after {total} bytes: send it again") from error
    return b"".join(parts)


async def read(
    request: Request, message: type[Message], most: int | None = SMALL_JSON_BYTES
) -> Message:
    """Return the body as a protocol message; raise `Malformed` naming the wrong field, at its price.

    Never more than the orchestrator's own setting is taken; where `most` is None, as much.
    """
    limit = services_of(request).config.limits.max_json_bytes
    if most is None or limit < most:
        remedy = ": have the orchestrator's operator raise limits.max_json_bytes"
        body = await read_body(request, limit, remedy)
    else:
        body = await read_body(request, most)
    try:
        return message.from_json(body)
    except Malformed:
        await budgets.charge(services_of(request), request, budgets.MALFORMED)
        raise


def answer(message: Wire | bytes, status: int = 200) -> Response:
    """Return a protocol message, or its JSON, as the response."""
    body = message if isinstance(message, bytes) else message.to_json()
    return Response(body, status, media_type="application/json")


MAY_BE_EMPTY: dict[int | str, dict[str, Any]] = {204: {"description": "Nothing yet: come back"}}


def nothing_yet(seconds: float) -> Response:
    """Return 204: well asked, come back after a while."""
    return Response(status_code=204, headers={"retry-after": f"{seconds:g}"})


def done() -> Response:
    return Response(status_code=204)


def takes(message: type[Wire]) -> dict[str, Any]:
    """Describe a JSON body for OpenAPI."""
    reference = {"$ref": SCHEMAS + message.__name__}
    content = {"application/json": {"schema": reference}}
    return {"requestBody": {"required": True, "content": content}}


def takes_bytes(what: str) -> dict[str, Any]:
    """Describe a binary body for OpenAPI."""
    content = {BYTES: {"schema": {"type": "string", "format": "binary"}}}
    return {"requestBody": {"required": True, "description": what, "content": content}}


def gives(media_type: str, *statuses: int) -> dict[str, Any]:
    """Describe answers that are no JSON for OpenAPI."""
    content = {media_type: {"schema": {"type": "string", "format": "binary"}}}
    described = {status: {"content": content} for status in statuses}
    return {"response_class": Response, "responses": described}


async def the_services(request: Request) -> Services:
    """Return the services. A coroutine, because the framework runs plain functions in threads."""
    return services_of(request)


def services_of(request: Request) -> Services:
    """Return the services that the application was made with."""
    services: Services = request.app.state.services
    return services


RunId = Annotated[int, Path(ge=0, lt=1 << 63)]


async def the_run(request: Request, run: RunId) -> Run:
    """Return the run of the path; raise `NotFound`."""
    return await services_of(request).run(run)


async def the_account(request: Request) -> SignedIn:
    """Return who asks, at the cost of one request of its payer's."""
    account = await signed_in(request)
    await budgets.spend(services_of(request), request, payer_of(request, account))
    return account


async def signed_in(request: Request) -> SignedIn:
    """Return whose token a request has; one that is none costs its address a request."""
    try:
        return account_of(services_of(request), request)
    except Unauthorized:
        await a_stranger(request)
        raise


async def a_stranger(request: Request) -> None:
    """Let an unauthenticated request pass, at the cost of one request of its address."""
    await budgets.spend(services_of(request), request, payer_of(request))


def payer_of(request: Request, account: SignedIn | None = None) -> Payer:
    """Return who pays for a request."""
    host = request.client.host if request.client else None
    return budgets.payer_of(services_of(request).config.limits, host, account)


def costs(requests: int) -> Any:
    """Let what a stranger asks count as so many more requests of its address."""

    async def charge(request: Request) -> None:
        await budgets.charge(services_of(request), request, requests)

    return Depends(charge)


def word(text: str) -> bytes:
    """Read a 0x-prefixed 32-byte word of a path."""
    digits = text.removeprefix("0x")
    if len(digits) != 64 or len(text) != 66 or set(digits.lower()) - set("0123456789abcdef"):
        raise Malformed(f"{text[:80]!r} is not 0x and 64 hex digits")
    return bytes.fromhex(digits)


TheServices = Annotated[Services, Depends(the_services)]
TheRun = Annotated[Run, Depends(the_run)]
TheAccount = Annotated[SignedIn, Depends(the_account)]
AStranger = Depends(a_stranger)
