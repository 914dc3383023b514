"""An attack tool: an engine that samples from other seeds than it is asked for.

It stands for the cheat that draws until it likes what it got, and makes the false groups by which an
operator tests verifiers: they read like honest ones, and only a replay tells. Honest workers never open
it.
"""

from collections.abc import Sequence
from dataclasses import replace

from protocol.policies.manifest import Weights
from rollout_worker.engines.base import Completion, Engine, Request


class ReseededEngine:
    """Wraps an engine; reports its class, samples with every seed moved by `shift`."""

    def __init__(self, inner: Engine, *, shift: int) -> None:
        self._inner = inner
        self._shift = shift
        self.name = inner.name

    def load(self, weights: Weights) -> None:
        self._inner.load(weights)

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        moved = [replace(r, seed=(r.seed + self._shift) % (1 << 63)) for r in requests]
        return self._inner.generate(moved)

    def close(self) -> None:
        self._inner.close()
