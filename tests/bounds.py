"""Thresholds by hand, for tests that are not about how they are measured."""

from pathlib import Path

from protocol.precision import ComputeDtype
from protocol.verdict import Bounds, Limit, Thresholds

COMMITTED = Thresholds.from_json(Path("models/start/thresholds.json").read_bytes())
"""The starting model's, as measured."""


def exactly(value: int) -> Limit:
    return Limit(low=value, estimate=value, high=value)


def bounds(reference: int, *, group: int, drift: int) -> Bounds:
    """All in millionths: per token, per group, and of the sum over groups."""
    return Bounds(
        reference=reference, group=exactly(group), drift=exactly(drift), honest_quantiles=()
    )


def thresholds(
    model_digest: bytes = bytes(32),
    *,
    compute_dtype: ComputeDtype = ComputeDtype.FLOAT32,
    match: int = 950_000,
    margin: int = 25_000,
    gap: int = 60_000,
) -> Thresholds:
    """Hold groups to means per token, in millionths."""
    return Thresholds(
        compute_dtype=compute_dtype,
        model_digest=model_digest,
        mismatches=bounds(1_000_000 - match, group=0, drift=20_000_000),
        margin=bounds(margin, group=0, drift=20_000_000),
        gap=bounds(gap, group=0, drift=20_000_000),
        num_honest_groups=1,
        num_honest_tokens=1,
        honest_match_millionths=1_000_000,
        honest_mean_margin_micronats=0,
        false_rejects_per_million_groups=100,
        false_alarms_per_million_groups=10,
    )
