"""What the trainer calls: take the groups of a step, say that they are spent, publish a policy."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from orchestrator import policies, training
from orchestrator.auth import require_role
from orchestrator.wiring import (
    MAY_BE_EMPTY,
    TheAccount,
    TheRun,
    TheServices,
    answer,
    done,
    nothing_yet,
    read,
    takes,
)
from protocol.messages import Batch, BatchRequest, PolicyPublication

router = APIRouter(tags=["trainer"])


@router.post(
    "/runs/{run}/batches",
    response_model=Batch,
    openapi_extra=takes(BatchRequest),
    responses=MAY_BE_EMPTY,
)
async def take_batch(
    services: TheServices, run: TheRun, account: TheAccount, request: Request
) -> Response:
    """The batch of a step, the same one every time; 204 while too few groups are ready."""
    require_role(account, (run.spec.trainer,), "trainer")
    asked = await read(request, BatchRequest)
    batch = await training.take(services, run, asked.step)
    return answer(batch) if batch else nothing_yet(services.config.retry_after_seconds)


@router.post("/runs/{run}/batches/{step}/ack", status_code=204)
async def ack_batch(
    services: TheServices,
    run: TheRun,
    account: TheAccount,
    step: Annotated[int, Path(ge=0, lt=1 << 32)],
) -> Response:
    """The step is durable at the trainer: its groups are spent. May be repeated."""
    require_role(account, (run.spec.trainer,), "trainer")
    await training.ack(services, run, step)
    return done()


@router.post("/runs/{run}/policies", status_code=204, openapi_extra=takes(PolicyPublication))
async def publish(
    services: TheServices, run: TheRun, account: TheAccount, request: Request
) -> Response:
    """The next version, its blobs uploaded before. The same manifest again changes nothing."""
    require_role(account, (run.spec.trainer,), "trainer")
    asked = await read(request, PolicyPublication, most=None)
    await policies.publish(services, run, asked.signed)
    return done()
