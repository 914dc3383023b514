"""What rejected groups cost their worker: rest from leasing, for longer with each.

Pure. A group that admission or a replay rejects takes the market's time and earns nothing, so it must not be free
to send another. What counts is how many more were rejected than accepted: whoever errs now and then pays for it
with the next good group, and whoever sends only what is rejected gets a lease an hour. Stale groups do not count:
they are good work that came too late, and cost a dropped lease. Nobody is excluded, for a machine can be mended.
"""

from typing import Final

NUM_FORGIVEN: Final = 8
"""A machine that is set up wrongly is told so by each receipt; these are enough to read one."""
MOST_REST_SECONDS: Final = 3_600


def rest_seconds(num_excess: int, *, lease_seconds: int) -> int:
    """Return how long after its last lease a worker gets none: a lease time, and twice as long with each more."""
    if num_excess < NUM_FORGIVEN:
        return 0
    doublings = min(num_excess - NUM_FORGIVEN, 20)
    return min(lease_seconds << doublings, max(MOST_REST_SECONDS, lease_seconds))
