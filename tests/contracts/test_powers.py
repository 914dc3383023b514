"""POWERS.md lists every function that changes anything, and nobody else gets in."""

from collections.abc import Callable
from itertools import permutations
from typing import Any

import pytest
from web3 import Web3
from web3.exceptions import ContractLogicError

from ledger.artifact import artifact
from ledger.errors import decode_error
from ledger.owed import work_struct
from protocol.canonical import keccak256
from tests.contracts.powers import (
    ANYONE,
    FOR_ITSELF,
    INHERITED,
    SOURCES,
    Power,
    admitted,
    powers,
    source,
)
from tests.stage.owed import end, taken
from tests.stage.world import SECRET, START, WINDOW, WORK, World

UNAUTHORISED = "AccessControlUnauthorizedAccount"
NOBODY = "0x" + "00" * 20
GUARDED = [power for power in powers() if power.who not in (ANYONE, FOR_ITSELF)]


def nothing(_world: World) -> None:
    """Some doors are shut whatever the state."""


def a_report(world: World) -> bytes:
    return world.accuse(world.report())


def a_pending_epoch(world: World) -> None:
    world.open()
    world.post(world.header(world.accounts(alice=10)))


def a_halt(world: World) -> None:
    world.by("operator").halt_run(world.run_id, bytes(32))
    world.wait(WINDOW)


def an_open_epoch(world: World) -> None:
    world.open()


def promised_words(world: World) -> tuple[Any, ...]:
    work, receipt = taken(world, "alice", 1, 10, at=START)
    return [(work_struct(work), receipt.received_at)], [receipt.signature]


def report_words(world: World) -> tuple[Any, ...]:
    report = world.report()
    at = int(world.chain.head.header.timestamp)
    return (
        *(report.run_id, report.worker, report.work_digest, report.evidence_digest),
        *(report.amount, at),
    )


def header_words(world: World) -> tuple[Any, ...]:
    header = world.header(world.accounts(alice=10))
    return tuple(getattr(header, name) for name in header.__dataclass_fields__)


# For each guarded function: what must be so for its guard to be what refuses, the arguments, the refusal.
ATTEMPTS: dict[tuple[str, str], tuple[Callable[[World], Any], Callable[[World], Any], str]] = {
    ("RunLedger", "openEpoch"): (nothing, lambda w: (w.run_id, WORK), "NotOperator"),
    ("RunLedger", "renewPermit"): (nothing, lambda w: (w.run_id,), "NotOperator"),
    ("RunLedger", "stopRun"): (nothing, lambda w: (w.run_id,), "NotOperator"),
    ("RunLedger", "proposeReplacement"): (
        nothing,
        lambda w: (w.run_id, 0, w.address("stranger")),
        "NotOperator",
    ),
    ("RunLedger", "haltRun"): (nothing, lambda w: (w.run_id, bytes(32)), "NotSteward"),
    ("RunLedger", "resumeRun"): (a_halt, lambda w: (w.run_id,), "NotOperator"),
    ("RunLedger", "postEpoch"): (
        an_open_epoch,
        lambda w: (header_words(w), SECRET, 0, [], ""),
        "QuorumTooSmall",
    ),
    ("RunLedger", "retractEpoch"): (
        a_pending_epoch,
        lambda w: (w.run_id, 0, 0, []),
        "QuorumTooSmall",
    ),
    ("RunLedger", "voidEpoch"): (
        a_pending_epoch,
        lambda w: (w.run_id, 0, False),
        "NotDisputes",
    ),
    ("RunLedger", "holdEpoch"): (a_pending_epoch, lambda w: (w.run_id, 0), "NotDisputes"),
    ("RunLedger", "releaseEpoch"): (
        a_pending_epoch,
        lambda w: (w.run_id, 0, True),
        "NotDisputes",
    ),
    ("RunLedger", "creditUncommitted"): (
        end,
        lambda w: (w.run_id, w.address("stranger"), 1),
        "NotDisputes",
    ),
    ("RunLedger", "clearRetracted"): (nothing, lambda w: (w.run_id, WORK), "NotDisputes"),
    ("StakeRegistry", "hold"): (nothing, lambda w: (w.address("alice"), 1), "NotSlasher"),
    ("StakeRegistry", "release"): (nothing, lambda w: (w.address("alice"), 0), "NotSlasher"),
    ("StakeRegistry", "slash"): (
        nothing,
        lambda w: (w.address("alice"), 0, w.address("stranger")),
        "NotSlasher",
    ),
    ("StakeRegistry", "seize"): (
        nothing,
        lambda w: (w.address("alice"), 0, w.address("stranger")),
        "NotSlasher",
    ),
    ("StakeRegistry", "postBond"): (nothing, lambda w: (w.address("alice"), 0), "NotSlasher"),
    ("StakeRegistry", "returnBond"): (
        nothing,
        lambda w: (w.address("stranger"), 0),
        "NotSlasher",
    ),
    ("StakeRegistry", "forfeitBond"): (
        nothing,
        lambda w: (0, w.address("stranger")),
        "NotSlasher",
    ),
    ("StakeRegistry", "revokeSigner"): (nothing, lambda w: (w.address("alice"),), "SignerNotOwned"),
    ("Disputes", "proposeSlash"): (nothing, lambda w: (report_words(w), 0, []), "QuorumTooSmall"),
    ("Disputes", "appealSlash"): (a_report, lambda w: (slash_id(w), bytes(32)), "NotAccused"),
    ("Disputes", "claimOwed"): (end, promised_words, "NotTheWorker"),
    ("Disputes", "resolveAppeal"): (a_report, lambda w: (slash_id(w), False), UNAUTHORISED),
    ("Disputes", "rule"): (nothing, lambda _: (WORK, True), UNAUTHORISED),
    ("Council", "pause"): (nothing, lambda _: (1, bytes(32)), UNAUTHORISED),
    ("Council", "unpause"): (
        lambda w: w.by("guardian").pause(100, bytes(32)),
        lambda _: (),
        UNAUTHORISED,
    ),
    ("Council", "grantRole"): (
        nothing,
        lambda w: (keccak256(b"GUARDIAN"), w.address("stranger")),
        UNAUTHORISED,
    ),
    ("Council", "revokeRole"): (
        nothing,
        lambda w: (keccak256(b"ARBITER"), w.address("arbiter")),
        UNAUTHORISED,
    ),
    ("Council", "renounceRole"): (
        nothing,
        lambda w: (keccak256(b"ARBITER"), w.address("arbiter")),
        "AccessControlBadConfirmation",
    ),
    ("AttesterGate", "admit"): (
        nothing,
        lambda w: (w.run_id, w.address("stranger"), b""),
        "NotLedger",
    ),
    ("AttesterGate", "revoke"): (nothing, lambda _: (WORK,), "NotAttester"),
}


def slash_id(world: World) -> bytes:
    report = world.report()
    return keccak256(
        report.run_id.to_bytes(32, "big")
        + bytes.fromhex(report.worker[2:]).rjust(32, b"\0")
        + report.work_digest
    )


def refusal_name(error: ContractLogicError) -> str:
    """Return the custom error's name, or nothing where the refusal has none."""
    data = str(error.data)
    return decode_error(bytes.fromhex(data[2:])).name if data.startswith("0x") else ""


def contract(world: World, name: str) -> Any:
    """Return a contract of the deployment, or a gate deployed for the purpose."""
    places = {
        "RunLedger": world.deployment.ledger,
        "StakeRegistry": world.deployment.registry,
        "Disputes": world.deployment.disputes,
        "Council": world.deployment.council,
    }
    if name not in places:
        return world.contract(
            name, world.deployment.ledger, world.address("arbiter"), WORK, True, by="deployer"
        )
    address = Web3.to_checksum_address(places[name])
    return world.w3.eth.contract(address=address, abi=artifact(name).abi)


def changing(name: str) -> dict[str, tuple[str, ...]]:
    """Return a contract's functions that change something, each with its parameters' names."""
    return {
        entry["name"]: tuple(given["name"] for given in entry["inputs"])
        for entry in artifact(name).abi
        if entry["type"] == "function" and entry["stateMutability"] in ("nonpayable", "payable")
    }


@pytest.mark.parametrize("name", SOURCES)
def test_the_page_lists_each_function_that_changes_anything_and_no_other(name: str) -> None:
    """What calls pass on to another half of a contract's code have no names in the ABI."""
    listed = {power.name: power.parameters for power in powers() if power.contract == name}
    declared = changing(name)
    assert list(listed) == sorted(declared)
    for function, parameters in declared.items():
        written = zip(listed[function], parameters, strict=True)
        assert all(word == parameter or not parameter for word, parameter in written), function


@pytest.mark.parametrize("power", powers(), ids=lambda power: f"{power.contract}.{power.name}")
def test_a_row_says_whom_the_guards_admit_from_when_and_what_it_can_never_do(power: Power) -> None:
    assert power.who in map(" or ".join, permutations(admitted(power.contract, power.name)))
    assert power.since
    assert power.never
    if (power.contract, power.name) not in INHERITED:
        is_paused = "whenUnpaused" in source(power.contract, power.name)
        assert power.paused == ("yes" if is_paused else "")


def test_every_guarded_function_is_attempted() -> None:
    assert {(power.contract, power.name) for power in GUARDED} == ATTEMPTS.keys()
    assert INHERITED.keys() <= {(power.contract, power.name) for power in powers()}


@pytest.mark.parametrize("power", GUARDED, ids=lambda power: f"{power.contract}.{power.name}")
def test_a_stranger_is_refused_by_name(world: World, power: Power) -> None:
    prepare, arguments, expected = ATTEMPTS[power.contract, power.name]
    prepare(world)
    function = contract(world, power.contract).functions[power.name](*arguments(world))
    with pytest.raises(ContractLogicError) as caught:
        function.call({"from": world.address("stranger")})
    assert refusal_name(caught.value) == expected


@pytest.mark.parametrize("power", powers(), ids=lambda power: f"{power.contract}.{power.name}")
def test_a_pause_stops_what_the_page_says_and_nothing_else(world: World, power: Power) -> None:
    """With arguments that mean nothing: what a pause stops says so before it looks at them."""
    world.by("guardian").pause(100, bytes(32))
    function = contract(world, power.contract).functions[power.name]
    inputs = next(e for e in artifact(power.contract).abi if e.get("name") == power.name)["inputs"]
    name = ""
    try:
        function(*map(blank, inputs)).call({"from": world.address("operator")})
    except ContractLogicError as error:
        name = refusal_name(error)
    assert (name == "Paused") == (power.paused == "yes")


def blank(parameter: dict[str, Any]) -> Any:
    """Return the zero of an ABI type."""
    kind = parameter["type"]
    if kind.endswith("[]"):
        return []
    match kind:
        case "tuple":
            return tuple(blank(part) for part in parameter["components"])
        case "bool":
            return False
        case "string":
            return ""
        case "address":
            return NOBODY
    return bytes(int(kind[5:] or 0)) if kind.startswith("bytes") else 0
