"""Show a lineage: as tables to read, as JSON for programs."""

import json
from collections.abc import Collection, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from audit.lineage import Influence, Lineage, Origin, influences
from protocol.environments.base import FULL_SCORE
from protocol.policies.lineage import Share


def show_back(
    console: Console, lineage: Lineage, excluded: Collection[str], *, all_groups: bool
) -> None:
    """Print who shaped the version, and the groups of its own step, or of every step."""
    console.print(_header(lineage))
    console.print(_workers(lineage, influences(lineage.steps), excluded))
    shown = lineage.steps if all_groups else lineage.steps[-1:]
    if shown:
        console.print(_groups(shown))


def as_json(lineage: Lineage, excluded: Collection[str]) -> str:
    """Return all data of the tables, and the versions that each worker touched."""
    body = {
        "run_id": lineage.run_id,
        "version": lineage.version,
        "policy_digest": "0x" + lineage.policy_digest.hex(),
        "trainer": lineage.trainer,
        "workers": [_influence_json(one, excluded) for one in influences(lineage.steps)],
        "steps": [
            {"version": step.version, "groups": [_share_json(share) for share in step.shares]}
            for step in lineage.steps
        ],
    }
    return json.dumps(body, indent=1)


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


def _groups(steps: Sequence[Origin]) -> Table:
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


def _mean_reward(share: Share) -> float:
    rewards = share.group.rewards
    return sum(rewards) / max(1, len(rewards)) / FULL_SCORE


def _short(address: str) -> str:
    return f"{address[:8]}…{address[-4:]}"


def _mark(worker: str, excluded: Collection[str]) -> str:
    return " [red]excluded[/]" if worker in excluded else ""
