"""Opening, posting, finalising and voiding epochs."""

from dataclasses import fields, replace
from typing import Any

import pytest

from ledger.errors import LedgerError
from ledger.ledger import Ledger
from protocol.canonical import keccak256
from protocol.epoch import EpochHeader
from protocol.signing import Domain, sign
from tests.contracts.world import BUDGET, RATE, REVOKE, SECRET, WINDOW, World, key, refused


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


def test_posting_finalises_what_has_matured(world: World) -> None:
    accounts = world.accounts(alice=100)
    world.open()
    world.post(world.header(accounts))
    world.open()
    world.wait(WINDOW)
    world.post(world.header(world.accounts(alice=150)))
    run = world.by("alice").run(1)
    assert (run.num_final, run.num_posted, run.committed) == (1, 2, 1500)


def test_an_epoch_costs_at_most_what_the_budget_has_left(world: World) -> None:
    world.open()
    world.open()
    world.post(world.header(world.accounts(alice=100)))
    left = BUDGET // RATE - 100
    too_much = world.header(world.accounts(alice=100 + left + 1))
    with refused("BudgetExceeded", cost=(left + 1) * RATE, available=left * RATE):
        world.post(too_much)
    world.post(world.header(world.accounts(alice=100 + left)))
    assert world.by("alice").run(1).available == 0


def test_a_quorum_needs_enough_of_the_runs_own_verifiers(world: World) -> None:
    world.open()
    header = world.header(world.accounts(alice=100))
    with refused("QuorumTooSmall", signatures=1, threshold=2):
        world.post(header, "v0")
    with pytest.raises(LedgerError, match="no verifier"):
        world.post(header, "v0", "stranger")
    world.post(header, "v0", "v2")
    assert world.by("alice").epoch(1, 0).signer_bitmap == 0b101


def test_one_verifier_cannot_sign_for_another(world: World) -> None:
    world.open()
    header = world.header(world.accounts(alice=100))
    own = world.signed(header.struct_hash(), "v0")[world.address("v0")]
    forged = {world.address("v0"): own, world.address("v1"): own}
    with refused("WrongSigner", recovered=world.address("v0"), verifier=world.address("v1")):
        world.by("v0").post_epoch(header, SECRET, forged, "")


@pytest.mark.parametrize("bitmap", [1 << 3, 1 << 255, 0b1011])
def test_bits_beyond_the_verifiers_are_refused(world: World, bitmap: int) -> None:
    world.open()
    header = world.header(world.accounts(alice=100))
    signatures = list(world.signed(header.struct_hash(), "v0", "v1").values())
    contract = world.by("v0")._ledger
    words = tuple(getattr(header, field.name) for field in fields(header))
    call = contract.functions.postEpoch(words, SECRET, bitmap, [*signatures, signatures[0]], "")
    with refused("NoSuchVerifier"):
        world.transact(call)
    call = contract.functions.postEpoch(words, SECRET, 0b11, [*signatures, signatures[0]], "")
    with refused("SignatureCountMismatch", signatures=3, bits=2):
        world.transact(call)
    call = contract.functions.postEpoch(words, SECRET, 0b111, signatures, "")
    with refused("SignatureCountMismatch", signatures=2, bits=3):
        world.transact(call)


def test_only_currently_staked_verifiers_count(world: World) -> None:
    world.open()
    header = world.header(world.accounts(alice=100))
    world.by("v1").unbond(1)
    with refused("StakeTooLow", who=world.address("v1"), have=999, need=1000):
        world.post(header, "v0", "v1")
    world.by("v1").stake(1)
    world.post(header, "v0", "v1")


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


def test_a_posted_header_cannot_be_posted_again(world: World) -> None:
    world.open()
    world.open()
    header = world.header(world.accounts(alice=100))
    world.post(header)
    with refused("WrongEpoch", given=0, expected=1):
        world.post(header)


def test_a_header_must_follow_the_last_and_its_epoch_be_open(world: World) -> None:
    accounts = world.accounts(alice=100)
    with refused("EpochNotOpen", epoch=0, numOpened=0):
        world.post(world.header(accounts))
    world.open()
    with refused("WrongPreviousRoot"):
        world.post(world.header(accounts, prev_account_root=keccak256(b"elsewhere")))
    with refused("WrongEpoch", given=1, expected=0):
        world.post(world.header(accounts, epoch=1))
    with refused("WrongGeneration", given=1, expected=0):
        world.post(world.header(accounts, generation=1))


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


def test_an_empty_epoch_says_nothing(world: World) -> None:
    world.open()
    empty: dict[str, Any] = dict.fromkeys(("work_count", "account_count", "total", "tokens"), 0)
    empty |= {"work_root": bytes(32), "account_root": bytes(32), "gflops": 0}
    nothing = world.header([], **empty)
    lies: list[dict[str, Any]] = [{"total": 1}, {"tokens": 1}, {"gflops": 1}]
    for lie in lies:
        with refused("InconsistentCounts"):
            world.post(replace(nothing, **lie))
    with refused("InconsistentCounts"):
        world.post(replace(nothing, account_root=keccak256(b"mine")))
    world.post(nothing)
    assert world.by("alice").run(1).committed == 0


def test_at_most_eight_epochs_are_open_or_pending(world: World) -> None:
    for _ in range(8):
        world.open()
    with refused("TooManyOpenEpochs", open=8):
        world.open()
    for units in range(1, 9):
        world.post(world.header(world.accounts(alice=units)))
    world.open()
    ninth = world.header(world.accounts(alice=9))
    with refused("TooManyPendingEpochs", pending=8):
        world.post(ninth)
    world.wait(WINDOW)
    world.post(ninth)
    assert world.by("alice").run(1).num_final == 8


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


def voidable(world: World) -> World:
    """Return a world whose `arbiter` stands where the Disputes contract does."""
    ledger = world.contract(
        "RunLedger",
        *(world.deployment.registry, world.address("arbiter"), world.deployment.council),
        *(2, 0),
    )
    deployment = replace(world.deployment, ledger=ledger.address)
    other = World(world.w3, world.chain, world.clock, deployment, world.people)
    other.run_id = other.by("operator").create_run(other.params(), BUDGET, "")
    return other


def void(world: World, epoch: int, by: str = "arbiter") -> Any:
    ledger: Ledger = world.by(by)
    return world.transact(ledger._ledger.functions.voidEpoch(world.run_id, epoch, False), by)


def test_voiding_returns_the_money_and_a_voided_header_never_comes_back(world: World) -> None:
    world = voidable(world)
    for _ in range(3):
        world.open()
    world.post(world.header(world.accounts(alice=10)))
    bad = world.header(world.accounts(alice=20))
    world.post(bad)
    world.post(world.header(world.accounts(alice=30)))
    void(world, 1)
    run = world.by("alice").run(1)
    assert (run.num_posted, run.committed, run.generation) == (1, 10 * RATE, 1)
    assert not world.by("alice").epoch(1, 2).posted_at
    with refused("WrongGeneration", given=0, expected=1):
        world.post(bad)
    world.post(world.header(world.accounts(alice=15)))
    assert world.by("alice").run(1).committed == 15 * RATE


def test_only_disputes_void_and_only_what_is_pending(world: World) -> None:
    world = voidable(world)
    world.settle(alice=10)
    with refused("NotDisputes", caller=world.address("operator")):
        void(world, 0, by="operator")
    with refused("EpochNotPending", epoch=0, numFinal=1, numPosted=1):
        void(world, 0)
    with refused("EpochNotPending", epoch=1):
        void(world, 1)


def test_voiding_after_a_stop_leaves_time_to_post_honestly(world: World) -> None:
    world = voidable(world)
    world.open()
    world.post(world.header(world.accounts(alice=10)))
    world.by("operator").stop_run(1)
    world.wait(WINDOW - 1)
    void(world, 0)
    world.wait(WINDOW)
    world.post(world.header(world.accounts(alice=8)))
    assert world.by("alice").run(1).committed == 8 * RATE
