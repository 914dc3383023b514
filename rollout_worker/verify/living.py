"""A replayer that is opened anew where it died, and says so where that does not help.

A group on which a replay fails proves nothing about the engine: whoever sent it may have meant that. So
the engine is asked for a group that it replayed before.
"""

from collections.abc import Callable, Sequence

import structlog

from protocol.policies.manifest import Weights
from protocol.rollout import Lease, Rollout
from protocol.user_error import UserError
from rollout_worker.replay.measure import Findings, Replayer

FAULTS = (RuntimeError, MemoryError)
"""torch raises RuntimeErrors, for want of memory as for a lost device."""

Part = tuple[Lease, Sequence[Rollout]]


class EngineDead(UserError):
    """No engine of this process replays any more."""


class LivingReplayer:
    """Opens its replayer with the first weights, and again where it died."""

    def __init__(self, open_model: Callable[[Weights], Replayer]) -> None:
        self._open = open_model
        self._model: Replayer | None = None
        self._loaded: tuple[bytes, Weights] = (b"", {})
        self._proven: Sequence[Part] = ()
        """What was replayed well last."""

    def load(self, digest: bytes, weights: Weights) -> None:
        """Bring the weights under this digest."""
        if self._model is None:
            self._model = self._open(weights)
        if self._loaded[0] != digest:
            self._model.load(weights)
            self._loaded = (digest, weights)

    def findings(self, parts: Sequence[Part]) -> list[list[Findings]]:
        """Replay; raise what was raised where only these groups cannot be replayed, else `EngineDead`."""
        assert self._model is not None
        try:
            found = self._model.findings(parts)
        except FAULTS:
            if not self._reopened():
                raise
            found = self._model.findings(parts)
        self._proven = parts[:1]
        return found

    def _reopened(self) -> bool:
        """Open another engine where this one died; return whether it had."""
        if not self._proven or self._fault() is None:
            return False
        structlog.get_logger().error("replay engine died", remedy="another is opened")
        self._model, (digest, weights) = None, self._loaded
        self._loaded = (b"", {})
        try:
            self.load(digest, weights)
            fault = self._fault()
        except (*FAULTS, ValueError, OSError) as error:
            fault = error
        if fault is not None:
            raise EngineDead(
                f"no engine replays any more, not even a group that it replayed before ({fault}): look "
                "after the device and its memory (`rollcall doctor`), and start the verifier again"
            )
        return True

    def _fault(self) -> Exception | None:
        assert self._model is not None
        try:
            self._model.findings(self._proven)
        except FAULTS as error:
            return error
        return None
