"""Paying in: exactly the amount, by permit in one transaction where the token has one."""

from collections.abc import Callable
from typing import Any

import pytest

from ledger.errors import ContractError, LedgerError
from protocol.canonical import keccak256
from tests.stage.world import BUDGET, STAKE, World, refused


def sent(world: World, act: Callable[[], Any]) -> int:
    """Return how many transactions an action took."""
    before = world.chain.head.number
    act()
    return int(world.chain.head.number) - before


def allowance(world: World, name: str, spender: str) -> int:
    token = world.by(name).node.contract("TestToken", world.deployment.token)
    return int(token.functions.allowance(world.address(name), spender).call())


def test_a_permit_pays_in_with_one_transaction_and_leaves_no_allowance(world: World) -> None:
    operator, me = world.by("operator"), world.address("operator")
    assert sent(world, lambda: operator.create_run(world.params(), 1_000, "")) == 1
    assert sent(world, lambda: operator.fund_run(1, 5)) == 1
    assert sent(world, lambda: operator.register(7, me, me)) == 1
    assert sent(world, lambda: operator.stake(3)) == 1
    assert operator.stake_of(me) == 10
    assert operator.run(1).budget == BUDGET + 5
    for spender in (world.deployment.ledger, world.deployment.registry):
        assert allowance(world, "operator", spender) == 0


def test_a_token_without_permits_is_approved_exactly(world: World) -> None:
    token = world.contract("ReentrantToken")
    world.transact(token.functions.mint(world.address("operator"), 100))
    params, operator = world.params(token=token.address), world.by("operator")
    assert sent(world, lambda: operator.create_run(params, 60, "")) == 2
    left = token.functions.allowance(world.address("operator"), world.deployment.ledger).call()
    assert left == 0


def test_an_allowance_that_stands_is_taken_back_first_and_a_strange_permit_not_used(
    world: World,
) -> None:
    """Some tokens refuse to change an allowance, and some have a `permit` of another meaning."""
    token, operator = world.contract("StubbornToken"), world.by("operator")
    world.transact(token.functions.mint(world.address("operator"), 100))
    world.transact(token.functions.approve(world.deployment.ledger, 1), "operator")
    with pytest.raises(ContractError, match="Unknown"):  # the attack: approving at once
        world.transact(token.functions.approve(world.deployment.ledger, 60), "operator")
    params = world.params(token=token.address)
    assert sent(world, lambda: operator.create_run(params, 60, "")) == 3
    assert operator.run(2).budget == 60


def test_a_permit_sent_ahead_by_somebody_else_changes_nothing(world: World) -> None:
    """The attack: whoever sees the permit spends it first, and a bare `permit` call would revert."""
    operator, ledger = world.by("operator"), world.deployment.ledger
    draft = operator.draft("fund_run", 1, 50)
    assert draft.function == "multicall"
    permit = operator._ledger.decode_function_input(draft.arguments["data"][0])[1]
    token = operator.node.contract("TestToken", world.deployment.token)
    words = (permit["value"], permit["deadline"], permit["v"], permit["r"], permit["s"])
    world.transact(token.functions.permit(world.address("operator"), ledger, *words))
    with pytest.raises(ContractError, match="ERC2612InvalidSigner"):
        token.functions.permit(world.address("operator"), ledger, *words)
        operator._call(token.functions.permit(world.address("operator"), ledger, *words))
    operator.send(draft)
    assert operator.run(1).budget == BUDGET + 50


def test_an_allowance_that_is_there_is_used(world: World) -> None:
    operator = world.by("operator")
    token = operator.node.contract("TestToken", world.deployment.token)
    world.transact(token.functions.approve(world.deployment.ledger, 80), "operator")
    assert sent(world, lambda: operator.fund_run(1, 50)) == 1
    assert allowance(world, "operator", world.deployment.ledger) == 30


def test_a_draft_is_the_transaction_and_sends_nothing(world: World) -> None:
    operator, height = world.by("operator"), world.chain.head.number
    draft = operator.draft("open_epoch", 1, keccak256(b"secret"))
    assert world.chain.head.number == height
    assert (draft.to, draft.function) == (world.deployment.ledger, "openEpoch")
    assert draft.arguments == {"runId": 1, "secretHash": keccak256(b"secret")}
    assert 21_000 < operator.gas_of(draft) < 200_000
    operator.send(draft)
    assert operator.run(1).num_opened == 1
    with pytest.raises(ValueError, match="sends nothing"):
        operator.draft("run", 1)


def test_a_drafts_refusal_is_found_without_sending(world: World) -> None:
    stranger = world.by("stranger")
    with refused("NotOperator"):
        stranger.gas_of(stranger.draft("stop_run", 1))
    with pytest.raises(LedgerError, match="can only read"):
        reader = type(stranger)(world.node, world.deployment)
        reader.gas_of(reader.draft("stop_run", 1))
    with refused("ERC20InsufficientBalance", needed=STAKE):
        stranger.gas_of(stranger.draft("fund_run", 1, STAKE))


def test_a_tokens_name_is_read_and_its_absence_survived(world: World) -> None:
    ledger = world.by("bob")
    assert ledger.token(world.deployment.token) == ("RTEST", 18)
    assert ledger.token(world.deployment.registry) == ("", 18)
