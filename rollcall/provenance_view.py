"""How a lineage is shown: tables to read, JSON for programs, a picture of who shaped what."""

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from protocol.environments.base import FULL_SCORE
from protocol.lineage import Share
from rollcall.provenance import Influence, Lineage, Step, influences

NUM_SHOWN = 8
"""Workers with an area of their own in the picture; the rest are one."""
INK, GRID, REST, EXCLUDED = "#26323f", "#d9dee4", "#b7bfc8", "#c8553d"
HUES = ("#2f6fb0", "#3a9b6c", "#8a63b8", "#b98a2f", "#4aa3b5", "#7a8f3c", "#a8577e", "#5b6b7c")


def show_back(
    console: Console, lineage: Lineage, excluded: Collection[str], *, all_groups: bool
) -> None:
    """Print who shaped the version, and the groups of its own step, or of every one."""
    console.print(_header(lineage))
    console.print(_workers(lineage, influences(lineage.steps), excluded))
    shown = lineage.steps if all_groups else lineage.steps[-1:]
    if shown:
        console.print(_groups(shown))


def show_forward(
    console: Console, lineage: Lineage, worker: str, excluded: Collection[str]
) -> None:
    """Print the versions that one worker touched, and with which part."""
    console.print(_header(lineage))
    table = Table(title=f"versions that {worker} touched{_mark(worker, excluded)}")
    for column in ("version", "groups", "of tokens", "of |advantage|", "since then, mean"):
        table.add_column(column, justify="right")
    total, num_learned = 0.0, 0
    for step in lineage.steps:
        num_learned += step.has_learned
        own = [share for share in step.shares if share.group.worker == worker]
        part = sum(share.weight for share in own)
        total += part
        if any(share.tokens for share in own):
            table.add_row(
                str(step.version),
                str(len(own)),
                f"{sum(share.tokens for share in own):.2%}",
                f"{part:.2%}",
                f"{total / max(1, num_learned):.2%}",
            )
    console.print(table if table.row_count else f"{worker} touched none of these versions")


def as_json(lineage: Lineage, excluded: Collection[str], *, worker: str | None) -> str:
    """Return everything that the tables are made of; of one worker only where it is named."""
    found = [one for one in influences(lineage.steps) if worker in (None, one.worker)]
    body = {
        "run_id": lineage.run_id,
        "version": lineage.version,
        "policy_digest": "0x" + lineage.policy_digest.hex(),
        "trainer": lineage.trainer,
        "workers": [_influence_json(one, excluded) for one in found],
        "steps": [
            {
                "version": step.version,
                "groups": [
                    _share_json(share)
                    for share in step.shares
                    if worker in (None, share.group.worker)
                ],
            }
            for step in lineage.steps
        ],
    }
    return json.dumps(body, indent=1)


def draw(lineage: Lineage, excluded: Collection[str], path: Path) -> None:
    """Draw each worker's part of every step, and its mean part so far; excluded ones hatched red."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    versions = [step.version for step in lineage.steps]
    shown = [one.worker for one in influences(lineage.steps)[:NUM_SHOWN]]
    parts = [[step.weight_of(worker) for step in lineage.steps] for worker in shown]
    rest = [
        max(0.0, float(step.has_learned) - sum(part[i] for part in parts))
        for i, step in enumerate(lineage.steps)
    ]
    labels = [_short(worker) + (" excluded" if worker in excluded else "") for worker in shown]
    colours = [
        EXCLUDED if worker in excluded else HUES[i % len(HUES)] for i, worker in enumerate(shown)
    ]
    if any(part > 1e-9 for part in rest):
        parts, labels, colours = [*parts, rest], [*labels, "all others"], [*colours, REST]
    pyplot.rcParams.update({"font.size": 9, "axes.edgecolor": GRID, "text.color": INK})
    figure, (areas, lines) = pyplot.subplots(
        2, 1, figsize=(10, 6.5), sharex=True, constrained_layout=True
    )
    figure.suptitle(f"Who shaped version {lineage.version} of run {lineage.run_id}", fontsize=12)
    bottom = [0.0] * len(versions)
    for part, label, colour in zip(parts, labels, colours, strict=True):
        top = [low + value for low, value in zip(bottom, part, strict=True)]
        hatch = "///" if colour == EXCLUDED else None
        areas.fill_between(
            versions, bottom, top, step="mid", color=colour, alpha=0.85, linewidth=0, hatch=hatch
        )
        lines.plot(versions, _running_mean(part), color=colour, linewidth=1.4, label=label)
        bottom = top
    areas.set(title="part of each step's absolute advantage", ylim=(0, 1.02))
    lines.set(title="mean part so far", xlabel="policy version", ylim=(0, None))
    figure.legend(loc="outside lower center", frameon=False, fontsize=8, ncols=5)
    for axis in (areas, lines):
        axis.grid(visible=True, color=GRID, linewidth=0.6)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _header(lineage: Lineage) -> str:
    num_groups = sum(len(step.shares) for step in lineage.steps)
    span = f"versions {lineage.steps[0].version}–{lineage.version}" if lineage.steps else "no step"
    return (
        f"version {lineage.version} of run {lineage.run_id}, 0x{lineage.policy_digest.hex()[:16]}…: "
        f"{span}, {num_groups:,} groups, signed by {lineage.trainer}"
    )


def _workers(lineage: Lineage, found: Sequence[Influence], excluded: Collection[str]) -> Table:
    table = Table(title=f"who shaped version {lineage.version}")
    table.add_column("worker", no_wrap=True)
    for column in ("groups", "versions", "of tokens", "of |advantage|", "most in one step"):
        table.add_column(column, justify="right")
    for one in found:
        table.add_row(
            one.worker + _mark(one.worker, excluded),
            f"{one.num_groups:,}",
            f"{len(one.versions):,}",
            f"{one.tokens:.2%}",
            f"{one.weight:.2%}",
            f"{one.largest:.2%} at {one.largest_at}" if one.largest_at else "–",
        )
    return table


def _groups(steps: Sequence[Step]) -> Table:
    table = Table(title="groups")
    for column in ("version", "worker", "work", "staleness"):
        table.add_column(column, no_wrap=True)
    for column in ("mean reward", "tokens", "of tokens", "of |advantage|"):
        table.add_column(column, justify="right")
    for step in steps:
        for share in sorted(step.shares, key=lambda share: -share.weight):
            group = share.group
            table.add_row(
                str(step.version),
                _short(group.worker),
                "0x" + group.work_digest.hex()[:16] + "…",
                str(step.version - 1 - group.policy_version),
                f"{_mean_reward(share):.3f}",
                str(sum(group.tokens)) if sum(group.tokens) else "left out",
                f"{share.tokens:.2%}",
                f"{share.weight:.2%}",
            )
    return table


def _share_json(share: Share) -> dict[str, Any]:
    body = share.group.model_dump(mode="json")
    return body | {"token_share": share.tokens, "advantage_share": share.weight}


def _influence_json(one: Influence, excluded: Collection[str]) -> dict[str, Any]:
    return {
        "worker": one.worker,
        "is_excluded": one.worker in excluded,
        "num_groups": one.num_groups,
        "versions": list(one.versions),
        "token_share": one.tokens,
        "advantage_share": one.weight,
        "largest_advantage_share": one.largest,
        "largest_at": one.largest_at,
    }


def _running_mean(values: Sequence[float]) -> list[float]:
    total, found = 0.0, []
    for i, value in enumerate(values):
        total += value
        found.append(total / (i + 1))
    return found


def _mean_reward(share: Share) -> float:
    rewards = share.group.rewards
    return sum(rewards) / max(1, len(rewards)) / FULL_SCORE


def _short(address: str) -> str:
    return f"{address[:8]}…{address[-4:]}"


def _mark(worker: str, excluded: Collection[str]) -> str:
    return " [red]excluded[/]" if worker in excluded else ""
