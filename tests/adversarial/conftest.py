"""The chain of all attacks on the ledger."""

import pytest

from tests.stage.ledger_lab import Lab
from tests.stage.world import World


@pytest.fixture
def lab(world: World) -> Lab:
    """The deployed world, to be attacked."""
    return Lab(world)
