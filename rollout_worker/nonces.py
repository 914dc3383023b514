"""Whether another program leases with this key: nonces ascend by one, so what is missing went elsewhere."""

from collections.abc import Sequence

import structlog

MANY_GAPS = 3
"""A lost answer makes a gap too, now and then."""


class NonceGaps:
    """The nonces that one process was leased, answer by answer."""

    def __init__(self) -> None:
        self._last: int | None = None
        self._num_gaps = 0

    def saw(self, nonces: Sequence[int]) -> None:
        """Take in an answer's nonces; say it once where too many were missing."""
        if not nonces:
            return
        last, self._last = self._last, max(nonces)
        if last is None or min(nonces) <= last + 1:
            return
        self._num_gaps += 1
        if self._num_gaps == MANY_GAPS:
            structlog.get_logger().warning(
                "another program leases with this key",
                nonces_elsewhere=f"{last + 1} to {min(nonces) - 1}",
                remedy="give each worker a key of its own: `rollcall key` makes one, `rollcall signer add` "
                "binds it to this identity",
            )
