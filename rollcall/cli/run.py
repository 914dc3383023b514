"""`rollcall run …`: creating and steering a run on chain, without any orchestrator.

The ledger decides who may do what. A command only looks first, says what will follow, and names the
remedy.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated

import typer

from protocol.user_error import UserError
from rollcall.cli import register
from rollcall.cli.desk import Desk, address_of_text, digest_of
from rollcall.cli.options import (
    Assignments,
    DryRun,
    PrintConfig,
    Reason,
    RunConfig,
    RunId,
    at_ledger,
    example,
    group,
)
from rollcall.cli.times import duration, moment

if TYPE_CHECKING:
    from ledger.state import LedgerStatus, RunState
    from protocol.epoch import RetractEpoch

commands = group("Runs on chain: list, create, fund and steer them. Needs no orchestrator.")
register.add_to(commands)


@commands.command("create", epilog=example("rollcall run create --config launch.toml --dry-run"))
def create(
    config: RunConfig = None,
    assign: Assignments = None,
    print_config: PrintConfig = False,
    dry_run: DryRun = False,
) -> None:
    """Put a run on chain with its budget in escrow; `rollcall launch` also tells its orchestrator."""
    from rollcall.cli.launch import put_on_chain
    from rollcall.frame.keys import key_from_environment
    from rollcall.frame.roles import settings_of

    settings = settings_of("rollcall.cli.launch_config:LaunchConfig", config, assign, print_config)
    put_on_chain(settings, key_from_environment(), typer.echo, dry_run=dry_run)


@at_ledger(commands, "fund", "rollcall run fund 1 250.5")
def fund(
    desk: Desk,
    run_id: RunId,
    amount: Annotated[str, typer.Argument(help="Tokens, such as 1.5.")],
) -> None:
    """Add to a run's budget. Anyone may; only its operator gets the rest back."""
    run = desk.run(run_id)
    if run.has_ended:
        raise UserError(f"run {run_id} is {_status(run)}: it takes no more money")
    desk.require_unpaused()
    token = desk.token_at(run.token)
    wei = token.parse(amount)
    desk.require_tokens(wei, token)
    desk.send(
        f"fund run {run_id} with {token.show(wei)}",
        *("fund_run", run_id, wei),
        done=lambda _: (
            f"run {run_id} has {token.show(desk.run(run_id).available)} that no epoch has taken"
        ),
    )


@at_ledger(commands, "halt", "rollcall run halt 1 --reason 'the reward is being gamed'")
def halt(desk: Desk, run_id: RunId, reason: Reason) -> None:
    """Halt a run at once as its operator, or vote for it as a steward. Earlier work is still paid.

    Stewards may make the operator's halt their own: then only they can end it.
    """
    from ledger.state import LedgerStatus

    run = desk.run(run_id)
    is_operator = desk.address == run.operator
    if run.status is not LedgerStatus.HALTED or is_operator or run.halted_by_stewards:
        _require_status(run_id, run, LedgerStatus.ACTIVE, "only an active run can be halted")
    digest = digest_of(reason)

    def done(_: object) -> str:
        after = desk.run(run_id)
        told = f"the chain keeps the reason's digest 0x{digest.hex()}: publish the text itself\n"
        if not (is_operator or after.halted_by_stewards):
            votes = after.halt_votes.bit_count()
            return told + f"{votes} of {run.steward_threshold} votes to halt run {run_id}"
        return told + (
            f"run {run_id} is halted: work dated before is still posted and paid, and it can be "
            f"resumed from {moment(after.halted_at + after.resume_delay, desk.now())} on"
        )

    desk.send(f"halt run {run_id} for 0x{digest.hex()}", "halt_run", run_id, digest, done=done)


@at_ledger(commands, "resume", "rollcall run resume 1")
def resume(desk: Desk, run_id: RunId) -> None:
    """Resume after a halt or a lapsed permit, once the run's delay has passed; stewards vote."""
    from ledger.state import LedgerStatus

    run = desk.run(run_id)
    if run.status is LedgerStatus.ACTIVE and desk.now() <= run.permit_until:
        raise UserError(f"run {run_id} is active: there is nothing to resume")

    def done(_: object) -> str:
        after = desk.run(run_id)
        if after.status is LedgerStatus.ACTIVE:
            return f"run {run_id} is active; {_permit(desk, after)}"
        votes = after.resume_votes.bit_count()
        return f"{votes} of {run.steward_threshold} votes to resume run {run_id}"

    desk.send(f"resume run {run_id}", "resume_run", run_id, done=done)


@at_ledger(commands, "permit", "rollcall run permit 1")
def permit(
    desk: Desk,
    run_id: RunId,
    lapse: Annotated[
        bool, typer.Option("--lapse", help="Record instead that it has lapsed. Anyone may.")
    ] = False,
) -> None:
    """Renew a run's permit. Work dated past it is owed nothing: silence ends a run."""
    if lapse:
        desk.send(
            f"record that the permit of run {run_id} has lapsed",
            *("lapse_run", run_id),
            done=f"run {run_id} is halted from the last second of its permit on",
        )
        return
    desk.send(
        f"renew the permit of run {run_id}",
        *("renew_permit", run_id),
        done=lambda _: f"run {run_id}: {_permit(desk, desk.run(run_id))}",
    )


@at_ledger(commands, "stop", "rollcall run stop 1", asks=True)
def stop(desk: Desk, run_id: RunId) -> None:
    """End a run for good. Earlier work is still settled and paid."""
    run = desk.run(run_id)
    if run.has_ended:
        raise UserError(f"run {run_id} is {_status(run)} already")
    desk.ask(f"stop run {run_id} for good? It can never be resumed")
    desk.send(
        f"stop run {run_id}",
        *("stop_run", run_id),
        done=lambda _: (
            f"run {run_id} is stopped: epochs are posted until "
            f"{moment(desk.run(run_id).settle_until, desk.now())}, then close it"
        ),
    )


@at_ledger(commands, "close", "rollcall run close 1", "rollcall withdraw")
def close(desk: Desk, run_id: RunId) -> None:
    """Close a stopped run: no epoch follows, and workers may claim by their receipts. Anyone may."""
    from ledger.state import LedgerStatus

    run = desk.run(run_id)
    if run.status is LedgerStatus.CLOSED:
        raise UserError(f"run {run_id} is closed already")
    remedy = f"stop it first with `rollcall run stop {run_id}`"
    _require_status(run_id, run, LedgerStatus.STOPPED, remedy)
    token = desk.token_at(run.token)
    desk.send(
        f"close run {run_id}",
        *("close_run", run_id),
        done=lambda left: (
            f"run {run_id} is closed; {token.show(left)} are in no epoch. `rollcall run refund "
            f"{run_id}` credits them once receipts have had their time. Claims go on forever"
        ),
    )


@at_ledger(commands, "refund", "rollcall run refund 1", "rollcall withdraw")
def refund(desk: Desk, run_id: RunId) -> None:
    """Credit the operator what a closed run neither paid nor owes by receipts. Anyone may."""
    run, dates = desk.run(run_id), desk.ledger.owed_dates(run_id)
    if dates is None:
        raise UserError(f"run {run_id} is not closed: `rollcall run close {run_id}` comes first")
    token, now = desk.token_at(run.token), desk.now()
    units, num_workers = desk.ledger.owed_in_all(run_id)
    if units:
        desk.say(f"{num_workers} workers claim {token.show(units * run.rate)} by receipts")
    if now < dates.paid_from:
        raise UserError(f"receipts have time until {moment(dates.paid_from, now)}: refund it then")
    desk.send(
        f"refund run {run_id}",
        *("refund_run", run_id),
        done=lambda amount: (
            f"run {run_id}: {token.show(amount)} are credited to {run.operator}, who takes them "
            "with `rollcall withdraw`"
        ),
    )


@at_ledger(
    *(commands, "replace", "rollcall run replace 1 2 0xNEW…", "rollcall run replace 1 --carry-out")
)
def replace(
    desk: Desk,
    run_id: RunId,
    verifier: Annotated[
        str | None, typer.Argument(help="Whose place: its number in `run show`, or its address.")
    ] = None,
    following: Annotated[
        str | None, typer.Argument(metavar="NEXT", help="Who shall take it.")
    ] = None,
    carry_out: Annotated[
        bool, typer.Option("--carry-out", help="Do it, once its delay has passed. Anyone may.")
    ] = False,
) -> None:
    """Replace a verifier that is short of stake, so that a run does not stall."""
    if carry_out == (verifier is not None) or (verifier is None) != (following is None):
        raise UserError("give a verifier and who follows it, or --carry-out alone")
    run = desk.run(run_id)
    if verifier is None or following is None:
        desk.send(
            f"replace a verifier of run {run_id}",
            *("replace_verifier", run_id),
            done=lambda _: f"verifiers of run {run_id}: {', '.join(desk.run(run_id).verifiers)}",
        )
        return
    index, new = _place_of(run, run_id, verifier), address_of_text(following)
    desk.send(
        f"let {new} take the place of verifier {index} in run {run_id}",
        *("propose_replacement", run_id, index, new),
        done=f"carry it out in {duration(run.challenge_window)} with "
        f"`rollcall run replace {run_id} --carry-out`, if {new} has staked by then",
    )


@at_ledger(
    *(commands, "retract", "rollcall run retract 1 4 at each verifier"),
    "rollcall run retract 1 4 --signature 0xV1…=0x… --signature 0xV2…=0x…",
)
def retract(
    desk: Desk,
    run_id: RunId,
    epoch: Annotated[int, typer.Argument(help="The first epoch to take back.")],
    signature: Annotated[
        list[str] | None,
        typer.Option(metavar="0xVERIFIER=0xSIG", help="Send; may be repeated. None signs instead."),
    ] = None,
) -> None:
    """Take back a pending epoch as its verifiers: sign, or send a quorum's signatures.

    Two steps, because no machine holds a quorum's keys. A retracted epoch's signers still answer for it
    for a challenge window.
    """
    run = desk.run(run_id)
    message = _retraction(desk, run, run_id, epoch)
    if signature:
        _send_retraction(desk, run, message, dict(map(_signature, signature)))
    else:
        _sign_retraction(desk, run, message)


def _sign_retraction(desk: Desk, run: RunState, message: RetractEpoch) -> None:
    """Print this verifier's signature, as `--signature` takes it."""
    from protocol.signing import Domain, sign
    from protocol.wire import checksum_address

    identity, deployment = desk.identity(), desk.ledger.deployment
    _require_verifiers(run.verifiers, message.run_id, [identity])
    domain = Domain(deployment.chain_id, checksum_address(deployment.ledger))
    desk.say(f"{identity}=0x{sign(bytes(desk.account.key), domain.digest(message)).hex()}")


def _send_retraction(
    desk: Desk, run: RunState, message: RetractEpoch, signatures: dict[str, bytes]
) -> None:
    """Take back the epoch and every later one under enough signatures."""
    run_id, epoch, last = message.run_id, message.epoch, run.num_posted - 1
    _require_verifiers(run.verifiers, run_id, signatures)
    if len(signatures) < run.threshold:
        raise UserError(
            f"{len(signatures)} signatures are given, {run.threshold} are needed: have other "
            f"verifiers run `rollcall run retract {run_id} {epoch}` and give theirs too"
        )
    desk.send(
        f"retract epoch {epoch} of run {run_id}"
        + (f" and those up to {last}" if last > epoch else ""),
        *("retract_epoch", run_id, epoch, signatures),
        done=f"epochs {epoch} to {last} of run {run_id} are taken back; their money is free again",
    )


def _retraction(desk: Desk, run: RunState, run_id: int, epoch: int) -> RetractEpoch:
    from protocol.epoch import RetractEpoch

    if not run.num_final <= epoch < run.num_posted:
        pending = (
            f"epochs {run.num_final} to {run.num_posted - 1} are pending"
            if run.num_posted > run.num_final
            else "none is pending"
        )
        raise UserError(f"epoch {epoch} of run {run_id} cannot be taken back: {pending}")
    header_hash = desk.ledger.epoch(run_id, epoch).header_hash
    return RetractEpoch(run_id, epoch, run.generation, header_hash)


def _signature(text: str) -> tuple[str, bytes]:
    verifier, separator, signature = text.partition("=")
    try:
        if separator:
            return address_of_text(verifier), bytes.fromhex(signature.removeprefix("0x"))
    except ValueError:
        pass
    raise UserError(f"--signature takes 0xVERIFIER=0xSIGNATURE, not {text[:40]!r}")


def _place_of(run: RunState, run_id: int, verifier: str) -> int:
    """Return a verifier's place, given as its number or its address."""
    if verifier.isdecimal():
        return int(verifier)
    address = address_of_text(verifier)
    _require_verifiers(run.roster, run_id, [address])
    return max(index for index, member in enumerate(run.roster) if member == address)


def _require_verifiers(members: Collection[str], run_id: int, who: Collection[str]) -> None:
    strangers = [address for address in who if address not in members]
    if strangers:
        raise UserError(
            f"{', '.join(strangers)} is no verifier of run {run_id}: `rollcall run show` lists them"
        )


def _permit(desk: Desk, run: RunState) -> str:
    return f"its permit holds until {moment(run.permit_until, desk.now())}"


def _status(run: RunState) -> str:
    return run.status.name.lower()


def _require_status(run_id: int, run: RunState, status: LedgerStatus, remedy: str) -> None:
    if run.status is not status:
        raise UserError(f"run {run_id} is {_status(run)}: {remedy}")
