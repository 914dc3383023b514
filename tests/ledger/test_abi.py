"""The client, or the tests' own, has every function, and Python's types are the structs.

Fails when a function, a struct's field or an enum's member is added to a contract and forgotten here.
"""

import ast
import re
from dataclasses import fields
from enum import IntEnum
from pathlib import Path
from typing import Any

import pytest
from eth_abi.abi import encode

from ledger import state
from ledger.artifact import artifact
from ledger.errors import CONTRACTS, decode_error
from ledger.events import _kinds
from protocol import epoch
from protocol.canonical import keccak256
from protocol.rollout import Work
from tests.ledger.gate_claims import CLAIM_TYPE
from tests.stage import whole

HOME = Path(state.__file__).parent
FOLDER = HOME.parent / "contracts"
ATTRIBUTES = {
    "_registry": "StakeRegistry",
    "_ledger": "RunLedger",
    "_disputes": "Disputes",
    "_council": "Council",
}
UNREACHED = {
    "StakeRegistry": {
        "hold, release, slash, seize, postBond, returnBond, forfeitBond": "called by Disputes only",
        "token, slasher": "in the deployment file",
        "eip712Domain": "consentDigest is what is signed",
        "spokeFor": "follows from signerOf",
        "standingOf": "asked by RunLedger",
        "revokeDelay, treasury, unbondPeriod": "in the deployment's terms",
    },
    "RunLedger": {
        "voidEpoch, holdEpoch, releaseEpoch, clearRetracted": "called by Disputes only",
        "creditUncommitted": "called by Disputes only",
        "postedOf, numParametersOf": "for Disputes: people read epochOf and runOf",
        "registry, disputes, council": "in the deployment file",
        "steering": "code of the ledger's own, reached through it",
        "eip712Domain": "domainSeparator is what is signed",
        "minWindow, warnGflops": "in the deployment's terms",
    },
    "Disputes": {
        "ledger": "in the deployment file",
        "proofs": "code of the disputes' own, reached through them",
        "rulingWindow": "in the deployment's terms",
    },
    "Council": {
        "requireArbiter": "asked by Disputes; people ask hasRole",
        "getRoleAdmin, supportsInterface": "the same for every office",
    },
}
"""What has no method, and why. Constants in capitals are in the sources and never change."""


def calls() -> dict[str, set[str]]:
    """Return which functions of each contract have a method: `self._x.functions.NAME(`."""
    found: dict[str, set[str]] = {name: set() for name in ATTRIBUTES.values()}
    for path in (*HOME.glob("*.py"), Path(whole.__file__)):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.Attribute(
                    attr=name,
                    value=ast.Attribute(attr="functions", value=ast.Attribute(attr=contract)),
                ) if contract in ATTRIBUTES:
                    found[ATTRIBUTES[contract]].add(name)
    return found


@pytest.mark.parametrize("contract", UNREACHED)
def test_every_function_has_a_method(contract: str) -> None:
    functions = {e["name"] for e in artifact(contract).abi if e["type"] == "function"}
    unreached = {name for group in UNREACHED[contract] for name in group.split(", ")}
    # A deposit goes through `multicall` of whichever contract pulls it.
    reached = calls()[contract] | ({"multicall"} & functions)
    constants = {name for name in functions if name == name.upper()}
    assert functions - reached - unreached - constants == set(), "has no method in the client"
    assert unreached - functions == set(), "is no longer in the contract"
    assert unreached & reached == set(), "is called after all"


def snake(name: str) -> str:
    plain = name.replace("URI", "Uri")
    return "".join("_" + c.lower() if c.isupper() else c for c in plain).lstrip("_")


def structs() -> dict[str, list[dict[str, Any]]]:
    """Return the members of every struct that a function takes or returns, by its Solidity name."""
    found: dict[str, list[dict[str, Any]]] = {}

    def visit(port: dict[str, Any]) -> None:
        if "components" in port:
            name = re.sub(r"(\[\])*$", "", port["internalType"]).split(".")[-1]
            found[name] = port["components"]
            for member in port["components"]:
                visit(member)

    for contract in UNREACHED:
        for entry in artifact(contract).abi:
            for port in (*entry.get("inputs", ()), *entry.get("outputs", ())):
                visit(port)
    return found


def names(struct: str) -> list[str]:
    return [snake(member["name"]) for member in structs()[struct]]


SAME = {
    "Account": state.StakeState,
    "Condemnation": state.Condemnation,
    "Dispute": state.DisputeState,
    "Epoch": state.EpochState,
    "EpochHeader": epoch.EpochHeader,
    "FraudReport": epoch.FraudReport,
    "Meter": whole.Meter,
    "Replacement": whole.Replacement,
    "Slash": state.SlashState,
    "WorkLeaf": epoch.WorkLeaf,
    "WorkProof": state.WorkOpening,
}


@pytest.mark.parametrize("struct", SAME)
def test_python_types_have_the_structs_fields_in_order(struct: str) -> None:
    assert [field.name for field in fields(SAME[struct])] == names(struct)


def test_no_struct_is_left_out() -> None:
    others = {"Run", "RunParams", "AccountProof", "Work", "Receipt"}  # each has its test below
    assert structs().keys() == SAME.keys() | others


def test_a_run_has_the_structs_fields_and_its_members() -> None:
    struct = ["roster_code" if name == "roster" else name for name in names("Run")]
    assert [field.name for field in fields(state.RunState)] == [*struct, "roster", "stewards"]


def test_run_params_fill_the_struct_in_its_order() -> None:
    one, other = "0x" + "11" * 20, "0x" + "22" * 20
    params = state.RunParams(
        token=one,
        gate=other,
        rate=3,
        min_stake=4,
        challenge_window=5,
        settle_window=6,
        resume_delay=7,
        permit_period=8,
        threshold=9,
        steward_threshold=10,
        compute_cap=11,
        num_parameters=12,
        parent_run=13,
        spec_hash=b"\x14" * 32,
        base_model=b"\x15" * 32,
        licence="sixteen",
        intended_use="seventeen",
        verifiers=(one,),
        stewards=(other,),
    )
    filled = dict(zip(names("RunParams"), params.as_struct(), strict=True))
    assert filled.keys() == {field.name for field in fields(params)}
    for name, value in filled.items():
        expected = getattr(params, name)
        assert value == (list(expected) if isinstance(expected, tuple) else expected)


def test_openings_and_receipts_fill_their_structs() -> None:
    leaf = epoch.AccountLeaf("0x" + "11" * 20, 2, 3)
    words = state.AccountOpening(leaf, 4, (bytes(32),)).as_struct()
    assert dict(zip(names("AccountProof"), words, strict=True)) == {
        **{"worker": leaf.worker, "earned": 2, "last_nonce": 3},
        **{"index": 4, "proof": [bytes(32)]},
    }
    assert names("Work") == list(Work.model_fields)
    assert names("Receipt") == ["work", "received_at"]


@pytest.mark.parametrize(
    ("struct", "type_string"),
    [
        ("WorkLeaf", epoch.WORK_LEAF_TYPE),
        ("EpochHeader", epoch.EPOCH_HEADER_TYPE),
        ("FraudReport", epoch.FRAUD_REPORT_TYPE),
        ("Work", epoch.WORK_TYPE),
    ],
)
def test_what_is_hashed_has_the_structs_widths(struct: str, type_string: str) -> None:
    members = ",".join(f"{member['type']} {member['name']}" for member in structs()[struct])
    assert type_string == f"{struct}({members})"


ENUMS: dict[str, type[IntEnum]] = {
    "IDisputes.Fault": state.Fault,
    "IDisputes.DisputeKind": state.DisputeKind,
    "IDisputes.DisputeStatus": state.DisputeStatus,
    "IDisputes.SlashStatus": state.SlashStatus,
    "IRunLedger.Posting": state.Posting,
    "IRunLedger.Status": state.LedgerStatus,
}


@pytest.mark.parametrize("enum", ENUMS)
def test_enums_have_the_same_members_in_order(enum: str) -> None:
    contract, name = enum.split(".")
    source = (FOLDER / "src" / "interfaces" / f"{contract}.sol").read_text("utf-8")
    [body] = re.findall(rf"enum {name} {{(.*?)}}", source, re.DOTALL)
    members = [snake(member.strip()).upper() for member in body.split(",")]
    assert members == [member.name for member in ENUMS[enum]]


def test_every_error_and_event_of_the_contracts_is_decoded() -> None:
    for contract in CONTRACTS:
        for entry in artifact(contract).abi:
            types = ",".join(_flat(member) for member in entry.get("inputs", ()))
            digest = keccak256(f"{entry.get('name')}({types})".encode())
            if entry["type"] == "error":
                kinds = [member["type"] for member in entry["inputs"]]
                words = encode(kinds, [_nothing(kind) for kind in kinds])
                assert decode_error(digest[:4] + words).name == entry["name"]
            elif entry["type"] == "event":
                assert digest in _kinds(), f"{entry['name']} is not decoded"


def _nothing(kind: str) -> Any:
    return {"string": "", "address": "0x" + "00" * 20, "bool": False}.get(
        kind, b"" if kind.startswith("bytes") else 0
    )


def _flat(member: dict[str, Any]) -> str:
    if "components" not in member:
        return str(member["type"])
    inner = ",".join(_flat(part) for part in member["components"])
    return f"({inner}){member['type'].removeprefix('tuple')}"


def test_the_gates_claim_is_hashed_under_the_contracts_type() -> None:
    source = (FOLDER / "src" / "AttesterGate.sol").read_text("utf-8")
    assert f'"{CLAIM_TYPE}"' in source
