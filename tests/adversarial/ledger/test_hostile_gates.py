"""Gates that join in the name of those they are asked about, burn gas, or answer with a flood."""

from typing import Any

import pytest
from web3.logs import DISCARD

from ledger.errors import LedgerError
from tests.stage.ledger_lab import Lab
from tests.stage.world import STAKE, refused

GAS = 5_000_000
ROUNDS = 3


def test_asked_before_it_is_written_down_a_gate_joins_three_times(lab: Lab) -> None:
    gate = lab.weak("ReenteringGate", ROUNDS)
    weak = lab.weak("AsksGate", lab.token.address, gate.address)
    lab.give(weak.address, 1_000)
    join = weak.encode_abi("joinRun", [1, b""])
    lab.send(gate.functions.act(weak.address, bytes.fromhex(join[2:])))
    assert lab.balance(gate.address) == ROUNDS * 100


def test_in_the_ledger_it_joins_once(lab: Lab) -> None:
    gate = lab.weak("ReenteringGate", ROUNDS)
    gated_run(lab, gate.address)
    register_contract(lab, gate)
    join = lab.ledger.encode_abi("joinRun", [2, b""])
    receipt = lab.send(gate.functions.act(lab.ledger.address, bytes.fromhex(join[2:])))
    joined = lab.ledger.events.WorkerJoined()
    assert len(joined.process_receipt({"logs": receipt.logs}, errors=DISCARD)) == 1
    assert gate.functions.numAsked().call() == 1
    assert gate.functions.numRefused().call() == 1


def test_asked_with_all_the_gas_a_burning_gate_takes_it(lab: Lab) -> None:
    weak = lab.weak("AsksGate", lab.token.address, lab.weak("BurningGate").address)
    succeeded, gas = lab.spend(weak.functions.joinRun(1, b""), "alice", GAS)
    assert not succeeded
    assert gas > 0.95 * GAS


@pytest.mark.parametrize("name", ["BurningGate", "BombGate", "FeeToken"])
def test_in_the_ledger_a_bad_gate_is_a_refusal_at_a_bounded_price(lab: Lab, name: str) -> None:
    gated_run(lab, lab.weak(name).address)
    call = lab.ledger.functions.joinRun(2, b"")
    with refused("NotEligible", worker=lab.address("alice")):
        lab.send(call, "alice")
    succeeded, gas = lab.spend(call, "alice", GAS)
    assert not succeeded
    assert gas < 700_000
    assert not lab.world.by("alice").is_joined(2, lab.address("alice"))


def test_an_address_without_code_admits_nobody(lab: Lab) -> None:
    gated_run(lab, lab.address("bob"))
    with pytest.raises(LedgerError):
        lab.send(lab.ledger.functions.joinRun(2, b""), "alice")
    assert not lab.world.by("alice").is_joined(2, lab.address("alice"))


def gated_run(lab: Lab, gate: str) -> None:
    run_id = lab.world.by("operator").create_run(lab.world.params(gate=gate), 0, "spec")
    assert run_id == 2


def register_contract(lab: Lab, gate: Any) -> None:
    """Make the gate an identity with a stake, as any contract may be."""
    address, act = gate.address, gate.functions.act
    lab.give(address, STAKE)
    approve = lab.token.encode_abi("approve", [lab.registry.address, STAKE])
    lab.send(act(lab.token.address, bytes.fromhex(approve[2:])))
    register = lab.registry.encode_abi("register", [STAKE, address, address, b""])
    lab.send(act(lab.registry.address, bytes.fromhex(register[2:])))
