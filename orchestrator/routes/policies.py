"""Policies: the trainer publishes, anyone reads the signed manifests."""

from fastapi import APIRouter, Request, Response

from orchestrator import publishing
from orchestrator.auth import require_role
from orchestrator.wiring import AStranger, TheAccount, TheMarket, TheRun, answer, done, read, takes
from protocol.messages import PolicyPublication
from protocol.policy import SignedManifest

router = APIRouter(tags=["policies"])


@router.post("/runs/{run}/policies", status_code=204, openapi_extra=takes(PolicyPublication))
async def publish(
    market: TheMarket, run: TheRun, account: TheAccount, request: Request
) -> Response:
    """The next version, its blobs uploaded before. The same manifest again changes nothing."""
    require_role(account, (run.spec.trainer,), "trainer")
    asked = await read(request, PolicyPublication, market.config.limits.max_json_bytes)
    await publishing.publish(market, run, asked.signed)
    return done()


@router.get(
    "/runs/{run}/policies/{version}", response_model=SignedManifest, dependencies=[AStranger]
)
async def get_policy(market: TheMarket, run: TheRun, version: str) -> Response:
    """A version's manifest, by number or `latest`."""
    return answer(await publishing.manifest_of(market, run, version))
