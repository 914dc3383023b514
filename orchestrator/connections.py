"""Connections as they are held: few for one network address, and closed if no request comes over them.

uvicorn counts from a request's first answer on. What a stranger holds before that costs a file descriptor,
of which a process has a thousand: a head that drips, or never comes, would keep everybody else out.
"""

import asyncio
from collections import Counter
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from orchestrator.budgets import block_of
from orchestrator.config import Limits


def limited(limits: Limits) -> type[asyncio.Protocol]:
    """Return the protocol that one server speaks over each of its connections."""
    held: Counter[str] = Counter()

    class Limited(HttpToolsProtocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._wait: asyncio.TimerHandle | None = None
            self._block = block_of(self.client[0] if self.client else "unknown")
            held[self._block] += 1
            if held[self._block] > limits.max_connections_per_address:
                transport.abort()
            else:
                self._await_head()

        def connection_lost(self, exc: Exception | None) -> None:
            held[self._block] -= 1
            if not held[self._block]:
                del held[self._block]
            self._had_head()
            super().connection_lost(exc)

        def on_headers_complete(self) -> Any:
            self._had_head()
            super().on_headers_complete()

        def on_response_complete(self) -> None:
            self._await_head()
            super().on_response_complete()

        def _await_head(self) -> None:
            self._had_head()
            self._wait = self.loop.call_later(limits.head_seconds, self.transport.abort)

        def _had_head(self) -> None:
            if self._wait is not None:
                self._wait.cancel()

    return Limited
