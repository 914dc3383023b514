"""`rollcall run fund | halt | resume | permit | stop | close | replace`: steering a run on chain.

Who may do what is the ledger's to say; what a command adds is to look first, to say what will follow, and
to name the remedy.
"""

from ledger.state import RunState, RunStatus
from protocol.canonical import keccak256
from protocol.user_error import UserError
from rollcall.cli.desk import Desk, address_of_text
from rollcall.cli.times import duration, moment


def fund(desk: Desk, run_id: int, amount: str) -> None:
    """Add to a run's budget. Anyone may; only its operator gets back what is left."""
    run = desk.run(run_id)
    if run.status in (RunStatus.STOPPED, RunStatus.CLOSED):
        raise UserError(f"run {run_id} is {run.status.name.lower()}: it takes no more money")
    desk.require_unpaused()
    token = desk.token_at(run.token)
    wei = token.parse(amount)
    desk.require_tokens(wei, token)
    desk.send(f"fund run {run_id} with {token.show(wei)}", "fund_run", run_id, wei)
    if not desk.dry_run:
        now = desk.run(run_id)
        desk.say(f"run {run_id} has {token.show(now.available)} that no epoch has taken")


def halt(desk: Desk, run_id: int, reason: str) -> None:
    """Halt a run at once as its operator, or vote to as a steward.

    Stewards may make the operator's halt their own: then only they can end it.
    """
    run = desk.run(run_id)
    is_operator = desk.address == run.operator
    if run.status is not RunStatus.HALTED or is_operator or run.halted_by_stewards:
        _require_status(run_id, run, RunStatus.ACTIVE, "only an active run can be halted")
    digest = digest_of(reason)
    desk.send(f"halt run {run_id} for 0x{digest.hex()}", "halt_run", run_id, digest)
    if desk.dry_run:
        return
    after = desk.run(run_id)
    desk.say(f"the chain keeps the reason's digest 0x{digest.hex()}: publish the text itself")
    if not (is_operator or after.halted_by_stewards):
        votes = after.halt_votes.bit_count()
        desk.say(f"{votes} of {run.steward_threshold} votes to halt run {run_id}")
        return
    desk.say(
        f"run {run_id} is halted: work dated before is still posted and paid, and it can be resumed "
        f"from {moment(after.halted_at + after.resume_delay, desk.now())} on"
    )


def resume(desk: Desk, run_id: int) -> None:
    """Resume one's own halt or a lapsed permit, or vote to as a steward."""
    run = desk.run(run_id)
    if run.status is RunStatus.ACTIVE and desk.now() <= run.permit_until:
        raise UserError(f"run {run_id} is active: there is nothing to resume")
    desk.send(f"resume run {run_id}", "resume_run", run_id)
    if desk.dry_run:
        return
    after = desk.run(run_id)
    if after.status is RunStatus.ACTIVE:
        desk.say(f"run {run_id} is active; {_permit(desk, after)}")
        return
    votes = after.resume_votes.bit_count()
    desk.say(f"{votes} of {run.steward_threshold} votes to resume run {run_id}")


def permit(desk: Desk, run_id: int) -> None:
    """Renew a run's permit, as its operator or one of its hot keys."""
    desk.send(f"renew the permit of run {run_id}", "renew_permit", run_id)
    if not desk.dry_run:
        desk.say(f"run {run_id}: {_permit(desk, desk.run(run_id))}")


def lapse(desk: Desk, run_id: int) -> None:
    """Record that a permit has lapsed. Anyone may."""
    desk.send(f"record that the permit of run {run_id} has lapsed", "lapse_run", run_id)
    if not desk.dry_run:
        desk.say(f"run {run_id} is halted from the last second of its permit on")


def stop(desk: Desk, run_id: int) -> None:
    """End a run for good."""
    run = desk.run(run_id)
    if run.status in (RunStatus.STOPPED, RunStatus.CLOSED):
        raise UserError(f"run {run_id} is {run.status.name.lower()} already")
    desk.ask(f"stop run {run_id} for good? It can never be resumed")
    desk.send(f"stop run {run_id}", "stop_run", run_id)
    if not desk.dry_run:
        until = moment(desk.run(run_id).settle_until, desk.now())
        desk.say(f"run {run_id} is stopped: epochs are posted until {until}, then close it")


def close(desk: Desk, run_id: int) -> None:
    """Close a stopped run; what was never committed becomes its operator's credit. Anyone may."""
    run = desk.run(run_id)
    if run.status is RunStatus.CLOSED:
        raise UserError(f"run {run_id} is closed already")
    _require_status(
        run_id, run, RunStatus.STOPPED, f"stop it first with `rollcall run stop {run_id}`"
    )
    refund = desk.send(f"close run {run_id}", "close_run", run_id)
    if refund is not None:
        token = desk.token_at(run.token)
        desk.say(
            f"run {run_id} is closed; {token.show(refund)} are credited to {run.operator}, who takes "
            "them with `rollcall withdraw`. Claims go on for ever"
        )


def propose_replacement(desk: Desk, run_id: int, verifier: str, following: str) -> None:
    """Name who takes the place of a verifier that is short of stake."""
    run = desk.run(run_id)
    index = place_of(run, run_id, verifier)
    new = address_of_text(following)
    desk.send(
        f"let {new} take the place of verifier {index} in run {run_id}",
        *("propose_replacement", run_id, index, new),
    )
    if not desk.dry_run:
        desk.say(
            f"carry it out in {duration(run.challenge_window)} with "
            f"`rollcall run replace {run_id} --carry-out`, if {new} has staked by then"
        )


def carry_out_replacement(desk: Desk, run_id: int) -> None:
    """Carry a proposed replacement out. Anyone may."""
    desk.run(run_id)
    desk.send(f"replace a verifier of run {run_id}", "replace_verifier", run_id)
    if not desk.dry_run:
        desk.say(f"verifiers of run {run_id} are now {', '.join(desk.run(run_id).verifiers)}")


def place_of(run: RunState, run_id: int, verifier: str) -> int:
    """Return a verifier's place, given as its number or its address."""
    if verifier.isdecimal():
        return int(verifier)
    address = address_of_text(verifier)
    places = [index for index, member in enumerate(run.roster) if member == address]
    if not places:
        raise UserError(f"{address} is no verifier of run {run_id}: `rollcall run show` lists them")
    return places[-1]


def digest_of(text: str) -> bytes:
    """Return a reason's digest: the Keccak-256 of its text, or the 32 bytes given as hex."""
    if text.startswith("0x") and len(text) == 66:
        try:
            return bytes.fromhex(text[2:])
        except ValueError as error:
            raise UserError(f"{text} is not 32 bytes in hex") from error
    if not text.strip():
        raise UserError("give a reason: --reason 'what happened'; its digest goes on chain")
    return keccak256(text.encode())


def _permit(desk: Desk, run: RunState) -> str:
    return f"its permit holds until {moment(run.permit_until, desk.now())}"


def _require_status(run_id: int, run: RunState, status: RunStatus, remedy: str) -> None:
    if run.status is not status:
        raise UserError(f"run {run_id} is {run.status.name.lower()}: {remedy}")
