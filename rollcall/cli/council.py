"""`rollcall council pause | unpause | resign`: the acts of an office's holder on chain.

Only the timelock appoints somebody: an OpenZeppelin `TimelockController`, for which tools exist.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from protocol.user_error import UserError
from rollcall.cli.desk import Desk, digest_of
from rollcall.cli.options import Reason, at_ledger, group
from rollcall.cli.times import moment

commands = group(
    "The council's offices: a guardian pauses what brings money in, an arbiter rules on appeals."
)


class Holder(StrEnum):
    GUARDIAN = "guardian"
    ARBITER = "arbiter"


@at_ledger(commands, "pause", "rollcall council pause 24 --reason 'claims can be paid twice'")
def pause(
    desk: Desk,
    hours: Annotated[int, typer.Argument(min=1, help="How long; at most 168, a week.")],
    reason: Reason,
) -> None:
    """As a guardian, stop new stakes, runs, workers and epochs; once in 30 days.

    Claims, withdrawals, disputes, appeals, halts and permits go on.
    """
    digest = digest_of(reason)
    desk.send(
        f"pause the ledger for {hours} h",
        *("pause", hours * 3_600, digest),
        done=lambda _: (
            f"the ledger is paused until {moment(desk.ledger.paused_until(), desk.now())}; `rollcall "
            "council unpause` ends it earlier\n"
            f"the chain keeps the reason's digest 0x{digest.hex()}: publish the text itself"
        ),
    )


@at_ledger(commands, "unpause", "rollcall council unpause")
def unpause(desk: Desk) -> None:
    """End a pause early, as a guardian. The next one may come no sooner for it."""
    desk.send("end the pause", "unpause", done="the ledger is open again")


@at_ledger(commands, "resign", "rollcall council resign guardian", asks=True)
def resign(
    desk: Desk,
    office: Annotated[Holder, typer.Argument(help="The office that this key gives up.")],
) -> None:
    """Give up this key's office at once, for instance when others may know the key."""
    from ledger.state import Office

    if not desk.ledger.holds(Office[office.name], desk.address):
        raise UserError(f"{desk.address} is no {office} of this ledger: it has nothing to give up")
    desk.ask(f"give up the office of {office}? Only the timelock appoints another")
    desk.send(
        f"resign as {office}",
        *("resign", Office[office.name]),
        done=f"{desk.address} is no {office} any more",
    )
