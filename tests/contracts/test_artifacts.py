"""The committed artifacts are what the sources compile to, and say what they were made from."""

import hashlib
import json

import pytest

from contracts.tools import build
from ledger.artifact import FOLDER


@pytest.mark.slow
@pytest.mark.skipif(
    not build.can_compile(), reason="needs Node and `make contracts/node_modules/.ready`"
)
def test_recompiling_changes_nothing() -> None:
    assert build.differences() == []


def test_artifacts_name_the_sources_they_were_made_from() -> None:
    digests = {p: hashlib.sha256(t.encode()).hexdigest() for p, t in build.sources().items()}
    for name in build.DEPLOYABLE:
        content = json.loads((FOLDER / f"{name}.json").read_text())
        assert content["sources"] == digests, "run python -m contracts.tools.build"
        assert content["compiler"]["solc"] == build.COMPILER


def test_the_lock_names_no_host() -> None:
    lock = (build.HERE / "package-lock.json").read_text()
    assert '"resolved"' not in lock
    assert "://registry" not in lock
