"""Which submissions must be replayed: the orchestrator draws, and anyone draws again.

Pure. A group is drawn by an epoch's secret and its own digest: unpredictable before it is sent,
reproducible once the secret is revealed; so are the rollouts of it that are replayed. The share that is
drawn follows from the worker's record, which is public too: the groups with lower nonces that it was paid
for. How the orchestrator counts verdicts one by one is its `rules/votes.py`.

Left out: who keeps the secret. An orchestrator that tells a friend whose group will be drawn cannot be
found here; it can be found by what the friend's groups say when anyone replays them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from protocol.canonical import keccak256
from protocol.constants import MICRO
from protocol.run import AuditPolicy
from protocol.verdict import Outcome

INDEPENDENT_REPLAYS = 2
"""Verifiers that must find the same before a group is rejected, in a run that has as many."""


@dataclass(frozen=True, slots=True)
class Draw:
    """What one submission's draw was made from: the epoch whose secret it was, and the share.

    Example: Draw(epoch=3, rate=250_000): a quarter of such groups is replayed
    """

    epoch: int
    rate: int

    def selects(self, secret: bytes, work_digest: bytes) -> bool:
        """Return whether this submission is to be replayed; `secret` is the epoch's."""
        return is_drawn(secret, work_digest, rate=self.rate)

    def rollouts(
        self, secret: bytes, work_digest: bytes, *, group_size: int, policy: AuditPolicy
    ) -> tuple[int, ...]:
        """Return which rollouts of a drawn submission are replayed: all where every group is."""
        if self.rate >= MICRO or policy.num_rollouts >= group_size:
            return tuple(range(group_size))

        def place(i: int) -> bytes:
            return keccak256(b"rollouts" + secret + work_digest + i.to_bytes(2, "big"))

        return tuple(sorted(sorted(range(group_size), key=place)[: policy.num_rollouts]))


def rate_millionths(policy: AuditPolicy, *, num_accepted: int) -> int:
    """Return the share of a worker's next group being replayed, after `num_accepted` good ones.

    It never rises with the record, so who counts too few groups only replays more than it must.
    """
    return MICRO if num_accepted < policy.num_probation_groups else policy.rate_millionths


def is_drawn(secret: bytes, work_digest: bytes, *, rate: int) -> bool:
    """Return whether the draw selects this submission at `rate` millionths."""
    draw = int.from_bytes(keccak256(b"audit" + secret + work_digest)[:8], "big")
    return draw * MICRO < rate << 64


def votes_that_condemn(threshold: int, num_verifiers: int) -> int:
    """Return how many verifiers' replays it takes to reject a group, pause a worker, or report it.

    The ledger asks for more than half of the verifiers anyway; a run of one verifier has no second,
    and is told so when it is launched.
    """
    return max(threshold, min(INDEPENDENT_REPLAYS, num_verifiers))


def is_vouched(
    outcomes: Sequence[Outcome], *, threshold: int, num_to_condemn: int, num_voters: int
) -> bool:
    """Return whether one outcome per verifier is enough to pay a drawn group.

    `threshold` accepting ones are; so are those of all that have a vote, where too few condemn it: then
    it is paid and not trained on.
    """
    accepting = outcomes.count(Outcome.ACCEPTED)
    rejecting = outcomes.count(Outcome.REJECTED)
    is_split = accepting + rejecting >= max(threshold, num_voters) and rejecting < num_to_condemn
    return accepting >= threshold or is_split
