"""Epochs: what is to be signed, who signed, where it stands on chain."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from orchestrator import epochs, replays
from orchestrator.wiring import AStranger, TheAccount, TheMarket, TheRun, answer, done, read, takes
from protocol.messages import EpochInfo, EpochSignature

router = APIRouter(tags=["epochs"])
Number = Annotated[int, Path(ge=0, lt=1 << 32)]


@router.get("/runs/{run}/epochs/{epoch}", response_model=EpochInfo, dependencies=[AStranger])
async def get_epoch(services: TheMarket, run: TheRun, epoch: Number) -> Response:
    """An epoch's stage, the blob with every contribution, and the digest verifiers sign."""
    return answer(await epochs.epoch_info(services, run, epoch))


@router.post(
    "/runs/{run}/epochs/{epoch}/signatures",
    status_code=204,
    openapi_extra=takes(EpochSignature),
)
async def sign_epoch(
    services: TheMarket, run: TheRun, account: TheAccount, epoch: Number, request: Request
) -> Response:
    """Add a verifier's signature of the header; with enough, the epoch is posted."""
    await replays.require_verifier(services, run, account.identity)
    signed = await read(request, EpochSignature, services.config.limits.max_json_bytes)
    await epochs.add_signature(services, run, epoch, signed)
    return done()
