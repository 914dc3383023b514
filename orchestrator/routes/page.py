"""The page at `/` that a person's browser shows: one file, which reads the public routes as anybody may.

It needs nothing from elsewhere, so it works without the internet. Its policy lets run no script and no style but
its own, by their hashes, whatever a stranger named a run.
"""

import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

from fastapi import APIRouter
from starlette.responses import HTMLResponse

from orchestrator.wiring import AStranger

router = APIRouter(include_in_schema=False, dependencies=[AStranger])

PAGE = Path(__file__).with_name("page.html").read_text("utf-8")


def policy(page: str) -> str:
    """Return the Content-Security-Policy under which a page works as it is, and nothing else does."""

    def own(element: str) -> str:
        [text] = re.findall(f"<{element}>(.*?)</{element}>", page, re.DOTALL)
        return f"{element}-src 'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"

    nobody = ("base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'")
    return "; ".join(
        ("default-src 'none'", "connect-src 'self'", own("script"), own("style"), *nobody)
    )


HEADERS = {
    "content-security-policy": policy(PAGE),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


@router.get("/")
@router.get("/docs")
async def show() -> HTMLResponse:
    """Runs, how to join, a worker's standing, and the routes in words."""
    return HTMLResponse(PAGE, headers=HEADERS)
