"""Which groups make a batch: age, and the caps at both sides of their boundaries."""

from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.rules import batch
from protocol.constants import MICRO
from protocol.messages import BatchGroup

WORKERS = tuple("0x" + f"{n:040d}" for n in range(1, 41))


def group(n: int, worker: str = WORKERS[0], version: int = 0) -> BatchGroup:
    return BatchGroup(
        work_digest=n.to_bytes(32, "big"),
        worker=worker,
        index=n,
        policy_version=version,
        body=bytes(32),
        rewards=(0, 10_000),
    )


def choose(ready: list[BatchGroup], step: int, most: int = 2) -> list[int]:
    caps = Counter({item.worker: most for item in ready})
    chosen = batch.choose(ready, step=step, num_groups=2, max_staleness=1, most=caps)
    return [item.index for item in chosen]


def places(
    stakes: Mapping[str, int],
    num_groups: int,
    *,
    share: float = 1,
    multiple: float = 0,
    seed: int = 0,
) -> dict[str, int]:
    return batch.places(
        stakes,
        num_groups=num_groups,
        max_share_millionths=round(share * MICRO),
        stake_multiple_millionths=round(multiple * MICRO),
        seed=seed.to_bytes(8, "big"),
    )


def test_a_batch_takes_no_more_than_it_needs() -> None:
    assert choose([group(1)], 0) == [1]
    assert choose([group(1), group(2), group(3)], 0) == [1, 2]


def test_the_oldest_usable_policy_goes_first_and_too_old_ones_never() -> None:
    ready = [group(1, version=2), group(2, version=0), group(3, version=1)]
    assert choose(ready, 1) == [2, 3]
    assert choose(ready, 2) == [3, 1]
    assert choose(ready, 3) == [1]


def test_one_worker_fills_only_its_places() -> None:
    ready = [group(1), group(2), group(3, WORKERS[1])]
    assert choose(ready, 0, most=1) == [1, 3]
    assert choose(ready[:2], 0, most=1) == [1]
    assert choose(ready, 0, most=0) == []


@pytest.mark.parametrize(
    ("num_groups", "share", "most"),
    [
        (2, 0.5, 1),
        (2, 0.999_999, 1),
        (2, 1, 2),
        (3, 1 / 3, 1),
        (10, 0.05, 1),
        (40, 0.05, 2),
        (1, 0.1, 1),
    ],
)
def test_a_workers_share_is_rounded_down_but_never_to_nothing(
    num_groups: int, share: float, most: int
) -> None:
    """A run whose share times groups is below 1 would train on nobody."""
    assert set(places(dict.fromkeys(WORKERS, 1), num_groups, share=share).values()) == {most}


def test_places_by_stake_fill_a_batch_and_not_more_than_the_multiple() -> None:
    for seed in range(50):
        thirds = places(dict.fromkeys(WORKERS[:3], 7), 32, multiple=1, seed=seed)
        assert sum(thirds.values()) == 32, "10 each would leave every batch two short"
        assert set(thirds.values()) <= {10, 11}
        assert sum(places(dict.fromkeys(WORKERS, 7), 8, multiple=2, seed=seed).values()) == 16
    assert places({WORKERS[0]: 5}, 32, multiple=4) == {WORKERS[0]: 32}
    assert places({WORKERS[0]: 5}, 32, share=0.5, multiple=4) == {WORKERS[0]: 16}
    assert places({WORKERS[0]: 0}, 32, multiple=4) == {WORKERS[0]: 32}, "no stake, no cap by it"
    assert places({WORKERS[0]: 0, WORKERS[1]: 1}, 32, multiple=1) == {WORKERS[0]: 0, WORKERS[1]: 32}


@given(
    stakes=st.lists(st.integers(0, 10**21), min_size=1, max_size=40),
    num_groups=st.integers(1, 64),
    multiple=st.integers(MICRO, 8 * MICRO),
    seed=st.binary(min_size=32, max_size=32),
)
def test_everybody_is_within_one_place_of_its_quota(
    stakes: list[int], num_groups: int, multiple: int, seed: bytes
) -> None:
    by_worker = dict(zip(WORKERS, stakes, strict=False))
    found = batch.places(
        by_worker,
        num_groups=num_groups,
        max_share_millionths=MICRO,
        stake_multiple_millionths=multiple,
        seed=seed,
    )
    total = sum(stakes)
    if not total:
        return
    for worker, stake in by_worker.items():
        quota = num_groups * multiple * stake / MICRO / total
        assert found[worker] <= num_groups
        assert min(num_groups, quota) - 1 - 1e-6 <= found[worker] <= quota + 1 + 1e-6
    assert sum(found.values()) >= num_groups or max(found.values()) == num_groups


def test_a_stake_split_over_many_workers_has_the_places_of_one() -> None:
    """One in eight of the stake, whole and in ten parts, over 400 draws of 8 places."""
    others = dict.fromkeys(WORKERS[:10], 7)
    whole = others | {WORKERS[10]: 10}
    split = others | dict.fromkeys(WORKERS[10:20], 1)
    means = []
    for stakes, own in ((whole, WORKERS[10:11]), (split, WORKERS[10:20])):
        drawn = [places(stakes, 8, multiple=1, seed=seed) for seed in range(400)]
        means.append(sum(sum(found[w] for w in own) for found in drawn) / 400)
    assert means == pytest.approx([1, 1], abs=0.1)


def test_the_pace_has_the_same_caps() -> None:
    def share(stakes: Mapping[str, int], most: int, multiple: int) -> int:
        return batch.pace_share_millionths(
            stakes, WORKERS[0], max_share_millionths=most, stake_multiple_millionths=multiple
        )

    stakes = {WORKERS[0]: 1, WORKERS[1]: 9}
    assert share(stakes, MICRO, 0) == MICRO
    assert share(stakes, MICRO, 2 * MICRO) == MICRO // 5
    assert share(stakes, MICRO // 10, 2 * MICRO) == MICRO // 10
    assert share({WORKERS[0]: 1}, MICRO, 4 * MICRO) == MICRO
    assert share({WORKERS[0]: 0}, MICRO, MICRO) == MICRO


def test_equal_rewards_teach_nothing() -> None:
    assert not batch.is_trainable(())
    assert not batch.is_trainable((10_000, 10_000))
    assert batch.is_trainable((10_000, 0))
