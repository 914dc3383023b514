"""What is metered at finality, what a cap ends, and what a warning does not."""

from typing import Any

import pytest

from ledger.state import RunState
from protocol.canonical import keccak256
from tests.stage.world import BUDGET, MODEL, RATE, WARN, WINDOW, World, refused


def run_of(world: World, **changes: Any) -> int:
    world.run_id = world.by("operator").create_run(world.params(**changes), BUDGET, "")
    return world.run_id


def finish(world: World, units: int, gflops: int) -> None:
    """Post and finalise an epoch after which alice has earned `units`, of this much compute."""
    accounts = world.accounts(alice=units)
    world.open()
    world.post(world.header(accounts, tokens=gflops, gflops=gflops))
    world.wait(WINDOW)
    world.by("stranger").advance(world.run_id)


def events(world: World, name: str) -> list[dict[str, Any]]:
    return [event.values for event in world.by("bob").events().poll() if event.name == name]


def state(world: World) -> RunState:
    return world.by("bob").run(world.run_id)


def test_work_counts_once_it_is_final_for_run_operator_and_model(world: World) -> None:
    ledger = world.by("bob")
    world.open()
    world.post(world.header(world.accounts(alice=1), tokens=70, gflops=50))
    assert ledger.meter(world.address("operator")).tokens == 0
    world.wait(WINDOW)
    ledger.advance(1)
    run_of(world)
    finish(world, 1, 30)
    for subject in (world.address("operator"), MODEL):
        meter = ledger.meter(subject)
        assert (meter.tokens, meter.gflops) == (100, 80)
    assert (ledger.run(1).gflops, state(world).gflops) == (50, 30)


def test_a_model_is_metered_over_operators_and_an_operator_over_models(world: World) -> None:
    finish(world, 1, 10)
    other = keccak256(b"another model")
    run_of(world, base_model=other)
    finish(world, 1, 20)
    world.by("stranger").mint(world.address("stranger"), BUDGET)
    world.run_id = world.by("stranger").create_run(world.params(), BUDGET, "")
    accounts = world.accounts(alice=1)
    world.by("stranger").open_epoch(world.run_id, keccak256(keccak256(b"x")))
    signatures = world.signed(
        (header := world.header(accounts, tokens=5, gflops=5)).struct_hash(), "v0", "v1"
    )
    world.by("stranger").post_epoch(header, keccak256(b"x"), signatures, "")
    world.wait(WINDOW)
    world.by("stranger").advance(world.run_id)
    found = [
        world.by("bob").meter(subject).gflops
        for subject in (MODEL, other, world.address("operator"), world.address("stranger"))
    ]
    assert found == [15, 20, 30, 5]


def test_a_warning_names_the_largest_threshold_passed_and_stops_nothing(world: World) -> None:
    finish(world, 1, WARN - 1)
    assert events(world, "ComputeWarning") == []
    finish(world, 2, 1)
    first = events(world, "ComputeWarning")
    assert [v["threshold"] for v in first] == [WARN, WARN]
    operator = int(world.address("operator"), 16).to_bytes(32, "big")
    assert {bytes(v["subject"]) for v in first} == {operator, MODEL}
    finish(world, 3, 1)
    assert len(events(world, "ComputeWarning")) == 2, "within the same doubling: said already"
    finish(world, 4, 8 * WARN)
    assert [v["threshold"] for v in events(world, "ComputeWarning")[2:]] == [8 * WARN] * 2
    world.open()


@pytest.mark.parametrize("gflops", [9, 10, 11])
def test_the_cap_is_crossed_when_it_is_reached(world: World, gflops: int) -> None:
    run_of(world, compute_cap=10)
    finish(world, 1, gflops)
    if gflops < 10:
        world.open()
        assert events(world, "ComputeCapCrossed") == []
        return
    with refused("ComputeCapReached", gflops=gflops, cap=10):
        world.open()
    assert [v["gflops"] for v in events(world, "ComputeCapCrossed")] == [gflops]


def test_work_dated_before_the_crossing_is_posted_and_paid_and_none_after(world: World) -> None:
    run_of(world, compute_cap=10)
    world.open()
    world.open()
    accounts = world.accounts(alice=1)
    world.post(world.header(accounts, tokens=10, gflops=10))
    world.wait(WINDOW)
    world.by("stranger").advance(world.run_id)
    crossed_at = world.by("bob").block_time()
    owed = [world.by("bob").is_owed(world.run_id, crossed_at + n) for n in (-1, 0, 1, 10**6)]
    assert owed == [True, True, False, False]
    accounts = world.accounts(alice=3)
    world.post(world.header(accounts, tokens=2, gflops=2))
    world.wait(WINDOW)
    assert world.claim("alice", 1, accounts) == 3 * RATE
    assert len(events(world, "ComputeCapCrossed")) == 1, "it is crossed once"


def test_without_a_cap_the_same_work_goes_on(world: World) -> None:
    finish(world, 1, 10**6)
    world.open()
    assert world.by("bob").is_owed(1, world.by("bob").block_time() + 1)


def test_neither_renewing_nor_resuming_reaches_past_the_cap(world: World) -> None:
    operator = world.by("operator")
    run_of(world, compute_cap=10)
    finish(world, 1, 10)
    crossed_at = operator.block_time()
    operator.renew_permit(world.run_id)
    operator.halt_run(world.run_id)
    world.wait(WINDOW)
    operator.resume_run(world.run_id)
    with refused("ComputeCapReached"):
        world.open()
    assert not operator.is_owed(world.run_id, crossed_at + 1)
    assert not operator.is_owed(world.run_id, operator.block_time())


def test_a_cap_crossed_after_a_lapse_owes_no_more_than_the_lapse_did(world: World) -> None:
    run_of(world, compute_cap=10)
    world.open()
    until = state(world).permit_until
    world.clock.now = until + 5
    world.post(world.header(world.accounts(alice=1), tokens=10, gflops=10))
    world.wait(WINDOW)
    world.by("stranger").advance(world.run_id)
    world.by("stranger").lapse_run(world.run_id)
    owed = [world.by("bob").is_owed(world.run_id, until + n) for n in (0, 1, 5, WINDOW)]
    assert owed == [True, False, False, False]
