"""A demo's report: `summary.json` and all in `report.json` for programs, `report.png` to look at, a table to read."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from local.files import write_whole
from rollcall.demo.claims import Claim
from rollcall.demo.picture import draw
from rollcall.demo.results import ESCROW, Results, WorkerResult, full_bytes, patch_bytes
from rollcall.frame.console import table

NAMES = ("summary.json", "report.json", "report.png")


def write_report(folder: Path, results: Results, claims: Sequence[Claim], console: Console) -> None:
    """Write the files into `folder` and print the tables."""
    body = summary(results, claims)
    whole = body | {
        "steps": results.steps,
        "policies": [
            {"version": m.version, "patch_bytes": patch_bytes(m), "anchor_bytes": m.size()}
            for m in results.manifests
        ],
        "groups": [asdict(group) for group in results.sold],
    }
    summarised, reported, drawn = (folder / name for name in NAMES)
    write_whole(summarised, json.dumps(body, indent=1) + "\n")
    write_whole(reported, json.dumps(whole, indent=1) + "\n")
    draw(results, claims, drawn)
    console.print(_workers_table(results))
    console.print(_measures_table(body["measured"]))
    rows = (
        ("[green]✓[/]" if claim.holds else "[red]✗[/]", claim.name, claim.found) for claim in claims
    )
    console.print(table("claims", ("", "claim", "found"), rows))
    console.print(f"report: {', '.join(str(folder / name) for name in NAMES)}")


def summary(results: Results, claims: Sequence[Claim]) -> dict[str, Any]:
    """Return what a reader wants first, as JSON values: claims, money, figures, workers."""
    clock = results.clock
    return {
        "claims": [asdict(claim) for claim in claims],
        "all_hold": all(claim.holds for claim in claims),
        "money": {
            "escrowed": ESCROW,
            "paid": sum(worker.claimed for worker in results.workers),
            "left": results.left,
            "slashed": sum(worker.lost for worker in results.workers),
        },
        "measured": measured(results),
        "seconds": {
            "starting": clock.market_open - clock.started,
            "market": clock.trained - clock.market_open,
            "settling": clock.settled - clock.trained,
        },
        "workers": [
            asdict(worker) | {"standing": worker.standing.model_dump(mode="json")}
            for worker in results.workers
        ],
    }


def measured(results: Results) -> dict[str, Any]:
    """Return the figures that a reader compares: bytes, rates and shares of time."""
    patches = [size for manifest in results.manifests if (size := patch_bytes(manifest))]
    patch, full = sum(patches) / max(1, len(patches)), full_bytes(results)
    waited = sum(float(step.get("wait_seconds", 0.0)) for step in results.steps)
    worked = sum(float(step.get("step_seconds", 0.0)) for step in results.steps)
    return {
        "accuracy_before": results.accuracy[0],
        "accuracy_after": results.accuracy[results.num_steps],
        "groups_submitted": len(results.sold),
        "groups_trained": sum(group.trained_in >= 0 for group in results.sold),
        "groups_replayed": sum(group.is_replayed for group in results.sold),
        "patch_bytes_mean": round(patch),
        "full_copy_bytes": full,
        "patch_share_of_full_copy": patch / full,
        "trainer_share_waited": waited / worked if worked else 0.0,
        "tokens_per_second": {w.name: w.tokens_per_second for w in results.workers},
        "share_waited": {w.name: w.share_waited for w in results.workers},
    }


def _workers_table(results: Results) -> Table:
    columns = ("worker", "engine", "accepted", "rejected", "tokens/s", "waited", "paid", "stake")
    return table("workers", columns, map(_worker_row, results.workers), right=columns[2:])


def _worker_row(worker: WorkerResult) -> tuple[str, ...]:
    colour = "red" if worker.is_cheat else "default"
    return (
        f"[{colour}]{worker.name}[/]",
        worker.engine + (f" ({worker.does})" if worker.is_cheat else ""),
        f"{worker.standing.accepted_groups:,}",
        f"{sum(worker.standing.rejected_by_reason.values()):,}",
        f"{worker.tokens_per_second:,.0f}",
        f"{worker.share_waited:.0%}",
        f"{worker.claimed / 10**18:.6f}",
        f"{worker.stake / 10**18:g}",
    )


def _measures_table(figures: dict[str, Any]) -> Table:
    share = figures["patch_share_of_full_copy"]
    rows = (
        ("groups submitted", f"{figures['groups_submitted']:,}"),
        ("groups trained on", f"{figures['groups_trained']:,}"),
        ("groups replayed", f"{figures['groups_replayed']:,}"),
        ("bytes of a patch, mean", f"{figures['patch_bytes_mean']:,} ({share:.1%} of a full copy)"),
        ("bytes of a full copy", f"{figures['full_copy_bytes']:,}"),
        ("share of time the trainer waited", f"{figures['trainer_share_waited']:.0%}"),
    )
    return table("measured", ("what", "found"), rows, right=("found",))
