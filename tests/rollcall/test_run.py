"""Steering a run by commands: halting, permits, stopping, closing, replacing, and their refusals."""

import pytest

from ledger.state import LedgerStatus
from protocol.canonical import keccak256
from protocol.user_error import UserError
from rollcall.cli import run
from rollcall.cli.desk import digest_of
from tests.stage.counter import Counter, told
from tests.stage.world import RESPONSE, WINDOW, World


def status(world: World) -> LedgerStatus:
    return world.by("operator").run(world.run_id).status


def test_anyone_funds_a_run_and_an_unfunded_purse_is_told(world: World) -> None:
    before = world.by("operator").run(world.run_id).budget
    run.fund(Counter.of(world, "operator").desk, world.run_id, "0.00000000000000001")
    assert world.by("operator").run(world.run_id).budget == before + 10
    counter = Counter.of(world, "stranger")
    with told(world, counter, "has 0 RTEST, 1 RTEST are needed"):
        run.fund(counter.desk, world.run_id, "1")


@pytest.mark.parametrize("run_id", [0, 2, 10**6])
def test_an_unknown_run_is_told_with_those_there_are(world: World, run_id: int) -> None:
    counter = Counter.of(world, "operator")
    with told(world, counter, f"there is no run {run_id} on this ledger, which has runs 1 to 1"):
        run.halt(counter.desk, run_id, "why")


def test_the_operator_halts_at_once_and_resumes_after_the_delay(world: World) -> None:
    counter = Counter.of(world, "operator")
    run.halt(counter.desk, world.run_id, "the reward is being gamed")
    assert status(world) is LedgerStatus.HALTED
    assert keccak256(b"the reward is being gamed").hex() in counter.said
    with told(world, counter, "this can be done from .* UTC, in 1 min on"):
        run.resume(counter.desk, world.run_id)
    with told(world, counter, "is halted: only an active run can be halted"):
        run.halt(counter.desk, world.run_id, "again")
    world.wait(WINDOW)
    run.resume(counter.desk, world.run_id)
    assert status(world) is LedgerStatus.ACTIVE
    with told(world, counter, "is active: there is nothing to resume"):
        run.resume(counter.desk, world.run_id)


def test_stewards_vote_and_a_stranger_may_not(world: World) -> None:
    stranger = Counter.of(world, "stranger")
    with told(world, stranger, f"{world.address('stranger')} is no steward of this run"):
        run.halt(stranger.desk, world.run_id, "because")
    first = Counter.of(world, "s0")
    run.halt(first.desk, world.run_id, "harm")
    assert "1 of 2 votes to halt" in first.said
    with told(world, first, "has voted already"):
        run.halt(first.desk, world.run_id, "harm")
    second = Counter.of(world, "s1")
    run.halt(second.desk, world.run_id, "harm")
    assert status(world) is LedgerStatus.HALTED
    assert "is halted: work dated before is still posted and paid" in second.said


def test_stewards_make_the_operators_halt_their_own(world: World) -> None:
    run.halt(Counter.of(world, "operator").desk, world.run_id, "a pause of mine")
    first = Counter.of(world, "s0")
    run.halt(first.desk, world.run_id, "harm")
    assert "1 of 2 votes to halt" in first.said
    run.halt(Counter.of(world, "s1").desk, world.run_id, "harm")
    assert world.by("operator").run(world.run_id).halted_by_stewards
    with told(world, first, "is halted: only an active run can be halted"):
        run.halt(first.desk, world.run_id, "harm")


def test_a_permit_is_renewed_and_after_its_lapse_the_run_resumed(world: World) -> None:
    counter = Counter.of(world, "operator")
    before = world.by("operator").run(world.run_id)
    world.wait(100)
    run.permit(counter.desk, world.run_id)
    after = world.by("operator").run(world.run_id)
    assert after.permit_until > before.permit_until
    with told(world, counter, "holds until .*: nothing has lapsed"):
        run.permit(counter.desk, world.run_id, lapse=True)
    world.wait(after.permit_period + 2)
    with told(world, counter, "lapsed at .*: its operator resumes it with `rollcall run resume 1`"):
        run.permit(counter.desk, world.run_id)
    with told(world, counter, "this can be done from"):
        run.resume(counter.desk, world.run_id)
    run.permit(Counter.of(world, "stranger").desk, world.run_id, lapse=True)
    assert status(world) is LedgerStatus.HALTED
    world.wait(WINDOW)
    run.resume(counter.desk, world.run_id)
    assert status(world) is LedgerStatus.ACTIVE
    assert "is active; its permit holds until" in counter.said


def test_stewards_end_their_own_halt_by_as_many_votes(world: World) -> None:
    for name in ("s0", "s1"):
        run.halt(Counter.of(world, name).desk, world.run_id, "harm")
    world.wait(WINDOW)
    operator = Counter.of(world, "operator")
    with told(world, operator, "is no steward of this run"):
        run.resume(operator.desk, world.run_id)
    first = Counter.of(world, "s0")
    run.resume(first.desk, world.run_id)
    assert "1 of 2 votes to resume" in first.said
    run.resume(Counter.of(world, "s1").desk, world.run_id)
    assert status(world) is LedgerStatus.ACTIVE


def test_only_the_operator_renews_a_permit(world: World) -> None:
    counter = Counter.of(world, "stranger")
    with told(world, counter, f"only the operator {world.address('operator')} may do this"):
        run.permit(counter.desk, world.run_id)


def test_a_run_is_stopped_and_closed_and_its_operator_told_of_the_refund(world: World) -> None:
    counter = Counter.of(world, "operator")
    with told(world, counter, "is active: stop it first with `rollcall run stop 1`"):
        run.close(counter.desk, world.run_id)
    run.stop(counter.desk, world.run_id)
    with told(world, counter, "this can be done from .* UTC, in "):
        run.close(counter.desk, world.run_id)
    with told(world, counter, "is stopped already"):
        run.stop(counter.desk, world.run_id)
    with told(world, counter, "is stopped: it takes no more money"):
        run.fund(counter.desk, world.run_id, "1")
    world.wait(WINDOW + 1)
    run.close(counter.desk, world.run_id)
    assert "0.0000000000001 RTEST are in no epoch" in counter.said
    with told(world, counter, "is closed already"):
        run.close(counter.desk, world.run_id)
    with told(world, counter, "receipts have time until .*: refund it then"):
        run.refund(counter.desk, world.run_id)
    world.wait(WINDOW + RESPONSE + 1)
    run.refund(counter.desk, world.run_id)
    assert "0.0000000000001 RTEST are credited" in counter.said


def test_a_verifier_short_of_stake_is_replaced(world: World) -> None:
    counter, alice = Counter.of(world, "operator"), world.address("alice")
    gone = world.address("v1")
    with told(world, counter, "a verifier is only replaced while it is short of stake"):
        run.replace(counter.desk, world.run_id, "1", alice)
    world.by("v1").unbond(1)
    run.replace(counter.desk, world.run_id, gone, alice)
    assert "`rollcall run replace 1 --carry-out`" in counter.said
    with told(world, counter, "this can be done from"):
        run.replace(counter.desk, world.run_id, carry_out=True)
    world.wait(WINDOW)
    run.replace(Counter.of(world, "stranger").desk, world.run_id, carry_out=True)
    verifiers = world.by("operator").run(world.run_id).verifiers
    assert alice in verifiers
    assert gone not in verifiers
    with told(world, counter, "is no verifier of run 1"):
        run.replace(counter.desk, world.run_id, world.address("bob"), alice)
    with told(world, counter, "has no verifier 9"):
        run.replace(counter.desk, world.run_id, "9", world.address("bob"))


def test_a_pause_is_told_before_money_comes_in(world: World) -> None:
    world.by("guardian").pause(3600, keccak256(b"fire"))
    counter = Counter.of(world, "operator")
    with told(world, counter, "the ledger is paused until .* UTC, in 1 h"):
        run.fund(counter.desk, world.run_id, "0.00000000000000001")
    run.halt(counter.desk, world.run_id, "a pause stops no halting")
    assert status(world) is LedgerStatus.HALTED


def test_a_reason_is_a_text_or_its_digest() -> None:
    assert digest_of("why") == keccak256(b"why")
    assert digest_of("0x" + "ab" * 32) == b"\xab" * 32
    for text in ("", "  ", "0x" + "zz" * 32):
        with pytest.raises(UserError):
            digest_of(text)


def test_a_quorum_takes_an_epoch_back_signature_by_signature(world: World) -> None:
    signer = Counter.of(world, "v0")
    with told(world, signer, "cannot be taken back: none is pending"):
        run.retract(signer.desk, world.run_id, 0)
    world.open()
    world.post(world.header(world.accounts(alice=4)))
    run.retract(signer.desk, world.run_id, 0)
    sender = Counter.of(world, "stranger")
    with told(world, sender, "1 signatures are given, 2 are needed"):
        run.retract(sender.desk, world.run_id, 0, signer.lines)
    with told(world, sender, "is no verifier of run 1"):
        run.retract(sender.desk, world.run_id, 0)
    with told(world, sender, "takes 0xVERIFIER=0xSIGNATURE"):
        run.retract(sender.desk, world.run_id, 0, ["0x1234"])
    second = Counter.of(world, "v1")
    run.retract(second.desk, world.run_id, 0)
    run.retract(sender.desk, world.run_id, 0, [*signer.lines, *second.lines])
    assert world.by("operator").run(world.run_id).num_posted == 0
    assert "are taken back" in sender.said
