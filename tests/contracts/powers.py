"""`contracts/POWERS.md` as rows, and whom the guards in the sources let in."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

CONTRACTS = Path(__file__).parents[2] / "contracts"
PAGE = CONTRACTS / "POWERS.md"
ANYONE, FOR_ITSELF = "anyone", "anyone, for itself"
OPERATOR, HOT_KEYS = "the run's operator", "the operator's hot keys"
QUORUM, DISPUTES = "m of n staked verifiers, by signature", "`Disputes`"

# The files that hold a contract's functions, and whom each guard in them admits.
SOURCES = {
    "RunLedger": ("RunLedger", "RunEpochs", "RunSteering"),
    "StakeRegistry": ("StakeRegistry",),
    "Disputes": ("Disputes", "Slashing", "Owed"),
    "Council": ("Council",),
    "AttesterGate": ("AttesterGate",),
}
GUARDS = {
    "_requireOperatorsKey(": {OPERATOR, HOT_KEYS},
    "_requireOperator(": {OPERATOR},
    "msg.sender == run.operator": {OPERATOR},
    "_vote(": {"m of n stewards"},
    "equireQuorum(": {QUORUM},
    "_requireArbiter(": {"an arbiter"},
    "onlyRole(GUARDIAN)": {"a guardian"},
    "msg.sender != disputes": {DISPUTES},
    "onlyDisputes": {DISPUTES},
    "onlySlasher": {DISPUTES},
    "msg.sender != slash.worker": {"the accused or its hot keys"},
    "_registry.ownerOf(msg.sender) != worker": {"the worker or its hot keys"},
    "record.owner != msg.sender": {"the key's identity"},
    "[msg.sender]": {FOR_ITSELF},
    "permit(msg.sender,": {FOR_ITSELF},
    "onlyRegistered": {FOR_ITSELF},
    "msg.sender != attester": {"the attester"},
    "msg.sender != ledger": {"`RunLedger`"},
}
# OpenZeppelin's own functions, whose source is not ours to read.
INHERITED = {
    ("Council", "grantRole"): {"the timelock"},
    ("Council", "revokeRole"): {"the timelock"},
    ("Council", "renounceRole"): {"the holder itself"},
    ("RunLedger", "multicall"): {ANYONE},
    ("StakeRegistry", "multicall"): {ANYONE},
}


@dataclass(frozen=True, slots=True)
class Power:
    """One row: a function that changes something, who may call it, and its limits in words."""

    contract: str
    name: str
    parameters: tuple[str, ...]
    who: str
    since: str
    paused: str
    never: str


@cache
def powers() -> tuple[Power, ...]:
    """Return the page's rows, from top to bottom."""
    contract, found = "", []
    for line in PAGE.read_text("utf-8").splitlines():
        if line.startswith("## "):
            contract = line.removeprefix("## ")
        elif line.startswith("| `"):
            signature, *cells = (cell.strip() for cell in line.split("|")[1:-1])
            name, _, given = signature.strip("`").rstrip(")").partition("(")
            parameters = tuple(given.split(", ")) if given else ()
            found.append(Power(contract, name, parameters, *cells))
    return tuple(found)


def admitted(contract: str, function: str) -> set[str]:
    """Return whom the guards in a function's source let in."""
    if (contract, function) in INHERITED:
        return INHERITED[contract, function]
    body = source(contract, function)
    return set().union(*(who for guard, who in GUARDS.items() if guard in body)) or {ANYONE}


def source(contract: str, function: str) -> str:
    """Return the last definition: `RunLedger` and `Disputes` pass some calls on to the other half of their code."""
    texts = [(CONTRACTS / "src" / f"{file}.sol").read_text("utf-8") for file in SOURCES[contract]]
    start = re.compile(rf"^    function {function}\(", re.MULTILINE)
    found = [
        text[m.start() : text.index("\n    }", m.start())]
        for text in texts
        for m in start.finditer(text)
    ]
    assert found, f"no source of {contract} defines {function}"
    return found[-1]
