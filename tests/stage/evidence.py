"""What a hand-made verdict has measured: evidence as strong as a test asks for, from a group's tokens.

`wrong` tokens are not the seeded winner; `claims` are the decades by which honest work is unlikely to claim
such log-probabilities (`protocol/checks/evidence.py`).
"""

import math
from typing import Any, Final

from protocol.checks.evidence import Hypothesis
from protocol.constants import MICRO, NANO
from protocol.verdict import NOTHING_MEASURED, Outcome, ReplayStats, Statistic, Thresholds

UNPAID_CLAIMS: Final = 6.0
"""More than the bound, which is at 4.5."""
GROSS: Final = {"wrong": 5}
"""Three wrong tokens of ten or thirty are not, under the law of `ground.py`."""
NAMED: Final = {"wrong": 5, "hypothesis": Hypothesis.INT4}


def measured(
    num_tokens: int,
    thresholds: Thresholds,
    *,
    wrong: int = 0,
    claims: float = 0.0,
    surprisal: float = 0.0,
) -> ReplayStats:
    """Return what a replay measured; `surprisal` is in decades too."""
    rate = thresholds.false_rejects_per_million_groups / MICRO / len(Statistic)
    bound = thresholds.gap.reference * num_tokens + thresholds.gap.group
    return NOTHING_MEASURED.model_copy(
        update={
            "num_tokens": num_tokens,
            "num_matched": num_tokens - wrong,
            "gap_nanonats": math.ceil(bound * claims / -math.log10(rate)),
            "surprisal_nanonats": math.ceil(surprisal * math.log(10) * NANO),
        }
    )


def evidence(
    outcome: Outcome,
    num_tokens: int,
    thresholds: Thresholds,
    *,
    wrong: int = 0,
    claims: float | None = None,
    surprisal: float = 0.0,
    hypothesis: str = "",
    left_wrong: int = 0,
    left_claims: float = 0.0,
) -> dict[str, Any]:
    """Return the fields of a verdict with this evidence, and with what its hypothesis leaves unexplained."""
    if claims is None:
        claims = UNPAID_CLAIMS if outcome is Outcome.REJECTED and not wrong else 0.0
    stats = measured(num_tokens, thresholds, wrong=wrong, claims=claims, surprisal=surprisal)
    left = measured(num_tokens, thresholds, wrong=left_wrong, claims=left_claims)
    return {
        "rejection": "replay_mismatch" if outcome is Outcome.REJECTED else "",
        "stats": stats,
        "hypothesis": str(hypothesis),
        "explained": left if hypothesis else NOTHING_MEASURED,
    }
