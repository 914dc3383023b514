"""A desk at the in-process ledger, and what it said."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from protocol.user_error import UserError
from rollcall.cli.desk import Desk, explained
from tests.stage.world import World


@dataclass
class Counter:
    """One person's commands, one after another."""

    desk: Desk
    lines: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, world: World, name: str, *, dry_run: bool = False) -> "Counter":
        lines: list[str] = []
        account = world.people[name]
        desk = Desk(
            world.by(name),
            account,
            say=lines.append,
            dry_run=dry_run,
            yes=True,
            clock=world.clock,
        )
        return cls(desk, lines)

    @property
    def said(self) -> str:
        return "\n".join(self.lines)


@contextmanager
def told(world: World, counter: Counter, pattern: str) -> Iterator[None]:
    """Expect one line that says what is wrong, and that nothing was sent."""
    sent = world.w3.eth.get_transaction_count(counter.desk.address)
    with pytest.raises(UserError, match=pattern) as raised, explained(counter.desk):
        yield
    assert "\n" not in str(raised.value)
    assert world.w3.eth.get_transaction_count(counter.desk.address) == sent, "something was sent"
