"""The place where a server listens: refused in one line if it is taken, and told once it is served."""

import errno
import logging
import socket
from collections.abc import Collection

import structlog

from orchestrator.services import Services
from orchestrator.store.outage import Away
from protocol.errors import MarketError
from protocol.user_error import UserError


def require_named(host: str, domains: Collection[str]) -> None:
    """Raise `UserError` where others than this machine may sign in, under whatever name they say.

    Another site could pass on what a wallet signed for it, with the Host header to match.
    """
    if not domains and host not in ("127.0.0.1", "localhost", "::1"):
        raise UserError(
            f"listening on {host} without allowed_domains, a sign-in for any site would count here: "
            "name the sites served, as --set \"allowed_domains=['market.example']\""
        )


def require_free(host: str, port: int) -> None:
    """Raise `UserError` with the remedy where nobody can listen at this address."""
    try:
        family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[
            0
        ]
        with socket.socket(family, kind, number) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(1)
    except (OSError, UnicodeError) as error:
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            why = "another program listens there: stop it, or take another port with --set port=…"
        else:
            why = f"{getattr(error, 'strerror', '') or 'it is no name'}: set host and port to an address of this machine"
        raise UserError(f"cannot listen on {url_of(host, port)}: {why}") from error


async def tell_listening(host: str, listener: socket.socket, services: Services) -> None:
    """Say where the server listens and which runs it serves; its own log lines then look like all others."""
    uvicorn_log = logging.getLogger("uvicorn")
    uvicorn_log.handlers.clear()
    uvicorn_log.propagate = True
    try:
        await services.recover()
        runs = ", ".join(map(str, sorted(services.runs))) or "none yet: `rollcall launch` makes one"
    except Away:
        runs = "not known yet"  # the log has said why
    except MarketError as error:
        runs = f"not known yet: {error.message}"
    at = url_of(host, listener.getsockname()[1])
    structlog.get_logger().info("listening", at=at, serving_runs=runs)


def url_of(host: str, port: int) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
