"""Choose the groups of one optimizer step.

Pure: oldest policy first, then oldest arrival; a capped share per worker, so that no single
stranger steers a step.
"""

from collections import Counter
from collections.abc import Sequence

from protocol.constants import MICRO
from protocol.messages import BatchGroup


def choose(
    ready: Sequence[BatchGroup],
    *,
    step: int,
    num_groups: int,
    max_staleness: int,
    max_share_millionths: int,
) -> tuple[BatchGroup, ...] | None:
    """Return a full batch from the `ready` groups (in order of arrival), or None while short.

    `step` is the version being trained, so staleness is `step − policy_version`.
    """
    most = max(1, num_groups * max_share_millionths // MICRO)
    taken: Counter[str] = Counter()
    chosen: list[BatchGroup] = []
    for group in sorted(ready, key=lambda g: g.policy_version):
        if group.policy_version < step - max_staleness or taken[group.worker] == most:
            continue
        taken[group.worker] += 1
        chosen.append(group)
        if len(chosen) == num_groups:
            return tuple(chosen)
    return None


def is_trainable(rewards: Sequence[int]) -> bool:
    """Return whether a group's rewards differ: equal ones have no advantage and no gradient."""
    return len(set(rewards)) > 1
