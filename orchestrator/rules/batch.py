"""Choose the groups of one optimizer step.

Pure: oldest policy first, then oldest arrival; and no stranger steers a step. Two caps see to that. The
cap per worker is easily stepped around by being several workers, so there is one by stake: a worker's
part of a batch is at most a multiple of its part of the stake at work, and identities that share a
stake get, on average, exactly what one identity with all of it would get.

Neither cap bends where others are slow: the batch waits for them. The multiple is what lets a batch be
full without everybody's part; whoever stays away is soon not at work any more (`stakes.py`).
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from protocol.canonical import keccak256
from protocol.constants import MICRO
from protocol.messages import BatchGroup


def choose(
    ready: Sequence[BatchGroup],
    *,
    step: int,
    num_groups: int,
    max_staleness: int,
    most: Mapping[str, int],
) -> list[BatchGroup]:
    """Return up to `num_groups` of the `ready` groups (in order of arrival): a batch, where so many.

    `step` is the version being trained, so staleness is `step − policy_version`. `most` says how many
    groups each worker may fill (`places`).
    """
    taken: Counter[str] = Counter()
    chosen: list[BatchGroup] = []
    for group in sorted(ready, key=lambda g: g.policy_version):
        if len(chosen) == num_groups:
            break
        if group.policy_version < step - max_staleness or taken[group.worker] == most[group.worker]:
            continue
        taken[group.worker] += 1
        chosen.append(group)
    return chosen


def places(
    stakes: Mapping[str, int],
    *,
    num_groups: int,
    max_share_millionths: int,
    stake_multiple_millionths: int,
    seed: bytes,
) -> dict[str, int]:
    """Return how many groups of a batch each worker may fill; a multiple of 0 is no cap by stake.

    `num_groups × multiple × stake ÷ all stakes` is rarely whole, and rounding it up would give a place to
    every identity that a stake is split into. So workers stand in an order drawn by `seed`, their quotas
    end to end, and a worker has a place for each whole number that falls into its quota (systematic
    sampling, Madow 1949): the places sum to the quotas' sum, and each worker's mean is its quota.
    """
    most = max(1, num_groups * max_share_millionths // MICRO)
    total = sum(stakes.values())
    if not stake_multiple_millionths or not total:
        return dict.fromkeys(stakes, most)
    whole = MICRO * total
    end = int.from_bytes(keccak256(seed), "big") % whole
    found = {}
    for worker in sorted(stakes, key=lambda w: keccak256(seed + w.encode())):
        start, end = end, end + num_groups * stake_multiple_millionths * stakes[worker]
        found[worker] = min(most, end // whole - start // whole)
    return found


def pace_share_millionths(
    stakes: Mapping[str, int],
    worker: str,
    *,
    max_share_millionths: int,
    stake_multiple_millionths: int,
) -> int:
    """Return a worker's largest part of the groups that may be out: the same caps, before any rounding."""
    total = sum(stakes.values())
    if not stake_multiple_millionths or not total:
        return max_share_millionths
    return min(max_share_millionths, stake_multiple_millionths * stakes[worker] // total)


def is_trainable(rewards: Sequence[int]) -> bool:
    """Return whether a group's rewards differ: equal ones have no advantage and no gradient."""
    return len(set(rewards)) > 1
