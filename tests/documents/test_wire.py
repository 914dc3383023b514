"""`protocol/wire.md` holds what the code holds: every message and field, every route, every code."""

import importlib
import inspect
import json
import pkgutil
import re

import protocol
from protocol.errors import MarketError, by_code
from protocol.verdict import Rejection
from protocol.wire import Wire
from tests.documents.lines import ROOT

PAGE = (ROOT / "protocol/wire.md").read_text("utf-8")
LOCAL = {"Sum", "Drift"}
"""States that a verifier keeps on its own disk."""
ROUTE = re.compile(r"`(GET|POST|PUT) ([^`]+)`")


def messages() -> dict[str, type[Wire]]:
    """Return every message of the protocol by name."""
    found: dict[str, type[Wire]] = {}
    for module in pkgutil.walk_packages(protocol.__path__, "protocol."):
        for name, kind in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(kind, Wire) and kind.model_fields and kind.__module__ == module.name:
                found[name] = kind
    return {name: kind for name, kind in found.items() if name not in LOCAL}


def documented() -> dict[str, list[str]]:
    """Return the fields of each message as section 11 lists them."""
    fields: dict[str, list[str]] = {}
    name = ""
    for line in PAGE.partition("## 11. Messages")[2].splitlines():
        if heading := re.match(r"#### `(\w+)`", line):
            name = heading[1]
            fields[name] = []
        elif shared := re.match(r"\| `([A-Z]\w*)` \| `(\w+)` \|", line):
            fields.setdefault(shared[1], []).append(shared[2])
        elif row := re.match(r"\| `([a-z]\w*)` \|", line):
            fields[name].append(row[1])
    return fields


def test_every_message_and_field_is_listed_in_order() -> None:
    assert documented() == {name: list(kind.model_fields) for name, kind in messages().items()}


def test_every_route_is_listed() -> None:
    surface = json.loads((ROOT / "tests/orchestrator/openapi.json").read_text("utf-8"))
    served = {
        (method.upper(), _shape(path))
        for path, methods in surface["paths"].items()
        for method in methods
        if path.startswith("/v1")
    }
    section = PAGE.partition("## 5. HTTP")[2].partition("## 6.")[0]
    listed = {
        (method, _shape("/v1" + path.partition("?")[0].replace("…", "/runs/{run}")))
        for method, path in ROUTE.findall(section)
    }
    assert listed == served


def test_every_error_code_is_listed_under_its_status() -> None:
    section = PAGE.partition("## 7. Errors")[2].partition("## 8.")[0]
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", section, re.MULTILINE)
    listed = {code: int(status) for status, codes in rows for code in re.findall(r"`(\w+)`", codes)}
    on_the_wire = {
        code: kind.status
        for code, kind in by_code().items()
        if kind is not MarketError and kind.__module__ == MarketError.__module__
    }
    assert listed == on_the_wire


def test_every_rejection_of_admission_is_listed_in_order() -> None:
    section = PAGE.partition("| rejection | rule |")[2].partition("\n\n")[0]
    listed = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    replayed = {"replay_mismatch", "replay_margin", "replay_logprob", "worker_excluded"}
    assert listed == [rejection.value for rejection in Rejection if rejection not in replayed]


def _shape(path: str) -> str:
    """Routes differ in what they call a parameter; a page may call it something plainer."""
    return re.sub(r"\{[^}]*\}", "{}", path)
