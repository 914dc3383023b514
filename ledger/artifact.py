"""The compiled contracts as committed, so that using the ledger needs no compiler.

Written by `contracts/tools/build.py`, which decides the settings; read here and nowhere else.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "contracts" / "artifacts"


@dataclass(frozen=True, slots=True)
class Artifact:
    """One contract: its ABI, and the bytecode that deploys it."""

    name: str
    abi: list[dict[str, Any]]
    bytecode: str


@cache
def artifact(name: str) -> Artifact:
    """Return the committed artifact of contract `name`."""
    content = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return Artifact(name, content["abi"], content["bytecode"])
