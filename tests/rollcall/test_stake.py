"""Stake, hot keys, payouts and credits as commands: what they do, and what they refuse in one line."""

import pytest

from protocol.user_error import UserError
from rollcall.cli import keys, stake
from tests.stage.counter import Counter, told
from tests.stage.terms import key
from tests.stage.world import REVOKE, STAKE, UNBOND, World

TEN_WEI = "0.00000000000000001"


def test_a_new_key_is_registered_and_staked_at_once(world: World) -> None:
    world.by("stranger").mint(world.address("stranger"), 100)
    counter = Counter.of(world, "stranger")
    stake.stake(counter.desk, TEN_WEI, payout=world.address("bob"))
    account = world.by("stranger").stake_account(world.address("stranger"))
    assert (account.stake, account.payout) == (10, world.address("bob"))
    stake.stake(counter.desk, TEN_WEI)
    assert world.by("stranger").stake_of(world.address("stranger")) == 20
    assert "0.00000000000000002 RTEST" in counter.said


def test_a_dry_run_says_what_would_be_sent_and_sends_nothing(world: World) -> None:
    counter = Counter.of(world, "alice", dry_run=True)
    sent = world.w3.eth.get_transaction_count(world.address("alice"))
    stake.stake(counter.desk, TEN_WEI)
    assert world.w3.eth.get_transaction_count(world.address("alice")) == sent
    assert "would stake 0.00000000000000001 RTEST: " in counter.said
    assert " gas (" in counter.said


def test_more_than_the_wallet_holds_is_refused_with_both_amounts(world: World) -> None:
    counter = Counter.of(world, "alice")
    with told(world, counter, "has 0.000000000000009 RTEST, 1 RTEST are needed"):
        stake.stake(counter.desk, "1")


def test_a_hot_key_cannot_move_its_owners_stake(world: World) -> None:
    hot = key("hot")
    world.by("alice").add_signer(
        hot.address, world.by("alice").sign_consent(hot, world.address("alice"))
    )
    world.people["hot"] = hot
    counter = Counter.of(world, "hot")
    with told(world, counter, f"a hot key of {world.address('alice')}: use that account's own key"):
        stake.unbond(counter.desk, "all")
    del world.people["hot"]


def test_stake_leaves_after_the_unbonding_period_and_not_before(world: World) -> None:
    counter = Counter.of(world, "alice")
    stake.unbond(counter.desk, "all")
    assert "can be withdrawn from" in counter.said
    with told(world, counter, "are unbonding until .* UTC, in 10 min: withdraw them then"):
        stake.stake(counter.desk, withdraw=True)
    world.wait(UNBOND)
    before = world.by("alice").balance(world.address("alice"))
    stake.stake(counter.desk, withdraw=True)
    assert world.by("alice").balance(world.address("alice")) == before + STAKE
    with told(world, counter, "nothing of .* is unbonding: `rollcall unbond AMOUNT` starts it"):
        stake.stake(counter.desk, withdraw=True)


def test_unbonding_more_than_is_staked_names_the_stake(world: World) -> None:
    counter = Counter.of(world, "alice")
    with told(world, counter, "1 RTEST cannot leave: .* has 0.000000000000001 RTEST staked"):
        stake.unbond(counter.desk, "1")


def test_a_second_unbonding_warns_that_the_wait_starts_anew(world: World) -> None:
    counter = Counter.of(world, "alice")
    stake.unbond(counter.desk, TEN_WEI)
    stake.unbond(counter.desk, TEN_WEI)
    assert "starts the wait for 0.00000000000000001 RTEST" in counter.said


def test_a_hot_key_is_added_listed_and_revoked(world: World) -> None:
    hot, cold = key("hot"), world.address("alice")
    counter = Counter.of(world, "alice")
    consent = "0x" + world.by("alice").sign_consent(hot, cold).hex()
    keys.add_signer(counter.desk, hot.address, consent)
    assert world.by("alice").owner_of(hot.address) == cold
    with told(world, counter, "signs for .* already"):
        keys.add_signer(counter.desk, hot.address, consent)
    keys.revoke_signer(counter.desk, hot.address)
    assert "UTC, in 50 s" in counter.said
    world.wait(REVOKE + 1)
    assert world.by("alice").owner_of(hot.address) is None
    counter.lines.clear()
    keys.list_signers(counter.desk, None)
    assert counter.lines[0] == cold
    assert counter.lines[1].startswith(f"{hot.address}  revoked, ")


def test_a_consent_of_another_key_or_no_hex_is_refused(world: World) -> None:
    counter, hot = Counter.of(world, "alice"), key("hot").address
    foreign = "0x" + world.by("alice").sign_consent(key("other"), world.address("alice")).hex()
    with told(world, counter, "has not consented to sign for .*: run `rollcall consent --owner"):
        keys.add_signer(counter.desk, hot, foreign)
    with told(world, counter, "--consent is not hex"):
        keys.add_signer(counter.desk, hot, "yes")


def test_a_payout_is_changed_and_a_wrong_address_refused(world: World) -> None:
    counter = Counter.of(world, "alice")
    stake.payout(counter.desk, world.address("bob"))
    assert world.by("alice").payout_of(world.address("alice")) == world.address("bob")
    with told(world, counter, "is paid to .* already"):
        stake.payout(counter.desk, world.address("bob"))
    with told(world, counter, "0x1234"):
        stake.payout(counter.desk, "0x1234")


def test_what_was_never_registered_has_nothing_to_show_or_take(world: World) -> None:
    counter = Counter.of(world, "stranger")
    stake.stake(counter.desk)
    assert "is not registered: `rollcall stake AMOUNT`" in counter.said
    with told(world, counter, "is not registered"):
        stake.unbond(counter.desk, "all")
    with told(world, counter, "has no credit"):
        stake.withdraw(counter.desk)


def test_a_closed_runs_refund_is_withdrawn(world: World) -> None:
    ledger = world.by("operator")
    ledger.stop_run(world.run_id)
    world.wait(10_000)
    ledger.close_run(world.run_id)
    world.wait(10_000)
    refund = ledger.refund_run(world.run_id)
    counter = Counter.of(world, "operator")
    before = ledger.balance(world.address("operator"))
    stake.withdraw(counter.desk)
    assert "of refunds are withdrawn to this account" in counter.said
    assert ledger.balance(world.address("operator")) == before + refund


def test_an_account_without_gas_is_told_before_anything_is_sent(world: World) -> None:
    world.people["pauper"] = key("pauper")
    world.by("operator").mint(key("pauper").address, 100)
    counter = Counter.of(world, "pauper")
    with told(world, counter, "gas: send it"):
        stake.stake(counter.desk, TEN_WEI)
    del world.people["pauper"]


def test_a_question_without_a_terminal_asks_for_yes(world: World) -> None:
    counter = Counter.of(world, "alice")
    counter.desk._yes = False
    with pytest.raises(UserError, match="Add --yes"):
        counter.desk.ask("Really?")
