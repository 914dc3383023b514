"""Sign-in: a wallet's EIP-4361 text for a bearer token."""

from fastapi import APIRouter, Request, Response

from orchestrator.auth import sign_in
from orchestrator.wiring import AStranger, TheMarket, answer, read, takes
from protocol.messages import Session, SessionRequest

router = APIRouter(tags=["session"], dependencies=[AStranger])


@router.post("/session", response_model=Session, openapi_extra=takes(SessionRequest))
async def open_session(market: TheMarket, request: Request) -> Response:
    """Exchange a signed text, used once, for a token."""
    asked = await read(request, SessionRequest, market.config.limits.max_json_bytes)
    domains = market.config.allowed_domains or (request.headers.get("host", ""),)
    return answer(await sign_in(market, asked, domains=domains))
