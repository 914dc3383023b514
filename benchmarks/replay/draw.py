"""What verifying costs per paid token at a run's draw, beside how soon the draw catches a cheat.

One rollout of a drawn group is replayed, and the prompt is prefilled for it alone; what the draw leaves out is
paid unseen. The chance that one rollout of a cheat's group is rejected is the attack lab's, over all
rollouts of all its groups; groups are drawn independently, so that within n of them a cheat is caught with

    1 − (1 − rate × chance)^n.

Left out: the sequential test, which adds up what no rollout shows, and probation, in which everything is
replayed. Each verifier of a run pays the cost.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.replay.cost import Cost
from protocol.constants import MICRO
from protocol.run import AuditPolicy

NUM_GROUPS = 10
"""Within so many groups a cheat ought to be caught …"""
LEAST_CAUGHT = 0.99
"""… with this chance."""
MOST_COST = 0.02
"""Of generating, per paid token."""
RATES = (250_000, 375_000, 500_000, MICRO)


@dataclass(frozen=True, slots=True)
class Seen:
    """One cheat by one pair of engines: which share of single rollouts is rejected.

    As handed in, then after a prefill with the right log-probabilities; `differing` are of the rollouts that
    are not honest work's to the token, None where all are.
    """

    attack: str
    rejected: tuple[float, float]
    differing: tuple[float | None, float | None]


def per_paid_token(cost: Cost, policy: AuditPolicy) -> float:
    """Return the seconds of verifying over those of generating, per token that is paid."""
    return cost.drawn_ratio * policy.rate_millionths / MICRO


def caught_within(chance: float, policy: AuditPolicy, num_groups: int = NUM_GROUPS) -> float:
    """Return the chance that a cheat is caught, if one of its rollouts is with `chance`."""
    return float(1 - (1 - chance * policy.rate_millionths / MICRO) ** num_groups)


def read(path: Path) -> list[Seen]:
    """Read what the attack lab found of single rollouts, honest work left out."""
    rows = json.loads(path.read_text())["replay"]
    return [
        Seen(
            row["attack"],
            *(
                tuple(row[claims][name] for claims in ("handed_in", "prefilled"))
                for name in ("rejected_rollouts", "rejected_rollouts_differing")
            ),
        )
        for row in rows
        if not row["attack"].startswith("honest")
    ]


def cost_table(costs: Sequence[Cost], policy: AuditPolicy) -> str:
    """Return the cost per paid token at several rates of the draw, the policy's marked."""
    rates = sorted({*RATES, policy.rate_millionths})
    marked = [
        f"{r / MICRO:.0%}" + (" (default)" if r == policy.rate_millionths else "") for r in rates
    ]
    lines = [
        "| model | replay on | " + " | ".join(f"{name} of groups" for name in marked) + " |",
        "|---|---|" + "---:|" * len(rates),
    ]
    for cost in costs:
        shares = [cost.drawn_ratio * rate / MICRO for rate in rates]
        cells = " | ".join(f"{share:.2%}" for share in shares)
        lines.append(f"| {cost.model} | {cost.replayer} | {cells} |")
    return "\n".join(lines)


def caught_table(seen: Sequence[Seen], policy: AuditPolicy) -> str:
    """Return the chances as handed in · after a prefill, the least over the pairs of engines."""
    lines = [
        f"| cheat | rejected rollouts | of those that differ | caught within {NUM_GROUPS} groups | "
        "if all differ |",
        "|---|---:|---:|---:|---:|",
    ]
    for attack in dict.fromkeys(one.attack for one in seen):
        pairs = [one for one in seen if one.attack == attack]
        every = [min(one.rejected[i] for one in pairs) for i in (0, 1)]
        differing = [
            min((d for one in pairs if (d := one.differing[i]) is not None), default=None)
            for i in (0, 1)
        ]
        cells = [
            *(" · ".join(_percent(c, 1) for c in chances) for chances in (every, differing)),
            *(
                " · ".join(
                    _percent(None if c is None else caught_within(c, policy), 2) for c in chances
                )
                for chances in (every, differing)
            ),
        ]
        lines.append(f"| {attack} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def needed(chance: float) -> AuditPolicy | None:
    """Return the draw with the lowest rate that catches such a cheat as aimed at, or None."""
    rate = (1 - (1 - LEAST_CAUGHT) ** (1 / NUM_GROUPS)) / chance if chance else 2.0
    millionths = -int(-rate * MICRO // 1)
    return AuditPolicy(rate_millionths=millionths) if millionths <= MICRO else None


def _percent(share: float | None, digits: int) -> str:
    return "–" if share is None else f"{share:.{digits}%}"
