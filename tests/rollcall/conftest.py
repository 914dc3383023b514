"""The ledger's world for the commands: a real EVM in process, and a desk for each of its people."""

from collections.abc import Iterator

import pytest

from tests.contracts.world import World


@pytest.fixture(scope="module")
def deployed() -> World:
    """A chain with the ledger, funded and staked accounts, and one open run."""
    return World.build()


@pytest.fixture
def world(deployed: World) -> Iterator[World]:
    """The deployed world, rewound after the test."""
    with deployed.undone():
        yield deployed
