"""Write `contracts/POWERS.md`: every function that changes something, who may call it, and its limits.

`python -m contracts.tools.powers [--check]`. The functions come from the ABIs, and their callers from the guards
in the sources. Neither says from when a power takes effect and what it can never do: these two columns and the
introduction are written by hand in the page, and kept. A function that has no row there, or whose guards let in
somebody else, is an error, so the page cannot be out of date quietly.
"""

import argparse
import re
import sys
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path

from ledger.artifact import artifact

HERE = Path(__file__).parents[1]
PAGE = HERE / "POWERS.md"


class Guarded(StrEnum):
    """Who a guard lets in."""

    ANYONE = "anyone"
    FOR_ITSELF = "anyone, for itself"
    OPERATOR = "the run's operator"
    OPERATORS_KEY = "the operator's hot keys"
    STEWARDS = "m of n stewards"
    QUORUM = "m of n staked verifiers, by signature"
    OWNER = "the key's identity"
    ACCUSED = "the accused or its hot keys"
    WORKER = "the worker or its hot keys"
    ARBITER = "an arbiter"
    GUARDIAN = "a guardian"
    ADMIN = "the timelock"
    HOLDER = "the holder itself"
    DISPUTES = "`Disputes`"
    LEDGER = "`RunLedger`"
    ATTESTER = "the attester"


# Which files hold a contract's functions, and whom each guard in them admits.
SOURCES = {
    "RunLedger": ("RunLedger", "RunEpochs", "RunSteering"),
    "StakeRegistry": ("StakeRegistry",),
    "Disputes": ("Disputes", "Slashing", "Owed"),
    "Council": ("Council",),
    "AttesterGate": ("AttesterGate",),
}
GUARDS = {
    "_requireOperatorsKey(": frozenset({Guarded.OPERATOR, Guarded.OPERATORS_KEY}),
    "_requireOperator(": frozenset({Guarded.OPERATOR}),
    "msg.sender == run.operator": frozenset({Guarded.OPERATOR}),
    "_vote(": frozenset({Guarded.STEWARDS}),
    "equireQuorum(": frozenset({Guarded.QUORUM}),
    "_requireArbiter(": frozenset({Guarded.ARBITER}),
    "onlyRole(GUARDIAN)": frozenset({Guarded.GUARDIAN}),
    "msg.sender != disputes": frozenset({Guarded.DISPUTES}),
    "onlyDisputes": frozenset({Guarded.DISPUTES}),
    "onlySlasher": frozenset({Guarded.DISPUTES}),
    "msg.sender != slash.worker": frozenset({Guarded.ACCUSED}),
    "_registry.ownerOf(msg.sender) != worker": frozenset({Guarded.WORKER}),
    "record.owner != msg.sender": frozenset({Guarded.OWNER}),
    "[msg.sender]": frozenset({Guarded.FOR_ITSELF}),
    "permit(msg.sender,": frozenset({Guarded.FOR_ITSELF}),
    "onlyRegistered": frozenset({Guarded.FOR_ITSELF}),
    "msg.sender != attester": frozenset({Guarded.ATTESTER}),
    "msg.sender != ledger": frozenset({Guarded.LEDGER}),
}
# OpenZeppelin's own functions, whose source is not ours to read.
INHERITED = {
    ("Council", "grantRole"): frozenset({Guarded.ADMIN}),
    ("Council", "revokeRole"): frozenset({Guarded.ADMIN}),
    ("Council", "renounceRole"): frozenset({Guarded.HOLDER}),
    ("RunLedger", "multicall"): frozenset({Guarded.ANYONE}),
    ("StakeRegistry", "multicall"): frozenset({Guarded.ANYONE}),
}


@dataclass(frozen=True, slots=True)
class Power:
    """One function and who holds it.

    Example:
        Power("Council", "unpause()", frozenset({Guarded.GUARDIAN}), False)
    """

    contract: str
    signature: str
    roles: frozenset[Guarded]
    is_paused: bool

    @property
    def name(self) -> str:
        """The function's bare name."""
        return self.signature.partition("(")[0]


class UnlistedPower(Exception):
    """A function that changes state, but has no row in the page."""


def powers() -> list[Power]:
    """Return every function that changes state, in the contracts' order and then by name."""
    return [_power(name, entry) for name in SOURCES for entry in _functions(name)]


def page(written: str) -> str:
    """Return the text of POWERS.md, with the hand-written parts of `written`, the current page."""
    limits, sections = _limits(written), [written.partition("\n## ")[0]]
    for contract in SOURCES:
        rows = [_row(power, limits) for power in powers() if power.contract == contract]
        head = "| function | who | from when | paused | can never |\n|---|---|---|---|---|"
        sections.append("\n".join([f"## {contract}", "", head, *rows, ""]))
    return "\n".join(sections)


def roles_in_source(contract: str, function: str) -> frozenset[Guarded]:
    """Return whom the guards in a function's source let in."""
    body = _body(contract, function)
    roles = [roles for guard, roles in GUARDS.items() if guard in body]
    return frozenset().union(*roles) or frozenset({Guarded.ANYONE})


def _functions(contract: str) -> list[dict[str, object]]:
    changing = {"nonpayable", "payable"}
    entries = [
        entry
        for entry in artifact(contract).abi
        if entry["type"] == "function" and entry["stateMutability"] in changing
    ]
    return sorted(entries, key=lambda entry: str(entry["name"]))


def _power(contract: str, entry: dict[str, object]) -> Power:
    name = str(entry["name"])
    if (contract, name) in INHERITED:
        return Power(contract, f"{name}({_names(entry)})", INHERITED[contract, name], False)
    body = _body(contract, name)
    # Not the ABI's names: a call that one contract passes on to another has none there.
    given = body[body.index("(") + 1 : body.index(")")]
    names = ", ".join(parameter.split()[-1] for parameter in given.split(",") if parameter)
    roles = roles_in_source(contract, name)
    return Power(contract, f"{name}({names})", roles, "whenUnpaused" in body)


def _names(entry: dict[str, object]) -> str:
    inputs = entry["inputs"]
    assert isinstance(inputs, list)
    return ", ".join(item["name"] for item in inputs)


def _limits(written: str) -> dict[tuple[str, str], tuple[str, str]]:
    """Return when each function takes effect, and what it can never do."""
    contract, found = "", {}
    for line in written.splitlines():
        if line.startswith("## "):
            contract = line.removeprefix("## ")
        elif line.startswith("| `"):
            signature, _, since, _, never = (cell.strip() for cell in line.split("|")[1:-1])
            found[contract, signature.strip("`").partition("(")[0]] = since, never
    return found


def _row(power: Power, limits: dict[tuple[str, str], tuple[str, str]]) -> str:
    since, never = limits.get((power.contract, power.name), ("", ""))
    if not (since and never):
        raise UnlistedPower(
            f"{power.contract}.{power.name} changes state: give it a row in POWERS.md that says from "
            "when and what it can never do, then run python -m contracts.tools.powers"
        )
    who = " or ".join(role for role in Guarded if role in power.roles)
    paused = "yes" if power.is_paused else ""
    return f"| `{power.signature}` | {who} | {since} | {paused} | {never} |"


def _body(contract: str, function: str) -> str:
    """Return the last definition: `RunLedger` and `Disputes` pass some calls on to the other half of their code."""
    texts = [_functions_in(name).get(function) for name in SOURCES[contract]]
    bodies = [text for text in texts if text is not None]
    if not bodies:
        raise UnlistedPower(f"no source of {contract} defines {function}")
    return bodies[-1]


@cache
def _functions_in(source: str) -> dict[str, str]:
    """Return the text of each function of a source file, from its name to its closing brace."""
    text = (HERE / "src" / f"{source}.sol").read_text("utf-8")
    starts = re.finditer(r"^    function (\w+)\(", text, re.MULTILINE)
    return {
        start.group(1): text[start.start() : text.index("\n    }", start.start())]
        for start in starts
    }


def main() -> None:
    """Write the page, or with --check fail when it differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail when it differs; write nothing")
    written = PAGE.read_text("utf-8")
    if not parser.parse_args().check:
        PAGE.write_text(page(written), "utf-8")
    elif written != page(written):
        sys.exit("contracts/POWERS.md differs: run python -m contracts.tools.powers")


if __name__ == "__main__":
    main()
