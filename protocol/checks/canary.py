"""Canaries: groups of known quality among a verifier's replays, and their commitments.

An operator runs some workers whose groups are all honest, or all false. It commits to which they
are before they lease anything, so that nobody can call a group a canary after the fact. It opens a
commitment when a group was judged wrongly, or after a while. Until then nothing on the wire tells
canaries from other workers. Pure.
"""

import math
from typing import Literal

from protocol.canonical import encode, keccak256
from protocol.verdict import Outcome, ReplayStats, Thresholds, judge
from protocol.wire import Address, Bytes32, Wire

CLEARLY_FALSE = 0.5
"""Work is clearly false if half of what its replay measured would still condemn it."""
CLEARLY_HONEST = 1.25
"""Work is clearly honest if a quarter more than what its replay measured would still pass. Between
the two an honest verifier on other hardware might differ, and nobody's stake may depend on it."""

CANARY = "canary"
"""The rejection of an opened canary's groups, which are neither paid nor trained on."""

Answer = Literal["accepted", "rejected"]
"""The outcome that a replay of the worker's groups must find."""


class CanaryOpening(Wire):
    """Names a canary worker, with the salt to recompute its commitment.

    Example: CanaryOpening(worker="0x…", answer="rejected", salt=bytes(32)) says that all its groups
    were false.
    """

    worker: Address
    answer: Answer
    salt: Bytes32

    def commitment(self, run_id: int) -> bytes:
        """Return the digest that was published before the worker's first lease."""
        return keccak256(
            encode(["rollcall/canary", run_id, self.worker, self.answer, self.salt]),
        )


def commitment_text(run_id: int, commitment: bytes, committed_at: int) -> str:
    """Return the text under which the orchestrator signs a commitment (EIP-191)."""
    return f"rollcall canary of run {run_id} at {committed_at}: 0x{commitment.hex()}"


def is_clear(outcome: Outcome, stats: ReplayStats, thresholds: Thresholds) -> bool:
    """Return whether every honest verifier would have found this outcome."""
    match outcome:
        case Outcome.REJECTED:
            return judge(_scaled(stats, CLEARLY_FALSE), thresholds) is not None
        case Outcome.ACCEPTED:
            return judge(_scaled(stats, CLEARLY_HONEST), thresholds) is None
        case Outcome.UNDECIDED:
            return False


def replays_until_failed(share: float, *, confidence: float, false_share: float = 0.5) -> int:
    """Return after how many replays a verifier that accepts everything has failed a canary.

    `share` of its queue are canaries, `false_share` of those false, each independently: it passes k
    replays unseen with probability (1 − share × false_share)^k.

    Example: replays_until_failed(0.05, confidence=0.99) == 182
    """
    seen = share * false_share
    if not 0 < seen < 1 or not 0 < confidence < 1:
        raise ValueError(f"share {share} × {false_share} and {confidence} must lie between 0 and 1")
    return math.ceil(math.log(1 - confidence) / math.log(1 - seen))


def _scaled(stats: ReplayStats, factor: float) -> ReplayStats:
    return stats.model_copy(
        update={
            "num_matched": max(0, stats.num_tokens - int(stats.num_wrong * factor)),
            "margin_nanonats": int(stats.margin_nanonats * factor),
            "gap_nanonats": int(stats.gap_nanonats * factor),
        }
    )
