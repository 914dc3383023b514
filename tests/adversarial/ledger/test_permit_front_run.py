"""Sending somebody's permit before the transaction that carries it."""

from typing import Any

from protocol.canonical import keccak256
from protocol.epoch import abi_word
from tests.stage.ledger_lab import Lab
from tests.stage.world import BUDGET, STAKE, refused

PERMIT = "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"
NEVER = 2**63


def test_a_deposit_that_needs_its_permit_is_stopped_by_whoever_sends_it_first(lab: Lab) -> None:
    weak = lab.weak("NeedsPermit", lab.token.address)
    lab.give("operator", 100)
    permit = signed_permit(lab, "operator", weak.address, 100)
    deposit = weak.functions.deposit(100, NEVER, *permit)
    with lab.world.undone():
        lab.send(deposit, "operator")
    spend(lab, "operator", weak.address, 100, permit)
    with refused("ERC2612InvalidSigner"):
        lab.send(deposit, "operator")


def test_a_run_is_funded_although_its_permit_was_sent_first(lab: Lab) -> None:
    lab.give("operator", BUDGET)
    permit = signed_permit(lab, "operator", lab.ledger.address, BUDGET)
    calls = [
        lab.ledger.encode_abi("selfPermit", [lab.token.address, BUDGET, NEVER, *permit]),
        lab.ledger.encode_abi("createRun", [lab.world.params().as_struct(), BUDGET, "spec"]),
    ]
    both = lab.ledger.functions.multicall(calls)
    for is_front_run in (False, True):
        with lab.world.undone():
            if is_front_run:
                spend(lab, "operator", lab.ledger.address, BUDGET, permit)
            lab.send(both, "operator")
            assert lab.world.by("operator").run(2).budget == BUDGET


def test_a_worker_is_registered_although_its_permit_was_sent_first(lab: Lab) -> None:
    lab.give("stranger", STAKE)
    me = lab.address("stranger")
    permit = signed_permit(lab, "stranger", lab.registry.address, STAKE)
    spend(lab, "stranger", lab.registry.address, STAKE, permit)
    calls = [
        lab.registry.encode_abi("selfPermit", [STAKE, NEVER, *permit]),
        lab.registry.encode_abi("register", [STAKE, me, me, b""]),
    ]
    lab.send(lab.registry.functions.multicall(calls), "stranger")
    assert lab.stake("stranger") == STAKE


def test_a_strangers_permit_moves_nothing_to_whom_it_was_not_meant(lab: Lab) -> None:
    # Its signer is the caller: bob cannot fund his run from the operator's permit.
    lab.give("operator", BUDGET)
    permit = signed_permit(lab, "operator", lab.ledger.address, BUDGET)
    calls = [
        lab.ledger.encode_abi("selfPermit", [lab.token.address, BUDGET, NEVER, *permit]),
        lab.ledger.encode_abi("fundRun", [lab.world.run_id, BUDGET]),
    ]
    with refused("ERC20InsufficientAllowance"):
        lab.send(lab.ledger.functions.multicall(calls), "bob")


def signed_permit(lab: Lab, owner: str, spender: str, value: int) -> tuple[int, bytes, bytes]:
    """Return v, r, s of an EIP-2612 permit."""
    functions, address = lab.token.functions, lab.address(owner)
    nonce = functions.nonces(address).call()
    words = [
        abi_word("address", address),
        abi_word("address", spender),
        *(abi_word("uint256", number) for number in (value, nonce, NEVER)),
    ]
    struct = keccak256(keccak256(PERMIT.encode()) + b"".join(words))
    separator = bytes(functions.DOMAIN_SEPARATOR().call())
    digest = keccak256(b"\x19\x01" + separator + struct)
    signature = bytes(lab.person(owner).unsafe_sign_hash(digest).signature)
    return signature[64], signature[:32], signature[32:64]


def spend(lab: Lab, owner: str, spender: str, value: int, permit: Any) -> None:
    """Send a permit as the front-runner does."""
    lab.send(lab.token.functions.permit(lab.address(owner), spender, value, NEVER, *permit), "bob")
