"""`rollcall key | consent | signer …`: a new key, and which hot keys act for a cold one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from protocol.user_error import UserError
from rollcall.cli.desk import Desk, address_of_text, bytes_of_hex
from rollcall.cli.options import MACHINE, MONEY, Worker, at_ledger, example, group
from rollcall.cli.stake import own_identity, registered
from rollcall.cli.times import duration, moment

FOR_EVER = (1 << 64) - 1

commands = typer.Typer()
signers = group("Hot keys: they sign work for an identity, and never move its stake.")

HotKey = Annotated[str, typer.Argument(help="The hot key's address.")]


@commands.command(
    rich_help_panel=MACHINE,
    epilog=example("eval $(rollcall key --name WORKER)", "echo $WORKER $WORKER_KEY"),
)
def key(
    name: Annotated[
        str, typer.Option("--name", help="Print NAME=address and NAME_KEY=key for a shell.")
    ] = "",
    address: Annotated[
        bool, typer.Option("--address", help="Print the address of the key in ROLLCALL_KEY.")
    ] = False,
    private_only: Annotated[
        bool, typer.Option("--private-only", help="Print only the private key.")
    ] = False,
) -> None:
    """Make a new key. Keep the private part in the environment, never in a file you share."""
    from protocol.signing import address_of
    from rollcall.frame.keys import KEY_VARIABLE, key_from_environment, new_key

    if address:
        typer.echo(address_of(key_from_environment()))
        return
    made = new_key()
    if name:
        typer.echo(f"export {name}={address_of(made)} {name}_KEY=0x{made.hex()}")
    elif private_only:
        typer.echo(f"0x{made.hex()}")
    else:
        typer.echo(f"{KEY_VARIABLE}=0x{made.hex()}  # {address_of(made)}")


@at_ledger(commands, "consent", "rollcall consent --owner 0xCOLD…", panel=MONEY, sends=False)
def consent(
    desk: Desk,
    owner: Annotated[str, typer.Option(help="The cold account this hot key will work for.")],
) -> None:
    """Print this hot key's signed consent to act for a cold account."""
    signed = desk.ledger.sign_consent(desk.account, address_of_text(owner))
    desk.say("0x" + signed.hex())


@at_ledger(
    *(signers, "add", "rollcall consent --owner 0xCOLD… with the hot key"),
    "rollcall signer add 0xHOT… --consent 0x… with the cold one",
)
def add_signer(
    desk: Desk,
    signer: HotKey,
    consent: Annotated[str, typer.Option(help="What `rollcall consent` printed with that key.")],
) -> None:
    """Let a hot key sign work for this identity."""
    who = own_identity(desk)
    registered(desk, who)
    hot = address_of_text(signer)
    owner = desk.ledger.owner_of(hot)
    if owner == who:
        raise UserError(f"{hot} signs for {who} already")
    desk.send(
        f"let {hot} sign for {who}",
        *("add_signer", hot, bytes_of_hex(consent, "--consent")),
        done=f"{hot} signs for {who}",
    )


@at_ledger(signers, "revoke", "rollcall signer revoke 0xHOT…")
def revoke_signer(desk: Desk, signer: HotKey) -> None:
    """Withdraw a hot key, with effect after the registry's delay. Its signatures until then count."""
    hot = address_of_text(signer)

    def done(_: object) -> str:
        until = next(key.until for key in hot_keys(desk, desk.address) if key.address == hot)
        return (
            f"{hot} signs for {desk.address} until {moment(until, desk.now())}: change it on the "
            f"machine before then ({duration(until - desk.now())})"
        )

    desk.send(f"revoke {hot}", "revoke_signer", hot, done=done)


@dataclass(frozen=True, slots=True)
class Signer:
    """A hot key of one identity; `until` is `FOR_EVER` while it is not revoked."""

    address: str
    until: int


def hot_keys(desk: Desk, owner: str) -> list[Signer]:
    """Return every hot key an identity ever had, in the order of adding, from events alone."""
    found: dict[str, int] = {}
    for event in desk.ledger.events().poll():
        if event.values.get("worker") != owner:
            continue
        if event.name in ("Registered", "SignerAdded"):
            found[event.values["signer"]] = FOR_EVER
        if event.name == "SignerRevoked":
            found[event.values["signer"]] = event.values["effectiveAt"]
    return [Signer(address, until) for address, until in found.items()]


@at_ledger(signers, "list", "rollcall signer list --worker 0xCOLD…", sends=False)
def list_signers(desk: Desk, worker: Worker = None) -> None:
    """Show an identity's hot keys and until when each signs."""
    who = desk.whose(worker)
    keys = hot_keys(desk, who)
    if not keys:
        desk.say(f"{who} has no hot key: it is not registered")
    for key in keys:
        end = "" if key.until == FOR_EVER else f"  revoked, {moment(key.until, desk.now())}"
        desk.say(f"{key.address}{end}")
