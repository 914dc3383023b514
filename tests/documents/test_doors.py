"""CONTRIBUTING.md's table of doors: a library is imported only in the places that its row names."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.documents.lines import ROOT, product_files

PACKAGES = [
    f"{name}/"
    for name in [
        "protocol",
        "local",
        "client",
        "ledger",
        "audit",
        "orchestrator",
        "rollout_worker",
        "trainer",
        "rollcall",
        "devchain",
        "contracts",
    ]
]
SECTION = (ROOT / "CONTRIBUTING.md").read_text("utf-8").partition("| library | enters through |")[2]
ROWS = re.findall(r"^\| (`.*?) \| (.*) \|$", SECTION.partition("\n\n")[0], re.MULTILINE)
DOORS = {
    library: re.findall(r"`([\w./]+)`", places)
    for libraries, places in ROWS
    for library in re.findall(r"`(\w+)`", libraries)
}


@cache
def imports() -> dict[str, set[str]]:
    """Return the files that import each library, wherever in the file."""
    found: dict[str, set[str]] = {}
    for name in (file for package in PACKAGES for file in product_files(package)):
        if name.endswith(".py"):
            for library in _imported(name):
                found.setdefault(library, set()).add(name)
    return found


@pytest.mark.parametrize("library", DOORS)
def test_a_library_enters_only_through_its_doors(library: str) -> None:
    doors = tuple(DOORS[library])
    others = {name for name in imports()[library] if not name.startswith(doors)}
    assert not others, f"{library} is imported by {', '.join(sorted(others))}: see CONTRIBUTING.md"


@pytest.mark.parametrize("library", DOORS)
def test_no_door_is_named_that_nothing_passes(library: str) -> None:
    unused = [
        door for door in DOORS[library] if not any(n.startswith(door) for n in imports()[library])
    ]
    assert not unused, f"{library} does not enter through {', '.join(unused)}"


def _imported(name: str) -> set[str]:
    modules: set[str] = set()
    for node in ast.walk(ast.parse(Path(ROOT / name).read_text("utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules.add(node.module)
    return {module.partition(".")[0] for module in modules}
