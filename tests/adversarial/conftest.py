"""One chain for all attacks on the ledger; each test starts from it and is undone afterwards."""

from collections.abc import Iterator

import pytest

from tests.stage.ledger_lab import Lab
from tests.stage.world import World


@pytest.fixture(scope="session")
def attacked() -> World:
    """A chain with the ledger, funded and staked accounts, and one open run."""
    return World.build()


@pytest.fixture
def lab(attacked: World) -> Iterator[Lab]:
    """The attacked world, rewound after the test."""
    with attacked.undone():
        yield Lab(attacked)
