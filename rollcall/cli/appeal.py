"""`rollcall appeal`: what one stands accused of, appealing it, and the arbiter's ruling.

Found from the chain's events and views alone. The reason of an appeal is a text that the appellant
publishes; its digest goes on chain.
"""

from audit.accusations import Accusation, Accusations
from ledger.state import DisputeKind, DisputeStatus, SlashState, SlashStatus
from protocol.user_error import UserError
from rollcall.cli.desk import Desk, address_of_text
from rollcall.cli.running import digest_of
from rollcall.cli.times import moment

WORD_DIGITS = 64


def show(desk: Desk, *, worker: str | None, everyone: bool) -> None:
    """Print accusations, and what can be done about each until when."""
    who = None if everyone else address_of_text(worker) if worker else desk.identity()
    found = Accusations(desk.ledger, who).look()
    if not found:
        desk.say(f"nobody accuses {who}" if who else "nobody is accused")
        return
    for accusation in found:
        desk.say(f"0x{accusation.slash_id.hex()}")
        for line in _lines(desk, accusation):
            desk.say(f"  {line}")


def appeal(desk: Desk, text: str, reason: str) -> None:
    """Appeal one accusation, as the accused or one of its hot keys."""
    slash_id = word_of(text)
    state = _slash(desk, slash_id)
    if state.status is not SlashStatus.PROPOSED:
        raise UserError(f"accusation {text} is {state.status.name.lower()}: it cannot be appealed")
    if desk.now() >= state.deadline:
        raise UserError(
            f"the time to appeal {text} ended at {moment(state.deadline, desk.now())}: anyone may "
            "have it executed now"
        )
    digest = digest_of(reason)
    desk.send(f"appeal {text} for 0x{digest.hex()}", "appeal_slash", slash_id, digest)
    if not desk.dry_run:
        until = moment(desk.ledger.slash(slash_id).deadline, desk.now())
        desk.say(
            f"appealed; publish the reason's text, whose digest 0x{digest.hex()} is on chain. Unless "
            f"the arbiter rules by {until}, you are acquitted"
        )


def rule(desk: Desk, text: str, is_guilty: bool) -> None:
    """Rule on an appeal, or on an escalated epoch (guilty: it is fraud), as the arbiter."""
    word = word_of(text)
    verdict = "guilty" if is_guilty else "innocent"
    state = desk.ledger.slash(word)
    if state.status is SlashStatus.NONE:
        _require_escalation(desk, text, word)
        desk.send(f"rule {text} {verdict}", "rule", word, is_guilty)
    elif state.status is SlashStatus.APPEALED:
        desk.send(f"rule {text} {verdict}", "resolve_appeal", word, is_guilty)
    else:
        raise UserError(
            f"accusation {text} is {state.status.name.lower()}: the arbiter rules on appeals only"
        )
    if not desk.dry_run:
        desk.say(f"{text} is ruled {verdict}")


def settle(desk: Desk, text: str) -> None:
    """Close an accusation or dispute whose time is up. Anyone may."""
    word = word_of(text)
    state = desk.ledger.slash(word)
    if state.status is SlashStatus.NONE:
        _require_dispute(desk, text, word)
        desk.send(f"close dispute {text}", "expire", word)
    elif state.status is SlashStatus.PROPOSED:
        desk.send(f"execute {text}", "execute_slash", word)
    elif state.status is SlashStatus.APPEALED:
        desk.send(f"acquit {text}", "expire_appeal", word)
    else:
        raise UserError(f"accusation {text} is {state.status.name.lower()} already")
    if not desk.dry_run:
        desk.say(f"{text} is closed")


def word_of(text: str) -> bytes:
    """Return the id of an accusation or dispute; raise `UserError` where it is not one."""
    digits = text.removeprefix("0x")
    try:
        word = bytes.fromhex(digits)
    except ValueError as error:
        raise UserError(f"{text!r} is no id: `rollcall appeal` lists them") from error
    if len(digits) != WORD_DIGITS:
        raise UserError(f"{text} has {len(digits)} hex digits, an id has {WORD_DIGITS}")
    return word


def _lines(desk: Desk, accusation: Accusation) -> list[str]:
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
    state = desk.ledger.slash(slash_id)
    if state.status is SlashStatus.NONE:
        raise UserError(
            f"there is no accusation 0x{slash_id.hex()}: `rollcall appeal` lists those against you"
        )
    return state


def _require_dispute(desk: Desk, text: str, word: bytes) -> DisputeKind:
    dispute = desk.ledger.dispute(word)
    if dispute.kind is DisputeKind.NONE:
        raise UserError(f"there is neither an accusation nor a dispute {text} on this ledger")
    if dispute.status is not DisputeStatus.OPEN:
        raise UserError(f"dispute {text} is {dispute.status.name.lower()} already")
    return DisputeKind(dispute.kind)


def _require_escalation(desk: Desk, text: str, word: bytes) -> None:
    kind = _require_dispute(desk, text, word)
    if kind is not DisputeKind.ESCALATION:
        raise UserError(f"dispute {text} is about {kind.name.lower()}: no arbiter rules on it")
