"""Turn a group's rewards into advantages: how much each rollout is better than its siblings.

GRPO (arXiv:2402.03300, equation 3) without a critic. Dividing by the deviation is optional and off,
because it weighs groups by how rare their successes are (arXiv:2503.20783, "Dr. GRPO"). Rewards are
integers in ten-thousandths, so whether a group has any signal is exact.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from protocol.environments.base import FULL_SCORE

DEVIATION_FLOOR = 1e-4
"""Added to σ, as TRL does; a group without spread has numerators of zero anyway."""


def has_signal(rewards: Sequence[int]) -> bool:
    """Return whether siblings differ: a group whose rewards are all equal has no gradient."""
    return len(rewards) > 1 and max(rewards) != min(rewards)


def group_advantages(
    rewards: Sequence[int], *, divide_by_deviation: bool = False
) -> NDArray[np.float32]:
    """Return reward − group mean for each rollout, in units of a full reward.

    With `divide_by_deviation` it is also divided by the group's sample standard deviation (n − 1).
    """
    scores = np.asarray(rewards, dtype=np.float64) / FULL_SCORE
    centred = scores - scores.mean()
    if divide_by_deviation:
        centred = centred / (scores.std(ddof=1) + DEVIATION_FLOOR)
    result: NDArray[np.float32] = centred.astype(np.float32)
    return result
