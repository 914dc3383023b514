"""Blobs: immutable bytes by SHA-256, with ranges, so that a broken download goes on where it was."""

import re
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request, Response
from starlette.responses import StreamingResponse

from orchestrator.auth import SignedIn
from orchestrator.services import Services
from orchestrator.wiring import (
    AStranger,
    TheAccount,
    TheServices,
    done,
    read_body,
    takes_bytes,
    word,
)
from protocol.errors import Forbidden, Malformed, NotFound
from protocol.policies.manifest import MAX_CHUNK_BYTES

router = APIRouter(tags=["blobs"])

RANGE = re.compile(r"bytes=(\d{1,15})-(\d{0,15})")
PIECE_BYTES = 1 << 17
IMMUTABLE = "public, max-age=31536000, immutable"


@router.get("/blobs/{digest}", dependencies=[AStranger])
async def get_blob(services: TheServices, digest: str, request: Request) -> Response:
    """The bytes, or the part that a `Range: bytes=a-b` header asks for."""
    name = word(digest)
    headers = {"cache-control": IMMUTABLE, "accept-ranges": "bytes", "etag": f'"{digest}"'}
    size = await services.blobs.size(name)
    if size is None:
        raise NotFound(f"no blob {digest} here: ask for a digest that a manifest names")
    asked = request.headers.get("range")
    start, end = (0, size) if asked is None else _range(asked, size)
    if asked is not None:
        if start >= size:
            return Response(status_code=416, headers={"content-range": f"bytes */{size}"})
        headers["content-range"] = f"bytes {start}-{end - 1}/{size}"
    headers["content-length"] = str(end - start)
    return StreamingResponse(
        _pieces(services, name, start, end),
        200 if asked is None else 206,
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
    """Store at most 4 MiB: the trainers, verifiers and operators of the runs served here."""
    most, name = await _require_known(services, account), word(digest)
    body = await read_body(request, MAX_CHUNK_BYTES)
    if await services.blobs.size(name) is None:
        await services.store.runs.count_upload(account.identity, len(body), most=most)
    await services.blobs.put(name, body)
    return done()


async def _require_known(services: Services, account: SignedIn) -> int:
    """Return how many bytes a day the account may store; raise `Forbidden` where it may none."""
    await services.recover()
    limits, names = services.config.limits, {account.identity, account.signer}
    if any(run.spec.trainer in names for run in services.runs.values()):
        return limits.max_trainer_bytes_per_day
    for run in services.runs.values():
        if names & {run.chain.operator, *run.chain.verifiers}:
            return limits.max_upload_bytes_per_day
    raise Forbidden(
        f"{account.identity} is no trainer, verifier or operator of a run served here: "
        "register the run first"
    )


def _range(text: str, size: int) -> tuple[int, int]:
    found = RANGE.fullmatch(text.strip())
    if found is None:
        raise Malformed(f"range {text[:80]!r}: ask for one range, bytes=first-last")
    start = int(found[1])
    end = min(size, int(found[2]) + 1) if found[2] else size
    if found[2] and end <= start < size:
        raise Malformed(f"range {text[:80]!r} ends before it begins")
    return start, end
