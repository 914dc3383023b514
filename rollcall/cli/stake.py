"""`rollcall stake | unbond | payout | withdraw`: an identity's acts with its own deposit.

The key in ROLLCALL_KEY must be the identity's own (the cold one): a hot key may sign work, never move
stake.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from protocol.user_error import UserError
from rollcall.cli.desk import Desk, PlannedCall, address_of_text
from rollcall.cli.options import MONEY, Worker, at_ledger
from rollcall.cli.times import moment

if TYPE_CHECKING:
    from ledger.state import StakeState

ALL = "all"
"""The word for the whole amount."""

commands = typer.Typer()


@at_ledger(commands, "stake", "rollcall stake 1.5 --rpc http://127.0.0.1:8545", panel=MONEY)
def stake(
    desk: Desk,
    amount: Annotated[
        str | None, typer.Argument(help="Tokens to add, such as 1.5; none shows the stake.")
    ] = None,
    withdraw: Annotated[
        bool, typer.Option("--withdraw", help="Take what has unbonded instead.")
    ] = False,
    payout: Annotated[
        str | None,
        typer.Option("--payout", help="When registering: where earnings go; default: this key."),
    ] = None,
    worker: Worker = None,
) -> None:
    """Stake tokens, and register this key if it is new; or show the stake, or take it back.

    Stake backs what a worker or verifier signs: cheating costs it. It leaves after the unbonding period.
    """
    if withdraw and amount is not None:
        raise UserError("--withdraw takes everything that has unbonded: leave the amount out")
    if amount is None and payout is not None:
        raise UserError("--payout belongs to registering; change it with `rollcall payout ADDRESS`")
    if withdraw:
        _withdraw_stake(desk)
    elif amount is None:
        _show(desk, desk.whose(worker))
    else:
        _stake(desk, amount, payout)


def _show(desk: Desk, who: str) -> None:
    """Print what an identity has staked, what is leaving, and who acts and is paid for it."""
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
    for run_id in range(1, desk.ledger.num_runs() + 1):
        units = desk.ledger.owed(run_id, who)
        if units:
            run = desk.ledger.run(run_id)
            shown = desk.token_at(run.token).show(units * run.rate)
            desk.say(
                f"claimed of run {run_id} by receipts: {shown} (`rollcall owed` goes on with it)"
            )
    desk.say(f"earnings go to {account.payout}")
    desk.say(f"in the wallet: {token.show(desk.ledger.balance(who))}")


def _stake(desk: Desk, amount: str, payout: str | None) -> None:
    """Add to this key's stake; register the key first if it is new."""
    who = own_identity(desk)
    wei = desk.token.parse(amount)
    desk.require_tokens(wei)
    is_new = not desk.ledger.is_registered(who)
    if payout and not is_new:
        raise UserError(f"{who} is registered already: change its payout with `rollcall payout`")
    to = address_of_text(payout) if payout else who
    shown = desk.token.show(wei)
    desk.send(
        f"register {who} with a stake of {shown}, paid to {to}" if is_new else f"stake {shown}",
        *(("register", wei, who, to) if is_new else ("stake", wei)),
        done=lambda _: f"{who} has staked {desk.token.show(desk.ledger.stake_of(who))}",
    )


@at_ledger(
    commands, "unbond", "rollcall unbond all", "a week later rollcall stake --withdraw", panel=MONEY
)
def unbond(
    desk: Desk, amount: Annotated[str, typer.Argument(help="Tokens to take out, or all.")]
) -> None:
    """Start taking stake out. During the unbonding period it can still be slashed."""
    who = own_identity(desk)
    account = registered(desk, who)
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
    desk.send(
        f"unbond {desk.token.show(wei)}",
        *("unbond", wei),
        done=lambda _: (
            f"{desk.token.show(wei)} can be withdrawn from "
            f"{moment(desk.ledger.stake_account(who).unlock_at, desk.now())} on, with "
            "`rollcall stake --withdraw`; until then it can still be slashed"
        ),
    )


def _withdraw_stake(desk: Desk) -> None:
    """Take what has unbonded."""
    who = own_identity(desk)
    account = registered(desk, who)
    if account.unbonding == 0:
        raise UserError(f"nothing of {who} is unbonding: `rollcall unbond AMOUNT` starts it")
    now = desk.now()
    if now < account.unlock_at:
        raise UserError(
            f"{desk.token.show(account.unbonding)} are unbonding until "
            f"{moment(account.unlock_at, now)}: withdraw them then"
        )

    def done(_: object) -> str:
        left = desk.ledger.stake_account(who).unbonding
        told = f"{desk.token.show(account.unbonding - left)} withdrawn to {who}"
        held = f"\n{desk.token.show(left)} are held for an accusation (`rollcall appeal`)"
        return told + held if left else told

    what = f"withdraw up to {desk.token.show(account.unbonding)}"
    desk.send(what, "withdraw_stake", done=done)


@at_ledger(commands, "payout", "rollcall payout 0xCOLD…", panel=MONEY)
def payout(
    desk: Desk,
    address: Annotated[
        str | None, typer.Argument(help="New address for earnings; none shows the present one.")
    ] = None,
    worker: Worker = None,
) -> None:
    """Change or show where an identity's earnings go."""
    if address is None:
        who = desk.whose(worker)
        desk.say(f"what {who} earns is paid to {desk.ledger.payout_of(who)}")
        return
    who = own_identity(desk)
    account = registered(desk, who)
    to = address_of_text(address)
    if account.payout == to:
        raise UserError(f"{who} is paid to {to} already")
    desk.send(
        f"pay what {who} earns to {to}",
        *("set_payout", to),
        done=f"what {who} earns is paid to {to} from here on",
    )


@at_ledger(commands, "withdraw", "rollcall withdraw --dry-run", panel=MONEY)
def withdraw(desk: Desk) -> None:
    """Take this key's credits: refunds of closed runs, returned bonds, bounties."""
    who, steps = desk.address, []
    staked = desk.ledger.stake_credit(who)
    if staked:
        credit = f"{desk.token.show(staked)} of bonds and bounties"
        steps.append(_withdrawal(credit, "withdraw_stake_credit"))
    for token in desk.run_tokens():
        refund = desk.ledger.credit(who, token.address)
        if refund:
            credit = f"{token.show(refund)} of refunds"
            steps.append(_withdrawal(credit, "withdraw_credit", token.address))
    if not steps:
        raise UserError(f"{who} has no credit: closed runs, bonds and bounties make one")
    desk.send_all(steps)


def _withdrawal(credit: str, method: str, *arguments: str) -> PlannedCall:
    done = f"{credit} are withdrawn to this account"
    return PlannedCall(f"withdraw {credit}", method, arguments, done)


def own_identity(desk: Desk) -> str:
    """Return this key's address; raise `UserError` if it is only another identity's hot key."""
    identity = desk.identity()
    if identity != desk.address:
        raise UserError(
            f"ROLLCALL_KEY is {desk.address}, a hot key of {identity}: use that account's own key"
        )
    return identity


def registered(desk: Desk, who: str) -> StakeState:
    """Return an identity's account; raise `UserError` if it is not registered."""
    if not desk.ledger.is_registered(who):
        raise UserError(f"{who} is not registered: `rollcall stake AMOUNT` registers and stakes")
    return desk.ledger.stake_account(who)
