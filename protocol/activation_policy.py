"""What a run asks of activation commitments, and when a replay condemns one.

Pure. `activations.py` has the commitment itself, `orchestrator/admission.py` refuses what no honest
prover sends, and a verifier measures the rest from the hidden states of its own prefill.
"""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from protocol.activations import (
    DECODE_BATCHING_SIZE,
    MAX_EXPONENT_MISMATCHES,
    MAX_MANTISSA_ERROR_MEAN,
    MAX_MANTISSA_ERROR_MEDIAN,
    TOPK,
    Deviation,
)
from protocol.constants import MICRO
from protocol.verdict import Rejection
from protocol.wire import U32, Wire


class ActivationPolicy(Wire):
    """Every rollout of the run carries its activation commitments, and replay holds them to these bounds.

    One commitment outside any bound condemns its group. The defaults are TOPLOC's published bounds.

    Example: ActivationPolicy()
    """

    max_exponent_mismatches: Annotated[int, Field(ge=0, lt=TOPK)] = MAX_EXPONENT_MISMATCHES
    """Of the 128 largest activations of 32 positions."""
    max_mantissa_error_mean_millionths: U32 = round(MAX_MANTISSA_ERROR_MEAN * MICRO)
    max_mantissa_error_median_millionths: U32 = round(MAX_MANTISSA_ERROR_MEDIAN * MICRO)
    """Units of a bfloat16's last mantissa bit, where the exponents agree."""

    def allows(self, found: Deviation) -> bool:
        """Return whether a recomputation may lie so far from the commitment."""
        return found.is_within(
            self.max_exponent_mismatches,
            self.max_mantissa_error_mean_millionths / MICRO,
            self.max_mantissa_error_median_millionths / MICRO,
        )


def judge_activations(
    group: Sequence[Sequence[Deviation]], policy: ActivationPolicy
) -> tuple[Rejection, str] | None:
    """Return what the first commitment outside the bounds shows, or None; one sequence per rollout."""
    for i, deviations in enumerate(group):
        if not deviations:
            return Rejection.BAD_ACTIVATIONS, f"rollout {i} carries no activation commitments"
        for k, found in enumerate(deviations):
            if not policy.allows(found):
                return Rejection.REPLAY_ACTIVATIONS, (
                    f"rollout {i}, tokens from {k * DECODE_BATCHING_SIZE}: of {TOPK} activations "
                    f"{found.exponent_mismatches} have another exponent, mantissas are off by "
                    f"{found.mantissa_error_mean:.2f} on average, {found.mantissa_error_median:.1f} "
                    f"in the middle; this run allows {policy.max_exponent_mismatches}, "
                    f"{policy.max_mantissa_error_mean_millionths / MICRO:g} and "
                    f"{policy.max_mantissa_error_median_millionths / MICRO:g}"
                )
    return None
