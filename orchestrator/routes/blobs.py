"""Blobs: immutable bytes by SHA-256, with ranges, so that a broken download goes on where it was."""

import re
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request, Response
from starlette.datastructures import Headers
from starlette.responses import StreamingResponse

from orchestrator import budgets
from orchestrator.auth import SignedIn
from orchestrator.run import Run
from orchestrator.services import Services
from orchestrator.wiring import (
    BYTES,
    AStranger,
    TheAccount,
    TheServices,
    done,
    gives,
    read_body,
    takes_bytes,
    word,
)
from protocol.errors import Forbidden, NotFound
from protocol.messages import ErrorBody
from protocol.policies.manifest import MAX_CHUNK_BYTES

router = APIRouter(tags=["blobs"])

RANGE = re.compile(r"bytes=([0-9]{0,99})-([0-9]{0,99})", re.IGNORECASE)
PIECE_BYTES = 1 << 17
IMMUTABLE = "public, max-age=31536000, immutable"


@router.get("/blobs/{digest}", dependencies=[AStranger], **gives(BYTES, 200, 206))
async def get_blob(services: TheServices, digest: str, request: Request) -> Response:
    """The bytes, or the part that a `Range: bytes=first-last` header asks for; any other range is ignored."""
    name = word(digest)
    etag = f'"0x{name.hex()}"'
    headers = {"cache-control": IMMUTABLE, "accept-ranges": "bytes", "etag": etag}
    size = await services.blobs.size(name)
    if size is None:
        raise NotFound(f"no blob {digest} here: ask for a digest that a manifest names")
    if _is_known(request.headers.get("if-none-match", ""), etag):
        return Response(status_code=304, headers=headers)
    part = _part(request.headers, etag, size)
    start, end = part or (0, size)
    if part and start >= end:
        body = ErrorBody(
            code="malformed", message=f"the blob has {size} bytes: ask for some of them"
        )
        headers["content-range"] = f"bytes */{size}"
        return Response(body.to_json(), 416, headers, media_type="application/json")
    if part:
        headers["content-range"] = f"bytes {start}-{end - 1}/{size}"
    headers["content-length"] = str(end - start)
    await budgets.charge(services, request, (end - start) // budgets.PART_BYTES)
    return StreamingResponse(
        _pieces(services, name, start, end),
        206 if part else 200,
        headers,
        media_type="application/octet-stream",
    )


async def _pieces(services: Services, digest: bytes, start: int, end: int) -> AsyncIterator[bytes]:
    """Read as fast as it is taken: a reader that stops reading must not hold a blob in memory."""
    for first in range(start, end, PIECE_BYTES):
        yield await services.blobs.get_range(digest, first, min(end, first + PIECE_BYTES))


@router.put(
    "/blobs/{digest}", status_code=204, openapi_extra=takes_bytes("Bytes with this SHA-256")
)
async def put_blob(
    services: TheServices, digest: str, account: TheAccount, request: Request
) -> Response:
    """Store at most 4 MiB: the trainers of the runs served here, for policies that they will publish."""
    run = await _require_trained(services, account)
    name, body = word(digest), await read_body(request, MAX_CHUNK_BYTES)
    if await services.blobs.size(name) is None:
        limits, store = services.config.limits, services.store.runs
        await store.count_unused(run.spec.trainer, name, len(body), most=limits.max_unused_bytes)
        await store.count_upload(
            *(run.run_id, len(body)),
            most_of_run=limits.max_trainer_bytes_per_day,
            most_in_all=limits.max_stored_bytes_per_day,
            num_runs=len(services.runs),
        )
    await services.blobs.put(name, body)
    return done()


async def _require_trained(services: Services, account: SignedIn) -> Run:
    """Return the first run that an account trains; raise `Forbidden` where there is none."""
    await services.recover()
    for run in services.runs.values():
        if run.spec.trainer in (account.identity, account.signer):
            return run
    raise Forbidden(
        f"{account.identity} is no trainer of a run served here: register the run first"
    )


def _is_known(tags: str, etag: str) -> bool:
    """Return whether an If-None-Match names this blob (RFC 9110, 13.1.2): its reader has the bytes."""
    return any(tag.strip().removeprefix("W/") in ("*", etag) for tag in tags.split(","))


def _part(headers: Headers, etag: str, size: int) -> tuple[int, int] | None:
    """Return where the part begins and ends that is asked for; None for the whole, as RFC 9110 (14.2) has it
    of a range that is not understood, of several, and of another version's. Beyond the end is no part.
    """
    asked = RANGE.fullmatch(headers.get("range", "").strip())
    if asked is None or not size or headers.get("if-range", etag) != etag:
        return None
    first, last = asked.groups()
    if first and last and int(last) < int(first):
        return None
    if first:
        return int(first), min(size, int(last) + 1) if last else size
    return (max(0, size - int(last)), size) if last else None
