"""`rollcall run retract`: verifiers take a pending epoch back that they should not have signed.

Two steps, because no machine holds a quorum's keys: each verifier signs and hands its signature on, and
anyone sends enough of them together. A retracted epoch's signers still answer for it for a challenge
window.
"""

from ledger.state import RunState
from protocol.epoch import RetractEpoch
from protocol.signing import Domain, sign
from protocol.user_error import UserError
from protocol.wire import checksum_address
from rollcall.cli.desk import Desk, address_of_text


def sign_retraction(desk: Desk, key: bytes, run_id: int, epoch: int) -> None:
    """Print this verifier's signature, as `send_retraction` takes it."""
    run, message = _message(desk, run_id, epoch)
    identity = desk.identity()
    if identity not in run.verifiers:
        raise UserError(
            f"{identity} is no verifier of run {run_id}: `rollcall run show` lists them"
        )
    deployment = desk.ledger.deployment
    domain = Domain(deployment.chain_id, checksum_address(deployment.ledger))
    desk.say(f"{identity}=0x{sign(key, domain.digest(message)).hex()}")


def send_retraction(desk: Desk, run_id: int, epoch: int, signatures: list[str]) -> None:
    """Take the epoch and every later one back under enough signatures."""
    run, _ = _message(desk, run_id, epoch)
    by_verifier = dict(_signature(text) for text in signatures)
    strangers = [verifier for verifier in by_verifier if verifier not in run.verifiers]
    if strangers:
        raise UserError(f"{', '.join(strangers)}: no verifier of run {run_id}")
    if len(by_verifier) < run.threshold:
        raise UserError(
            f"{len(by_verifier)} signatures are given, {run.threshold} are needed: have other "
            f"verifiers run `rollcall run retract {run_id} {epoch}` and give theirs too"
        )
    last = run.num_posted - 1
    desk.send(
        f"retract epoch {epoch} of run {run_id}"
        + (f" and those up to {last}" if last > epoch else ""),
        *("retract_epoch", run_id, epoch, by_verifier),
    )
    if not desk.dry_run:
        desk.say(
            f"epochs {epoch} to {last} of run {run_id} are taken back; their money is free again"
        )


def _message(desk: Desk, run_id: int, epoch: int) -> tuple[RunState, RetractEpoch]:
    run = desk.run(run_id)
    if not run.num_final <= epoch < run.num_posted:
        pending = (
            f"epochs {run.num_final} to {run.num_posted - 1} are pending"
            if run.num_posted > run.num_final
            else "none is pending"
        )
        raise UserError(f"epoch {epoch} of run {run_id} cannot be taken back: {pending}")
    header_hash = desk.ledger.epoch(run_id, epoch).header_hash
    return run, RetractEpoch(run_id, epoch, run.generation, header_hash)


def _signature(text: str) -> tuple[str, bytes]:
    verifier, separator, signature = text.partition("=")
    try:
        if separator:
            return address_of_text(verifier), bytes.fromhex(signature.removeprefix("0x"))
    except ValueError:
        pass
    raise UserError(f"--signature takes 0xVERIFIER=0xSIGNATURE, not {text[:40]!r}")
