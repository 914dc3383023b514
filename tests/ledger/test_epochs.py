"""Opening, posting, finalising and voiding epochs."""

from dataclasses import fields, replace
from typing import Any

import pytest

from ledger.errors import LedgerError
from protocol.canonical import keccak256
from protocol.epoch import EpochHeader
from protocol.signing import Domain, sign
from tests.stage.terms import key
from tests.stage.world import BUDGET, RATE, REVOKE, SECRET, WINDOW, World, refused


def test_a_posted_epoch_is_final_exactly_when_its_window_has_passed(world: World) -> None:
    world.open()
    world.post(world.header(world.accounts(alice=100)))
    posted = world.by("alice").epoch(1, 0)
    assert posted.posted_at
    assert posted.cost == 100 * RATE
    world.wait(WINDOW - 1)
    world.by("stranger").advance(1)
    assert world.by("alice").run(1).num_final == 0
    world.wait(1)
    world.by("stranger").advance(1)
    run = world.by("alice").run(1)
    assert (run.num_final, run.finalised, run.tokens, run.gflops) == (1, 1000, 7, 7)
    assert world.by("alice").meter(world.address("operator")).tokens == 7


def test_a_quorum_needs_enough_of_the_runs_own_verifiers(world: World) -> None:
    world.open()
    header = world.header(world.accounts(alice=100))
    with refused("QuorumTooSmall", signatures=1, threshold=2):
        world.post(header, "v0")
    with pytest.raises(LedgerError, match="no verifier"):
        world.post(header, "v0", "stranger")
    world.post(header, "v0", "v2")
    assert world.by("alice").epoch(1, 0).signer_bitmap == 0b101


def test_a_revoked_hot_key_signs_until_the_delay_has_passed_and_not_after(world: World) -> None:
    hot = key("v0 hot")
    verifier = world.by("v0")
    verifier.add_signer(hot.address, verifier.sign_consent(hot, world.address("v0")))
    world.open()
    header = world.header(world.accounts(alice=100))
    signatures = world.signed(header.struct_hash(), "v1")
    domain = Domain(world.deployment.chain_id, world.deployment.ledger)
    signatures[world.address("v0")] = sign(bytes(hot.key), domain.digest(header))
    verifier.revoke_signer(hot.address)
    revoked_at = int(world.chain.head.header.timestamp)
    height = world.chain.head.number
    world.clock.now = revoked_at + REVOKE - 1
    world.by("stranger").post_epoch(header, SECRET, signatures, "")
    world.chain.rewind(height)
    world.ledgers.clear()
    world.clock.now = revoked_at + REVOKE
    with refused("WrongSigner", recovered=hot.address, verifier=world.address("v0")):
        world.by("stranger").post_epoch(header, SECRET, signatures, "")


def test_the_secret_revealed_is_the_one_committed(world: World) -> None:
    world.open()
    header = world.header(world.accounts(alice=100))
    signatures = world.signed(header.struct_hash(), "v0", "v1")
    wrong = keccak256(b"chosen later")
    with refused("WrongSecret", given=keccak256(wrong), expected=keccak256(SECRET)):
        world.by("stranger").post_epoch(header, wrong, signatures, "")
    receipt = world.by("stranger").post_epoch(header, SECRET, signatures, "")
    assert receipt.gas_used < 400_000
    [event] = [e for e in world.by("alice").events().poll() if e.name == "EpochPosted"]
    assert event.values["secret"] == SECRET


def changed_headers(header: EpochHeader) -> dict[str, EpochHeader]:
    other = keccak256(b"other")
    bumped: dict[str, Any] = {
        field.name: other if isinstance(getattr(header, field.name), bytes) else 1
        for field in fields(header)
    }
    bumped["run_id"] = 2
    values: dict[str, Any] = {
        name: v if v != getattr(header, name) else 2 for name, v in bumped.items()
    }
    return {name: replace(header, **{name: value}) for name, value in values.items()}


def test_every_field_of_a_header_is_under_its_signatures(world: World) -> None:
    second = world.by("operator").create_run(world.params(), BUDGET, "")
    world.by("operator").open_epoch(second, keccak256(SECRET))
    world.open()
    header = world.header(world.accounts(alice=100))
    signatures = world.signed(header.struct_hash(), "v0", "v1")
    headers = changed_headers(header)
    assert len(headers) == 12
    for name, changed in headers.items():
        with pytest.raises(LedgerError):
            world.by("stranger").post_epoch(changed, SECRET, signatures, "")
            pytest.fail(f"a changed {name} was accepted")
    world.by("stranger").post_epoch(header, SECRET, signatures, "")


def test_counts_must_be_possible(world: World) -> None:
    world.open()
    accounts = world.accounts(alice=100, bob=1)
    with refused("InconsistentCounts", workCount=1, accountCount=2, accountsBefore=0):
        world.post(world.header(accounts, work_count=1))
    world.post(world.header(accounts, work_count=2))
    world.open()
    fewer = world.accounts(alice=200)
    with refused("InconsistentCounts", accountCount=1, accountsBefore=2):
        world.post(world.header(fewer))


def test_only_the_operator_or_its_hot_key_opens_an_epoch(world: World) -> None:
    hot, operator = key("operator hot"), world.by("operator")
    with refused("NotOperator", caller=world.address("stranger")):
        world.by("stranger").open_epoch(1, SECRET)
    consent = operator.sign_consent(hot, world.address("operator"))
    operator.register(0, hot.address, world.address("operator"), consent)
    # The hot key needs gas, which the chain gives only to people: ask, without sending.
    call = operator._ledger.functions.openEpoch(1, SECRET)
    assert call.call({"from": hot.address}) == []


def test_no_meter_reading_can_block_finality(world: World) -> None:
    most = 2**64 - 1
    for epoch in range(2):
        world.open()
        header = world.header(world.accounts(alice=epoch + 1), tokens=most, gflops=most)
        world.post(header)
    world.wait(WINDOW)
    world.by("stranger").advance(1)
    assert world.by("alice").run(1).tokens == 2 * most
