"""`rollcall appeal`: list accusations, appeal one, or rule on one as the arbiter.

Accusations come from the chain's events and views alone. The reason of an appeal is a text that the
appellant publishes; its digest goes on chain.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from protocol.user_error import UserError
from rollcall.cli.desk import Desk, digest_of, word_of
from rollcall.cli.options import TRUST, Worker, at_ledger
from rollcall.cli.times import moment

if TYPE_CHECKING:
    from audit.accusations import Accusation
    from ledger.state import DisputeKind, SlashState

AN_ID = "an id (`rollcall appeal` lists them)"

commands = typer.Typer()


class Ruling(StrEnum):
    GUILTY = "guilty"
    INNOCENT = "innocent"


@at_ledger(
    *(commands, "appeal", "rollcall appeal", "rollcall appeal 0x… --reason 'replay it on an A100'"),
    panel=TRUST,
)
def appeal(
    desk: Desk,
    accusation: Annotated[
        str | None, typer.Argument(metavar="ID", help="Its id; none lists accusations.")
    ] = None,
    reason: Annotated[
        str | None,
        typer.Option("--reason", help="Appeal with this text, whose digest goes on chain."),
    ] = None,
    rule: Annotated[
        Ruling | None,
        typer.Option("--rule", help="As the arbiter: rule on an appeal or an escalated epoch."),
    ] = None,
    settle: Annotated[
        bool,
        typer.Option("--settle", help="Close one if its time is up. Anyone may."),
    ] = False,
    everyone: Annotated[
        bool, typer.Option("--everyone", help="List all accusations, not only one's own.")
    ] = False,
    worker: Worker = None,
) -> None:
    """List accusations against a worker, appeal one, or rule on one as the arbiter.

    A quorum's report locks stake at once. The stake is taken only if nobody appeals in time or the
    arbiter rules guilty. An arbiter's silence acquits.
    """
    if (reason is not None) + (rule is not None) + settle != (accusation is not None):
        raise UserError(
            "give an ID with one of --reason, --rule and --settle; or none of them to list"
        )
    if accusation is None:
        _show(desk, None if everyone else desk.whose(worker))
    elif reason is not None:
        _appeal(desk, accusation, reason)
    elif rule is not None:
        _rule(desk, accusation, rule)
    else:
        _settle(desk, accusation)


def _show(desk: Desk, who: str | None) -> None:
    """Print the accusations against `who`, or all, with possible actions and their deadlines."""
    from audit.accusations import Accusations

    found = Accusations(desk.ledger, who).look()
    if not found:
        desk.say(f"nobody accuses {who}" if who else "nobody is accused")
        return
    for accusation in found:
        desk.say(f"0x{accusation.slash_id.hex()}")
        for line in _lines(desk, accusation):
            desk.say(f"  {line}")


def _appeal(desk: Desk, text: str, reason: str) -> None:
    """Appeal one accusation, as the accused or one of its hot keys."""
    from ledger.state import SlashStatus

    slash_id = word_of(text, AN_ID)
    state = _slash(desk, slash_id)
    if state.status is not SlashStatus.PROPOSED:
        raise UserError(f"accusation {text} is {state.status.name.lower()}: it cannot be appealed")
    if desk.now() >= state.deadline:
        raise UserError(
            f"the time to appeal {text} ended at {moment(state.deadline, desk.now())}: anyone may "
            "have it executed now"
        )
    digest = digest_of(reason)
    desk.send(
        f"appeal {text} for 0x{digest.hex()}",
        *("appeal_slash", slash_id, digest),
        done=lambda _: (
            f"appealed; publish the reason's text, whose digest 0x{digest.hex()} is on chain. Unless "
            f"the arbiter rules by {moment(desk.ledger.slash(slash_id).deadline, desk.now())}, you "
            "are acquitted"
        ),
    )


def _rule(desk: Desk, text: str, ruling: Ruling) -> None:
    """Rule on an appeal, or on an escalated epoch (guilty: it is fraud), as the arbiter."""
    from ledger.state import SlashStatus

    word = word_of(text, AN_ID)
    state = desk.ledger.slash(word)
    if state.status is SlashStatus.NONE:
        _require_escalation(desk, text, word)
        method = "rule"
    elif state.status is SlashStatus.APPEALED:
        method = "resolve_appeal"
    else:
        raise UserError(
            f"accusation {text} is {state.status.name.lower()}: the arbiter rules on appeals only"
        )
    desk.send(
        f"rule {text} {ruling}",
        *(method, word, ruling is Ruling.GUILTY),
        done=f"{text} is ruled {ruling}",
    )


def _settle(desk: Desk, text: str) -> None:
    """Close an accusation or dispute if its time is up. Anyone may."""
    from ledger.state import SlashStatus

    word = word_of(text, AN_ID)
    state = desk.ledger.slash(word)
    if state.status is SlashStatus.NONE:
        _require_dispute(desk, text, word)
        what, method = f"close dispute {text}", "expire"
    elif state.status is SlashStatus.PROPOSED:
        what, method = f"execute {text}", "execute_slash"
    elif state.status is SlashStatus.APPEALED:
        what, method = f"acquit {text}", "expire_appeal"
    else:
        raise UserError(f"accusation {text} is {state.status.name.lower()} already")
    desk.send(what, method, word, done=f"{text} is closed")


def _lines(desk: Desk, accusation: Accusation) -> list[str]:
    from ledger.state import SlashStatus

    state, now = accusation.state, desk.now()
    lines = [
        f"{state.worker} in run {state.run_id}: {state.status.name.lower()}, "
        f"{desk.token.show(state.held)} held",
        f"work 0x{accusation.work_digest.hex()}, evidence 0x{state.evidence_digest.hex()}",
    ]
    if state.status is SlashStatus.PROPOSED:
        when = moment(state.deadline, now)
        lines.append(
            f"to be appealed until {when}: rollcall appeal 0x{accusation.slash_id.hex()} --reason …"
            if now < state.deadline
            else f"not appealed by {when}: anyone may have it executed, with --settle"
        )
    if state.status is SlashStatus.APPEALED:
        when = moment(state.deadline, now)
        lines.append(
            f"the arbiter rules until {when}; silence acquits"
            if now < state.deadline
            else f"the arbiter kept silent until {when}: anyone may have it acquitted, with --settle"
        )
    if accusation.appeal is not None:
        lines.append(f"appealed for 0x{accusation.appeal.hex()}")
    return lines


def _slash(desk: Desk, slash_id: bytes) -> SlashState:
    from ledger.state import SlashStatus

    state = desk.ledger.slash(slash_id)
    if state.status is SlashStatus.NONE:
        raise UserError(
            f"there is no accusation 0x{slash_id.hex()}: `rollcall appeal` lists those against you"
        )
    return state


def _require_dispute(desk: Desk, text: str, word: bytes) -> DisputeKind:
    from ledger.state import DisputeKind, DisputeStatus

    dispute = desk.ledger.dispute(word)
    if dispute.kind is DisputeKind.NONE:
        raise UserError(f"there is neither an accusation nor a dispute {text} on this ledger")
    if dispute.status is not DisputeStatus.OPEN:
        raise UserError(f"dispute {text} is {dispute.status.name.lower()} already")
    return DisputeKind(dispute.kind)


def _require_escalation(desk: Desk, text: str, word: bytes) -> None:
    from ledger.state import DisputeKind

    kind = _require_dispute(desk, text, word)
    if kind is not DisputeKind.ESCALATION:
        raise UserError(f"dispute {text} is about {kind.name.lower()}: no arbiter rules on it")
