"""Sign-in: a wallet's EIP-4361 text for a bearer token."""

from fastapi import APIRouter, Request, Response

from orchestrator.auth import sign_in
from orchestrator.wiring import AStranger, TheMarket, answer, read, takes
from protocol.messages import Session, SessionRequest

router = APIRouter(tags=["session"], dependencies=[AStranger])


@router.post("/session", response_model=Session, openapi_extra=takes(SessionRequest))
async def open_session(services: TheMarket, request: Request) -> Response:
    """Exchange a signed text, used once, for a token."""
    asked = await read(request, SessionRequest, services.config.limits.max_json_bytes)
    domains = services.config.allowed_domains or (request.headers.get("host", ""),)
    return answer(await sign_in(services, asked, domains=domains))
