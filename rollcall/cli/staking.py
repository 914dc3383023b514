"""`rollcall stake | unbond | signer | payout | withdraw`: what an identity does with its own deposit.

The key in ROLLCALL_KEY must be the identity's own (the cold one): a hot key may sign work, never move
stake.
"""

from dataclasses import dataclass

from ledger.state import StakeState
from protocol.user_error import UserError
from rollcall.cli.desk import Desk, Step, address_of_text
from rollcall.cli.times import duration, moment

ALL = "all"
"""In place of an amount: everything there is."""


def show(desk: Desk, worker: str | None = None) -> None:
    """Print what an identity has staked, what is leaving, and who acts and is paid for it."""
    who = address_of_text(worker) if worker else desk.identity()
    if not desk.ledger.is_registered(who):
        desk.say(f"{who} is not registered: `rollcall stake AMOUNT` registers and stakes")
        return
    account, token = desk.ledger.stake_account(who), desk.token
    desk.say(f"{who} has staked {token.show(account.stake)}")
    if account.unbonding:
        at = moment(account.unlock_at, desk.now())
        desk.say(f"unbonding: {token.show(account.unbonding)}, to be withdrawn from {at} on")
    if account.locked:
        desk.say(
            f"held for accusations: {token.show(account.locked)} (`rollcall appeal` lists them)"
        )
    credit = desk.ledger.stake_credit(who)
    if credit:
        desk.say(f"credit: {token.show(credit)} (`rollcall withdraw` takes it)")
    desk.say(f"earnings go to {account.payout}")
    desk.say(f"in the wallet: {token.show(desk.ledger.balance(who))}")


def stake(desk: Desk, amount: str, *, payout: str | None = None) -> None:
    """Add to this key's stake; register it first where it is nobody's yet."""
    who = _own_identity(desk)
    wei = desk.token.parse(amount)
    desk.require_tokens(wei)
    if desk.ledger.is_registered(who):
        if payout:
            raise UserError(
                f"{who} is registered already: change its payout with `rollcall payout`"
            )
        desk.send(f"stake {desk.token.show(wei)}", "stake", wei)
    else:
        to = address_of_text(payout) if payout else who
        desk.send(
            f"register {who} with a stake of {desk.token.show(wei)}, paid to {to}",
            *("register", wei, who, to),
        )
    if not desk.dry_run:
        desk.say(f"{who} has staked {desk.token.show(desk.ledger.stake_of(who))}")


def unbond(desk: Desk, amount: str) -> None:
    """Start withdrawing stake; it stays slashable while it waits."""
    who = _own_identity(desk)
    account = _registered(desk, who)
    wei = account.stake if amount == ALL else desk.token.parse(amount)
    if wei == 0 or wei > account.stake:
        raise UserError(
            f"{desk.token.show(wei)} cannot leave: {who} has {desk.token.show(account.stake)} staked"
        )
    if account.unbonding:
        desk.say(
            f"this starts the wait for {desk.token.show(account.unbonding)}, which are unbonding "
            "already, anew"
        )
    desk.send(f"unbond {desk.token.show(wei)}", "unbond", wei)
    if not desk.dry_run:
        at = desk.ledger.stake_account(who).unlock_at
        desk.say(
            f"{desk.token.show(wei)} can be withdrawn from {moment(at, desk.now())} on, with "
            "`rollcall stake --withdraw`; until then it can still be slashed"
        )


def withdraw_stake(desk: Desk) -> None:
    """Take what has unbonded."""
    who = _own_identity(desk)
    account = _registered(desk, who)
    if account.unbonding == 0:
        raise UserError(f"nothing of {who} is unbonding: `rollcall unbond AMOUNT` starts it")
    now = desk.now()
    if now < account.unlock_at:
        raise UserError(
            f"{desk.token.show(account.unbonding)} are unbonding until "
            f"{moment(account.unlock_at, now)}: withdraw them then"
        )
    desk.send(f"withdraw up to {desk.token.show(account.unbonding)}", "withdraw_stake")
    if not desk.dry_run:
        left = desk.ledger.stake_account(who).unbonding
        desk.say(f"{desk.token.show(account.unbonding - left)} withdrawn to {who}")
        if left:
            desk.say(f"{desk.token.show(left)} are held for an accusation (`rollcall appeal`)")


def add_signer(desk: Desk, signer: str, consent: str) -> None:
    """Let a hot key sign work for this identity."""
    who = _own_identity(desk)
    _registered(desk, who)
    hot = address_of_text(signer)
    owner = desk.ledger.owner_of(hot)
    if owner == who:
        raise UserError(f"{hot} signs for {who} already")
    desk.send(f"let {hot} sign for {who}", "add_signer", hot, _bytes_of(consent, "--consent"))
    if not desk.dry_run:
        desk.say(f"{hot} signs for {who} now")


def revoke_signer(desk: Desk, signer: str) -> None:
    """Withdraw a hot key. What it signed before then counts: work cannot be unsigned afterwards."""
    hot = address_of_text(signer)
    desk.send(f"revoke {hot}", "revoke_signer", hot)
    if not desk.dry_run:
        until = next(key.until for key in signers(desk, desk.address) if key.address == hot)
        desk.say(
            f"{hot} signs for {desk.address} until {moment(until, desk.now())}: change it on the "
            f"machine before then ({duration(until - desk.now())})"
        )


@dataclass(frozen=True, slots=True)
class Signer:
    """A hot key of one identity; `until` None while it is not revoked."""

    address: str
    until: int


FOR_EVER = (1 << 64) - 1


def signers(desk: Desk, owner: str) -> list[Signer]:
    """Return every hot key an identity ever had, in the order it took them, from events alone."""
    found: dict[str, int] = {}
    for event in desk.ledger.events().poll():
        if event.values.get("worker") != owner:
            continue
        if event.name in ("Registered", "SignerAdded"):
            found[event.values["signer"]] = FOR_EVER
        if event.name == "SignerRevoked":
            found[event.values["signer"]] = event.values["effectiveAt"]
    return [Signer(address, until) for address, until in found.items()]


def list_signers(desk: Desk, worker: str | None) -> None:
    """Print an identity's hot keys."""
    who = address_of_text(worker) if worker else desk.identity()
    keys = signers(desk, who)
    if not keys:
        desk.say(f"{who} has no hot key: it is not registered")
    for key in keys:
        end = "" if key.until == FOR_EVER else f"  revoked, {moment(key.until, desk.now())}"
        desk.say(f"{key.address}{end}")


def set_payout(desk: Desk, payout: str) -> None:
    """Change where this identity's earnings go."""
    who = _own_identity(desk)
    account = _registered(desk, who)
    to = address_of_text(payout)
    if account.payout == to:
        raise UserError(f"{who} is paid to {to} already")
    desk.send(f"pay what {who} earns to {to}", "set_payout", to)
    if not desk.dry_run:
        desk.say(f"what {who} earns is paid to {to} from now on")


def show_payout(desk: Desk, worker: str | None) -> None:
    """Print where an identity's earnings go."""
    who = address_of_text(worker) if worker else desk.identity()
    desk.say(f"what {who} earns is paid to {desk.ledger.payout_of(who)}")


def withdraw_credits(desk: Desk) -> None:
    """Take every credit of this key: bounties and returned bonds, and the refunds of closed runs."""
    who, steps = desk.address, []
    staked = desk.ledger.stake_credit(who)
    if staked:
        what = f"withdraw {desk.token.show(staked)} of bonds and bounties"
        steps.append(Step(what, "withdraw_stake_credit"))
    for token in desk.run_tokens():
        refund = desk.ledger.credit(who, token.address)
        if refund:
            what = f"withdraw {token.show(refund)} of refunds"
            steps.append(Step(what, "withdraw_credit", (token.address,)))
    if not steps:
        raise UserError(f"{who} has no credit: closed runs, bonds and bounties make one")
    desk.send_all(steps)


def _own_identity(desk: Desk) -> str:
    identity = desk.identity()
    if identity != desk.address:
        raise UserError(
            f"ROLLCALL_KEY is {desk.address}, a hot key of {identity}: use that account's own key"
        )
    return identity


def _registered(desk: Desk, who: str) -> StakeState:
    if not desk.ledger.is_registered(who):
        raise UserError(f"{who} is not registered: `rollcall stake AMOUNT` registers and stakes")
    return desk.ledger.stake_account(who)


def _bytes_of(text: str, name: str) -> bytes:
    try:
        return bytes.fromhex(text.removeprefix("0x"))
    except ValueError as error:
        raise UserError(f"{name} is not hex: {text[:20]!r}") from error
