"""Policies: the trainer publishes, anyone reads the signed manifests and what made each version."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from orchestrator import policies
from orchestrator.auth import require_role
from orchestrator.wiring import AStranger, TheAccount, TheMarket, TheRun, answer, done, read, takes
from protocol.messages import PolicyPublication
from protocol.policies.manifest import SignedManifest

router = APIRouter(tags=["policies"])
Version = Annotated[int, Query(ge=0, lt=1 << 32)]
MOST_RECORDS = 1024
"""Versions that one request may ask the records of."""


@router.post("/runs/{run}/policies", status_code=204, openapi_extra=takes(PolicyPublication))
async def publish(
    services: TheMarket, run: TheRun, account: TheAccount, request: Request
) -> Response:
    """The next version, its blobs uploaded before. The same manifest again changes nothing."""
    require_role(account, (run.spec.trainer,), "trainer")
    asked = await read(request, PolicyPublication, services.config.limits.max_json_bytes)
    await policies.publish(services, run, asked.signed)
    return done()


@router.get(
    "/runs/{run}/policies/{version}", response_model=SignedManifest, dependencies=[AStranger]
)
async def get_policy(services: TheMarket, run: TheRun, version: str) -> Response:
    """A version's manifest, by number or `latest`."""
    return answer(await policies.manifest_of(services, run, version))


@router.get("/runs/{run}/lineage", dependencies=[AStranger])
async def get_lineage(
    services: TheMarket, run: TheRun, first: Version = 1, last: Version = MOST_RECORDS
) -> Response:
    """Canonical `Records` of what made versions `first` … `last`, as many as one answer holds."""
    last = min(last, first + MOST_RECORDS - 1)
    records = await policies.records_of(services, run, first, last)
    return Response(records.canonical(), media_type="application/octet-stream")
