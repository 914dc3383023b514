"""What a verifier calls: take replays, return verdicts, sign fraud reports and epochs."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response

from orchestrator import budgets, epochs, replays, slashes
from orchestrator.auth import SignedIn
from orchestrator.wiring import (
    LARGE_JSON_BYTES,
    MAY_BE_EMPTY,
    TheAccount,
    TheRun,
    TheServices,
    answer,
    done,
    nothing_yet,
    read,
    takes,
    word,
)
from protocol.errors import Malformed
from protocol.messages import (
    AuditRequest,
    AuditTasks,
    EpochSignature,
    FraudReportSignature,
    VerdictReply,
)
from protocol.verdict import Verdict

router = APIRouter(tags=["verifier"])
Number = Annotated[int, Path(ge=0, lt=1 << 32)]


async def the_verifier(services: TheServices, run: TheRun, account: TheAccount) -> SignedIn:
    """Return who asks, one of the run's staked verifiers: nothing is read of who is none."""
    await replays.require_verifier(services, run, account.identity)
    return account


TheVerifier = Annotated[SignedIn, Depends(the_verifier)]


@router.post(
    "/runs/{run}/audits",
    response_model=AuditTasks,
    openapi_extra=takes(AuditRequest),
    responses=MAY_BE_EMPTY,
)
async def take_audits(
    services: TheServices, run: TheRun, account: TheVerifier, request: Request
) -> Response:
    """Seal what was found; groups to replay, and closed votes that await a verdict. 204 while there are none."""
    asked = await read(request, AuditRequest)
    if asked.seals:
        await budgets.charge(services, request, len(asked.seals))  # a signature each
    tasks = await replays.take(services, run, account, asked)
    return answer(tasks) if tasks else nothing_yet(services.config.retry_after_seconds)


@router.post(
    "/runs/{run}/audits/{work_digest}/verdict",
    response_model=VerdictReply,
    openapi_extra=takes(Verdict),
)
async def give_verdict(
    services: TheServices, run: TheRun, account: TheVerifier, work_digest: str, request: Request
) -> Response:
    """Count a signed verdict of the caller. May be repeated."""
    verdict = await read(request, Verdict, LARGE_JSON_BYTES)
    if verdict.work_digest != word(work_digest):
        raise Malformed("the verdict is about other work than the path names")
    if verdict.verifier != account.identity:
        raise Malformed(f"the verdict is {verdict.verifier}'s, the session {account.identity}'s")
    return answer(await replays.count(services, run, verdict))


@router.post(
    "/runs/{run}/fraud-reports/{work_digest}",
    status_code=204,
    openapi_extra=takes(FraudReportSignature),
)
async def sign_fraud_report(
    services: TheServices, run: TheRun, _: TheVerifier, work_digest: str, request: Request
) -> Response:
    """Add a verifier's signature; with enough, the slash is proposed on chain."""
    signed = await read(request, FraudReportSignature)
    if signed.work_digest != word(work_digest):
        raise Malformed("the signature is about other work than the path names")
    await slashes.add_signature(services, run, signed.work_digest, signed)
    return done()


@router.post(
    "/runs/{run}/epochs/{epoch}/signatures",
    status_code=204,
    openapi_extra=takes(EpochSignature),
)
async def sign_epoch(
    services: TheServices, run: TheRun, _: TheVerifier, epoch: Number, request: Request
) -> Response:
    """Add a verifier's signature of the header; with enough, the epoch is posted."""
    signed = await read(request, EpochSignature)
    await epochs.add_signature(services, run, epoch, signed)
    return done()
