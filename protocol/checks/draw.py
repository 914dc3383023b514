"""Which submissions must be replayed: the orchestrator draws, and anyone can draw again.

Pure. An epoch's secret and the group's own digest decide the draw of a group and of its replayed rollouts.
So the draw is unpredictable before the group is sent, and reproducible once the secret is revealed. The
share that is drawn follows from the worker's record, which is public too: the groups with lower nonces that
it was paid for. The orchestrator's `rules/votes.py` counts the verdicts one by one.

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
"""How many verifiers must agree before a group is rejected, if the run has as many."""


@dataclass(frozen=True, slots=True)
class Draw:
    """How one submission was drawn: by the secret of which epoch, and at which share.

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
        """Return which rollouts of a drawn submission are replayed: all if every group is."""
        if self.rate >= MICRO or policy.num_rollouts >= group_size:
            return tuple(range(group_size))

        def place(i: int) -> bytes:
            return keccak256(b"rollouts" + secret + work_digest + i.to_bytes(2, "big"))

        return tuple(sorted(sorted(range(group_size), key=place)[: policy.num_rollouts]))


def rate_millionths(policy: AuditPolicy, *, num_accepted: int) -> int:
    """Return the share at which a worker's next group is drawn, after `num_accepted` good ones.

    It never rises with the record, so counting too few groups only causes more replays than needed.
    """
    return MICRO if num_accepted < policy.num_probation_groups else policy.rate_millionths


def is_drawn(secret: bytes, work_digest: bytes, *, rate: int) -> bool:
    """Return whether the draw selects this submission at `rate` millionths."""
    draw = int.from_bytes(keccak256(b"audit" + secret + work_digest)[:8], "big")
    return draw * MICRO < rate << 64


def votes_that_condemn(threshold: int, num_verifiers: int) -> int:
    """Return how many verifiers must find a fault to reject a group, pause a worker, or report it.

    The ledger asks for more than half of the verifiers anyway; a run of one verifier has no second,
    and is told so when it is launched.
    """
    return max(threshold, min(INDEPENDENT_REPLAYS, num_verifiers))


def is_vouched(outcomes: Sequence[Outcome], *, threshold: int) -> bool:
    """Return whether one outcome per seat of a verifier is enough to pay a drawn group."""
    return outcomes.count(Outcome.ACCEPTED) >= threshold
