"""Refusals as sentences: every placeholder is a value that the contracts give."""

from string import Formatter
from typing import Any

import pytest

from ledger.amounts import Token
from ledger.artifact import artifact
from ledger.errors import CONTRACTS, ContractError
from rollcall.cli.refusals import SENTENCES, explain

TEST = Token("0x" + "11" * 20, "TEST", 18)
NOW = 1_800_000_000
SAMPLES = {"address": "0x" + "22" * 20, "bytes32": b"\3" * 32, "uint8": 2}

OF_PROGRAMS = frozenset(
    (
        *("AddressEmptyCode", "FailedCall", "FailedDeployment", "Create2EmptyBytecode"),
        *("CheckpointUnorderedInsertion", "ReentrancyGuardReentrantCall", "InvalidShortString"),
        *("ECDSAInvalidSignature", "ECDSAInvalidSignatureLength", "ECDSAInvalidSignatureS"),
        *("ERC20InvalidApprover", "ERC20InvalidSender", "ERC20InvalidSpender"),
        *("ERC2612ExpiredSignature", "ERC2612InvalidSigner", "InvalidAccountNonce"),
        *("BadIndices", "BadOpening", "BadWitness", "NotAdjacent", "NotDemanded"),
        *("ClaimExceedsFinal", "InconsistentCounts", "LengthMismatch", "SignatureCountMismatch"),
        *("NotDisputes", "NotLedger", "NotSlasher", "NotOperatorsKey", "WrongWiring"),
        *("WrongEpoch", "WrongGeneration", "WrongPreviousRoot", "WrongSecret", "WrongSignature"),
        *("TimelockInsufficientDelay", "TimelockInvalidOperationLength"),
        *("TimelockUnauthorizedCaller", "TimelockUnexecutedPredecessor"),
        *("TimelockUnexpectedOperationState", "Panic"),
    )
)
"""Refusals of what a program made: no person chose the values, and none can mend them."""


def declared() -> dict[str, list[dict[str, Any]]]:
    """Return every error of the ABIs by name, with its inputs."""
    found: dict[str, list[dict[str, Any]]] = {}
    for contract in CONTRACTS:
        for entry in artifact(contract).abi:
            if entry["type"] == "error":
                found[entry["name"]] = [*found.get(entry["name"], []), entry]
    return found


def declaration(key: str) -> dict[str, Any]:
    name, _, first = key.removesuffix(")").partition("(")
    fitting = [
        entry
        for entry in declared()[name]
        if not first or (entry["inputs"] and entry["inputs"][0]["name"] == first)
    ]
    return fitting[0]


FOREIGN = {
    "Error": [{"name": "reason", "type": "string"}],
    "Unknown": [{"name": "data", "type": "bytes32"}],
}
"""What `ledger/errors.py` reads that no ABI has."""


def test_every_error_of_the_contracts_has_a_sentence_or_is_a_programs_own() -> None:
    said = {key.partition("(")[0] for key in SENTENCES} - set(FOREIGN)
    assert said | OF_PROGRAMS - {"Panic"} == set(declared())
    assert not said & OF_PROGRAMS
    for name, entries in declared().items():
        first = {entry["inputs"][0]["name"] for entry in entries if entry["inputs"]}
        two = {f"{name}({given})" for given in first} if len(first) > 1 else set()
        assert two <= set(SENTENCES)


@pytest.mark.parametrize("name", sorted(declared()))
def test_no_answer_is_an_errors_name_and_values_as_solidity_has_them(name: str) -> None:
    for entry in declared()[name]:
        values = {item["name"]: SAMPLES.get(item["type"], NOW) for item in entry["inputs"]}
        said = explain(ContractError(name, values), TEST, NOW)
        assert "\n" not in said
        assert not said.startswith(name)
        assert len(said) > 20


@pytest.mark.parametrize("key", SENTENCES)
def test_every_sentence_formats_with_what_the_contracts_give(key: str) -> None:
    inputs = FOREIGN.get(key) or declaration(key)["inputs"]
    values = {item["name"]: SAMPLES.get(item["type"], NOW) for item in inputs}
    said = explain(ContractError(key.partition("(")[0], values), TEST, NOW)
    assert "\n" not in said
    assert not said.startswith("the ledger refuses what"), "no sentence was found"
    asked = {field for _, field, _, _ in Formatter().parse(SENTENCES[key]) if field}
    assert asked <= set(values)


def test_amounts_and_times_are_shown_for_people() -> None:
    error = ContractError("NotEnoughStake", {"have": 10**18, "asked": 15 * 10**17})
    assert explain(error, TEST, NOW) == "1.5 TEST is more than the 1 TEST that are staked"
    error = ContractError("StillUnbonding", {"until": NOW + 7200, "nowAt": NOW})
    assert "2027-01-15 10:00:00 UTC, in 2 h" in explain(error, TEST, NOW)


def test_one_name_of_two_contracts_has_two_sentences() -> None:
    run = ContractError("WrongStatus", {"runId": 7, "status": 2})
    accusation = ContractError("WrongStatus", {"slashId": b"\1" * 32, "status": 4})
    assert explain(run, TEST, NOW).startswith("run 7 is halted")
    assert "dismissed" in explain(accusation, TEST, NOW)


def test_an_unknown_refusal_is_shown_as_it_came() -> None:
    said = explain(ContractError("Odd", {"value": 3}), TEST, NOW)
    assert said.startswith("the ledger refuses what this program sent.")
    assert said.endswith("report Odd(value=3)")
