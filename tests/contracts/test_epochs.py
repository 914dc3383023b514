"""Opening, posting and finalising epochs."""

from tests.contracts.world import World


def test_an_epoch_is_paid(world: World) -> None:
    accounts = world.settle(alice=100, bob=50)
    before = world.by("alice").balance(world.address("alice"))
    assert world.claim("alice", 0, accounts) == 1000
    assert world.by("alice").balance(world.address("alice")) == before + 1000
