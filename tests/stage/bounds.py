"""Thresholds by hand, for tests that are not about how they are measured."""

from pathlib import Path

from protocol.constants import MICRO, NANO
from protocol.precision import ComputeDtype
from protocol.verdict import Bounds, Thresholds

COMMITTED = Thresholds.from_json(
    (Path(__file__).parents[2] / "models" / "start" / "thresholds.json").read_bytes()
)
"""Those of the starting model."""
ANY_MODEL = bytes(32)


def bounds(reference: int, *, group: int = 1, drift: int = 20 * NANO) -> Bounds:
    """In the statistic's unit: per token, per group, and of the sum over groups."""
    return Bounds(reference=reference, group=group, drift=drift)


def thresholds(
    model_digest: bytes = ANY_MODEL,
    *,
    compute_dtype: ComputeDtype = ComputeDtype.FLOAT32,
    match: float = 0.95,
    margin: float = 0.025,
    gap: float = 0.06,
) -> Thresholds:
    """Hold groups to means per token: of matches, and of nats."""
    return Thresholds(
        compute_dtype=compute_dtype,
        model_digest=model_digest,
        mismatches=bounds(round((1 - match) * MICRO), drift=20 * MICRO),
        margin=bounds(round(margin * NANO)),
        gap=bounds(round(gap * NANO)),
        varied=("by hand",),
        num_honest_groups=1,
        num_honest_tokens=1,
        honest_match_millionths=MICRO,
        int8_caught_millionths=MICRO,
        false_rejects_per_million_groups=100,
        false_alarms_per_million_groups=10,
    )
