"""The ground is built once; every test opens a run of its own on it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.orchestrator.place import Ground, Place, opened


@pytest.fixture(scope="session")
def ground() -> Ground:
    """A chain with the ledger and funded people."""
    return Ground.build()


@pytest.fixture
def place(ground: Ground, redis_url: str, tmp_path: Path) -> Iterator[Place]:
    """An open run with one verifier, whose groups are all replayed."""
    with opened(ground, redis_url, tmp_path / "blobs") as place:
        yield place
