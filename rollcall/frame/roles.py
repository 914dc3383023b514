"""Start one role: its settings from file and command line, its key, its log form, then its `main`.

A role names the places of its config and its `main(config, key)`, and is imported only when it starts,
so that a worker needs no orchestrator installed.
"""

import importlib
import inspect
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import typer

from protocol.user_error import UserError

RECURSION_LIMIT = 1000
"""CPython's own. py_ecc, which comes with eth-account, raises it to 100,000: then deeply nested JSON of a stranger
overflows the C stack, and the process is gone, where it would have been refused."""
OURS = ("orchestrator", "rollout_worker", "trainer", "contracts")


@dataclass(frozen=True, slots=True)
class Role:
    """The places of a role's parts, as `module:name`.

    Example: Role("trainer", "trainer.config:TrainerConfig", "trainer.main:main")
    """

    name: str
    config: str
    entry: str
    has_processes: bool = False
    """Whether it may start more of its kind: its `main` is then told what each does first."""
    has_duties: bool = False
    """Whether it answers on chain for what it signed, wherever the market is: it looks at the market after that."""

    def start(self, path: Path | None, assign: Sequence[str] | None, print_config: bool) -> None:
        """Run the role until it ends; with `print_config` print its settings instead."""
        from rollcall.frame.folder import hold
        from rollcall.frame.keys import take_key
        from rollcall.frame.logs import configure_logging

        settings = settings_of(self.config, path, assign, print_config)
        key = take_key()
        _held = hold(settings)  # until the role ends
        configure_logging(self.name)
        at = getattr(settings, "orchestrator", "")
        if at and not self.has_duties:
            from client.look import look

            look(at)  # a mistyped address is said before libraries are loaded for half a minute
        main = _load(self.entry)
        begin = partial(_begin, self.name)
        begin()
        running = main(settings, key, *((begin,) if self.has_processes else ()))
        if inspect.iscoroutine(running):
            import asyncio

            asyncio.run(running)


def _begin(role: str) -> None:
    """Do what each process of a role does first, once its modules are there."""
    from rollcall.frame.logs import configure_logging

    configure_logging(role)
    sys.setrecursionlimit(RECURSION_LIMIT)


def settings_of(
    config: str, path: Path | None, assign: Sequence[str] | None, print_config: bool
) -> Any:
    """Read a config; with `print_config` print it as TOML and end the command."""
    from rollcall.frame.settings import load, template, to_toml

    model = _load(config)
    if print_config:
        has_values = path is not None or bool(assign)
        typer.echo(
            to_toml(load(model, path, assign or ())) if has_values else template(model), nl=False
        )
        raise typer.Exit(0)
    return load(model, path, assign or ())


def _load(place: str) -> Any:
    module, _, name = place.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        missing = str(error.name)
        if missing.split(".", maxsplit=1)[0] in OURS:
            raise
        raise UserError(
            f"this command needs {missing}, which is not installed: run `make setup`, or "
            "pip install 'rollcall[orchestrator,worker,trainer]'"
        ) from error
