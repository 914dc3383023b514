"""What the commands' tests stand on: a real EVM in process with its people, and an auditor of a market."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.world import World
from tests.orchestrator.front import serving
from tests.orchestrator.place import Place
from tests.rollcall.auditor import Auditor


@pytest.fixture(scope="module")
def deployed() -> World:
    """A chain with the ledger, funded and staked accounts, and one open run."""
    return World.build()


@pytest.fixture
def world(deployed: World) -> Iterator[World]:
    """The deployed world, rewound after the test."""
    with deployed.undone():
        yield deployed


@pytest.fixture
def auditor(place: Place, tmp_path: Path) -> Iterator[Auditor]:
    """An auditor of the place's market, over loopback HTTP."""
    with serving(place) as (front, chain):
        yield Auditor(place, front, chain, tmp_path)
