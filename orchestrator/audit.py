"""Decide which submissions are replayed.

Pure, from the epoch secret and the submission's own digest: unpredictable before it is sent, and
reproducible by anyone once the secret is revealed. How verdicts are counted is `lua/verdict.lua`,
because votes must be counted atomically.
"""

from protocol.canonical import keccak256
from protocol.constants import MICRO
from protocol.run import AuditPolicy


def rate_millionths(policy: AuditPolicy, *, num_accepted: int) -> int:
    """Return the share of a worker's next group being replayed, after `num_accepted` good ones.

    All of the probation, then half as often with every `num_halving_groups`, down to the floor.
    """
    beyond = num_accepted - policy.num_probation_groups
    if beyond < 0:
        return MICRO
    halvings = min(beyond // policy.num_halving_groups + 1, 32)
    return max(policy.floor_millionths, MICRO >> halvings)


def is_drawn(secret: bytes, work_digest: bytes, *, rate: int) -> bool:
    """Return whether the draw selects this submission at `rate` millionths."""
    draw = int.from_bytes(keccak256(b"audit" + secret + work_digest)[:8], "big")
    return draw * MICRO < rate << 64
