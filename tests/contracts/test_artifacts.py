"""The committed artifacts are what the sources compile to, and hold what Python relies on."""

import hashlib
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from contracts import build
from contracts.artifact import FOLDER, artifact
from contracts.state import EpochState, Meter, RunParams, RunState, SlashState, StakeState
from protocol.epoch import EpochHeader, FraudReport


@pytest.mark.slow
@pytest.mark.skipif(not build.can_compile(), reason="needs Node and `npm ci` in contracts/")
def test_recompiling_changes_nothing() -> None:
    assert build.differences() == []


def test_artifacts_name_the_sources_they_were_made_from() -> None:
    digests = {p: hashlib.sha256(t.encode()).hexdigest() for p, t in build.sources().items()}
    for name in build.DEPLOYABLE:
        content = json.loads((FOLDER / f"{name}.json").read_text())
        assert content["sources"] == digests, "run python -m contracts.build"
        assert content["compiler"]["solc"] == build.COMPILER


def test_the_lock_names_no_host() -> None:
    lock = (Path(build.__file__).parent / "package-lock.json").read_text()
    assert '"resolved"' not in lock
    assert "://registry" not in lock


def snake(name: str) -> str:
    plain = name.replace("URI", "Uri")
    return "".join("_" + c.lower() if c.isupper() else c for c in plain).lstrip("_")


def struct(contract: str, function: str) -> list[str]:
    """Return the member names of the struct that a function takes first or returns."""
    [entry] = [
        e for e in artifact(contract).abi if e.get("name") == function and e["type"] == "function"
    ]
    ports = [*entry["inputs"], *entry["outputs"]]
    [first, *_] = [port for port in ports if port["type"] == "tuple"]
    return [snake(member["name"]) for member in first["components"]]


@pytest.mark.parametrize(
    ("contract", "function", "twin"),
    [
        ("RunLedger", "runOf", RunState),
        ("RunLedger", "epochOf", EpochState),
        ("RunLedger", "meterOf", Meter),
        ("RunLedger", "postEpoch", EpochHeader),
        ("StakeRegistry", "accountOf", StakeState),
        ("Disputes", "slashOf", SlashState),
        ("Disputes", "proposeSlash", FraudReport),
    ],
)
def test_python_types_have_the_structs_fields_in_order(
    contract: str, function: str, twin: type[Any]
) -> None:
    assert [field.name for field in fields(twin)] == struct(contract, function)


def test_run_params_fill_the_struct_in_its_order() -> None:
    names = struct("RunLedger", "createRun")
    one, other = "0x" + "11" * 20, "0x" + "22" * 20
    params = RunParams(*(one, 3, 4, 5, 6, 7, 8, b"\x09" * 32, (one,), (other,), 12, 13), gate=other)
    filled = dict(zip(names, params.as_struct(), strict=True))
    for name in names:
        expected = getattr(params, name)
        assert filled[name] == (list(expected) if isinstance(expected, tuple) else expected)
