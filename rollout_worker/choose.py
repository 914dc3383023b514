"""Which run to work for: the best paid one that this worker can serve. Pure."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Literal

from ledger.amounts import USUAL, Token
from protocol.messages import RunInfo, RunStatus
from protocol.precision import ComputeDtype

OVER = (RunStatus.STOPPED, RunStatus.CLOSED)


@dataclass(frozen=True, slots=True)
class Ability:
    """What a worker can serve and wants.

    Example: Ability("vllm-cpu", token="0x5FbDB2315678afecb367f032d93F642f64180aa3", min_rate=0, wanted="any")
    """

    engine: str
    token: str
    """The one payment token whose rates are compared: anybody may make a token, and pay much of it."""
    min_rate: int
    wanted: Literal["any"] | tuple[int, ...]
    unit: Token = USUAL
    """How that token's amounts are read."""
    draws_natively: bool = False
    """Whether vLLM's own sampler on a GPU draws, which reports rounded, untempered log-probabilities."""


def obstacle(info: RunInfo, ability: Ability) -> str | None:
    """Return why a run cannot be served now, or None."""
    spec = info.spec
    reasons = {
        "it is not among the configured runs": (
            ability.wanted != "any" and info.run_id not in ability.wanted
        ),
        f"it is {info.status}": info.status is not RunStatus.OPEN,
        "its trainer has published nothing yet": info.newest_version < 0,
        "its budget is spent": info.budget_left_units == 0,
        f"it computes in {spec.compute_dtype} at temperature {spec.temperature:g}, which {ability.engine} "
        "cannot report exactly: set engine.name to transformers": (
            ability.draws_natively
            and (spec.compute_dtype is ComputeDtype.FLOAT32 or spec.temperature != 1)
        ),
        f"it pays in token {info.token}, this worker works for {ability.token}: name it as `token`": (
            info.token != ability.token
        ),
        f"it pays {ability.unit.show(spec.rate)} per token sampled, min_rate is "
        f"{ability.unit.show(ability.min_rate)}": (spec.rate < ability.min_rate),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def choose(
    runs: Sequence[RunInfo], ability: Ability, *, barred: AbstractSet[int] = frozenset()
) -> RunInfo | None:
    """Return the run with the highest rate that can be served, the older one where rates tie."""
    open_runs = [
        info for info in runs if info.run_id not in barred and obstacle(info, ability) is None
    ]
    return max(open_runs, key=lambda info: (info.spec.rate, -info.run_id), default=None)


def obstacles(
    runs: Sequence[RunInfo], ability: Ability, *, barred: AbstractSet[int] = frozenset()
) -> dict[int, str]:
    """Return by run id why each run that is not barred cannot be served, also one that nobody serves."""
    wanted = () if ability.wanted == "any" else ability.wanted
    found: dict[int, str | None] = dict.fromkeys(wanted, "the orchestrator does not serve it")
    found |= {info.run_id: obstacle(info, ability) for info in runs}
    return {
        run_id: reason
        for run_id, reason in found.items()
        if reason is not None and run_id not in barred
    }


def is_over(
    runs: Sequence[RunInfo], ability: Ability, *, barred: AbstractSet[int] = frozenset()
) -> bool:
    """Return whether none of the configured runs can ever be served again. Never for `any`."""
    if ability.wanted == "any":
        return False
    over = {info.run_id for info in runs if info.status in OVER} | barred
    return set(ability.wanted) <= over
