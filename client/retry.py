"""How long to wait before a request is made again: doubling, capped, jittered."""

import random
from collections.abc import Iterator
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Seconds = Annotated[float, Field(gt=0)]


class RetryConfig(BaseModel):
    """Back-off while the orchestrator cannot be reached or is busy."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    first_seconds: Seconds = 0.1
    """Delay after the first failure; doubles with each further one, with jitter."""
    most_seconds: Seconds = 5.0
    """The longest delay."""
    timeout_seconds: Seconds = 20.0
    """Silence on one connection after which it counts as lost."""


class Backoff:
    """The delays of one retried request: doubling, capped, each drawn from its upper half.

    Jitter keeps a thousand workers from returning in the same instant after a restart.
    """

    def __init__(self, config: RetryConfig, draw: random.Random) -> None:
        self._config = config
        self._draw = draw

    def delays(self) -> Iterator[float]:
        """Yield an endless series of delays."""
        ceiling = self._config.first_seconds
        while True:
            yield ceiling * self._draw.uniform(0.5, 1.0)
            ceiling = min(2 * ceiling, self._config.most_seconds)
