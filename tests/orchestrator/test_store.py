"""The store is the one door to Redis: nothing outside it names a key, sends a command or holds a connection."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.store import keys

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "protocol",
    "local",
    "client",
    "ledger",
    "audit",
    "orchestrator",
    "rollout_worker",
    "trainer",
    "contracts",
    "rollcall",
    "devchain",
)
DOOR = ROOT / "orchestrator/store"
KEY_MAKERS = frozenset(
    {"run_prefix", "used_nonce", "bucket", "uploads", "unused", "RUNS", "PROBE", "SENDER"}
)
"""What `keys.py` makes keys with."""


def outside() -> Iterator[Path]:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            if DOOR not in path.parents and "node_modules" not in path.parts:
                yield path


def breaches(source: str) -> list[str]:
    """Return what a file does that the store alone may do."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.ImportFrom(module=str(module), names=names):
                imported = {f"{module}.{alias.name}" for alias in names} | {module}
            case ast.Import(names=names):
                imported = {alias.name for alias in names}
            case ast.Attribute(attr="queue" | "_redis" as name):
                # The connection is the store's own.
                found.append(f"line {node.lineno}: .{name}")
                continue
            case ast.Constant(value=str(text)) if text.startswith("rollcall:"):
                found.append(f"line {node.lineno}: {text!r}")
                continue
            case _:
                continue
        doors = {"orchestrator.store.keys", "orchestrator.store.queue"}
        if any(name.split(".")[0] == "redis" or name in doors for name in imported):
            found.append(f"line {node.lineno}: imports {', '.join(sorted(imported))}")
    return found


def test_no_file_outside_the_store_reaches_past_it() -> None:
    paths = list(outside())
    assert len(paths) > 200
    found = {str(path.relative_to(ROOT)): breaches(path.read_text()) for path in paths}
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import redis",
        "from redis.asyncio import Redis",
        "from orchestrator.store import keys",
        "from orchestrator.store.keys import run_prefix",
        "from orchestrator.store.queue import Queue",
        "async def f(market): await market.store.queue.call('GET', 'x')",
        "key = f'rollcall:{{{run_id}}}:state'",
    ],
)
def test_whoever_reaches_past_the_store_is_seen(source: str) -> None:
    assert breaches(source)


def test_what_forms_keys_is_all_named_here() -> None:
    public = {
        name for name in vars(keys) if not name.startswith("_") and not name.endswith("SECONDS")
    }
    assert public - {"Final", "NUM_EVENTS_KEPT"} == KEY_MAKERS
