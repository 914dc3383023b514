"""Make an environment by name. A new one is a file of its own and one line here."""

from collections.abc import Callable
from functools import partial

from protocol.environments.arithmetic import Arithmetic
from protocol.environments.base import Config, Environment
from protocol.environments.generated import Generated, allowed_generators
from protocol.environments.gsm8k import Gsm8k
from protocol.errors import NotFound


def factories() -> dict[str, Callable[[Config], Environment]]:
    """Return every environment's constructor by its name."""
    generated = {name: partial(Generated, name) for name in allowed_generators()}
    return {"arithmetic": Arithmetic, "gsm8k": Gsm8k, **generated}


def environment(name: str, config: Config) -> Environment:
    """Make the environment; `NotFound` for a name that is not one, `Malformed` for its settings."""
    known = factories()
    if name not in known:
        raise NotFound(f"no environment {name!r}; there are {', '.join(sorted(known))}")
    return known[name](config)
