"""A demo's report: `report.json` for programs, `report.png` to look at, a table to read."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from local.files import write_whole
from protocol.policies.manifest import Manifest
from rollcall.demo.claims import Claim
from rollcall.demo.results import Results, Sold, WorkerResult
from rollcall.frame.console import table

INK, GRID = "#26323f", "#d9dee4"
COLOURS = ("#2f6fb0", "#3a9b6c", "#c8553d", "#8a63b8", "#b98a2f")
"""The workers' colours, in their order; the demo's cheat is third and so red."""


def write_report(folder: Path, results: Results, claims: Sequence[Claim], console: Console) -> None:
    """Write both files into `folder` and print the tables."""
    body = report_body(results, claims)
    write_whole(folder / "report.json", json.dumps(body, indent=1) + "\n")
    draw(results, folder / "report.png")
    console.print(_workers_table(results))
    console.print(_measures_table(body["measured"]))
    rows = (
        ("[green]✓[/]" if claim.holds else "[red]✗[/]", claim.name, claim.found) for claim in claims
    )
    console.print(table("claims", ("", "claim", "found"), rows))
    console.print(f"report: {folder / 'report.json'}, {folder / 'report.png'}")


def report_body(results: Results, claims: Sequence[Claim]) -> dict[str, Any]:
    """Return the whole report as JSON values."""
    clock = results.clock
    return {
        "claims": [asdict(claim) for claim in claims],
        "all_hold": all(claim.holds for claim in claims),
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
        "steps": results.steps,
        "policies": [
            {"version": m.version, "patch_bytes": patch_bytes(m), "anchor_bytes": m.size()}
            for m in results.manifests
        ],
        "groups": [asdict(group) for group in results.sold],
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


def patch_bytes(manifest: Manifest) -> int:
    """Return the bytes of the patch from the version before; 0 if there is none."""
    patches = (p for p in manifest.patches if p.base_version == manifest.version - 1)
    return sum(blob.size for patch in patches for blob in patch.chunks)


def full_bytes(results: Results) -> int:
    return max(manifest.size() for manifest in results.manifests)


def draw(results: Results, path: Path) -> None:
    """Draw accuracy, reward, staleness, tokens and earnings over the market's time."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams.update({"font.size": 9, "axes.edgecolor": GRID, "text.color": INK})
    figure, axes = pyplot.subplots(2, 3, figsize=(13, 7), constrained_layout=True)
    figure.suptitle("A market on one machine: strangers sample, a model learns", fontsize=13)
    start = results.clock.market_open
    _accuracy(axes[0][0], results, start)
    _reward(axes[0][1], results, start)
    _staleness(axes[0][2], results, start)
    _tokens(axes[1][0], results, start)
    _earnings(axes[1][1], results, start)
    _bytes(axes[1][2], results)
    for axis in axes.flat:
        axis.grid(visible=True, color=GRID, linewidth=0.6)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _accuracy(axis: Any, results: Results, start: float) -> None:
    points = [(s["at"] - start, s["accuracy"]) for s in results.steps if "accuracy" in s]
    axis.plot(*zip(*points, strict=True), color=COLOURS[0], marker="o", markersize=3)
    axis.axhline(0.85, color=COLOURS[1], linewidth=0.8, linestyle="--")
    axis.set(title="accuracy on held-out problems", xlabel="seconds", ylim=(0, 1))


def _reward(axis: Any, results: Results, start: float) -> None:
    points = [(s["at"] - start, s["reward"]) for s in results.steps if "reward" in s]
    axis.plot(*zip(*points, strict=True), color=COLOURS[0])
    axis.set(title="mean reward of the trained batch", xlabel="seconds", ylim=(0, 1))


def _staleness(axis: Any, results: Results, start: float) -> None:
    """Draw the mean per step between the freshest and the oldest group, with the bound."""
    ages: dict[int, list[int]] = defaultdict(list)
    for group in results.sold:
        if group.trained_in >= 0:
            ages[group.trained_in].append(group.trained_in - group.policy_version)
    # Version n + 1 is what step n made.
    steps = [s for s in results.steps if s["version"] - 1 in ages]
    times = [s["at"] - start for s in steps]
    found = [ages[s["version"] - 1] for s in steps]
    axis.fill_between(
        times, [min(a) for a in found], [max(a) for a in found], color=COLOURS[0], alpha=0.2
    )
    axis.plot(times, [sum(a) / len(a) for a in found], color=COLOURS[0])
    axis.axhline(results.spec.max_staleness, color=COLOURS[2], linewidth=0.8, linestyle="--")
    axis.set(title="staleness of trained groups", xlabel="seconds", ylabel="versions")
    axis.set_ylim(0, results.spec.max_staleness + 0.5)


def _tokens(axis: Any, results: Results, start: float) -> None:
    for worker, colour in zip(results.workers, COLOURS, strict=False):
        mine = [g for g in results.sold if g.worker == worker.address]
        if worker.is_cheat:
            _running(axis, mine, start, 1e-3, ":", color=colour, label=f"{worker.name}, rejected")
        else:
            accepted = [g for g in mine if g.state == "accepted"]
            _running(axis, accepted, start, 1e-3, "-", color=colour, label=worker.name)
    axis.set(title="tokens sold", xlabel="seconds", ylabel="thousands")
    axis.legend(frameon=False, fontsize=8)


def _earnings(axis: Any, results: Results, start: float) -> None:
    """Draw the earnings of accepted work as it came in, and the times of slashes."""
    price = results.spec.rate / 10**18
    for worker, colour in zip(results.workers, COLOURS, strict=False):
        accepted = [g for g in results.sold if g.worker == worker.address and g.state == "accepted"]
        label = f"{worker.name}, claimed {worker.claimed / 10**18:.3f}"
        _running(axis, accepted, start, price, "-", color=colour, label=label)
    names = {worker.address: worker for worker in results.workers}
    for event in results.events:
        if event.kind == "slashed" and str(event.fields["worker"]) in names:
            worker = names[str(event.fields["worker"])]
            label = f"{worker.name}, claimed 0, slashed {worker.lost / 10**18:g}"
            axis.axvline(event.at - start, color=COLOURS[2], linestyle="--", label=label)
    axis.set(title="earnings on chain", xlabel="seconds", ylabel="tokens of the ledger")
    axis.legend(loc="upper left", framealpha=0.9, edgecolor="none", fontsize=8)


def _running(
    axis: Any, groups: Sequence[Sold], start: float, scale: float, style: str, **line: str
) -> None:
    """Draw the running sum of the groups' tokens, times `scale`."""
    times, totals, total = [], [], 0
    for group in sorted(groups, key=lambda g: g.received_at):
        total += group.tokens
        times.append(group.received_at - start)
        totals.append(total * scale)
    if times:
        axis.plot(times, totals, style, **line)


def _bytes(axis: Any, results: Results) -> None:
    sizes = {m.version: size / 1024 for m in results.manifests if (size := patch_bytes(m))}
    axis.plot(list(sizes), list(sizes.values()), color=COLOURS[0], label="patch")
    axis.axhline(full_bytes(results) / 1024, color=COLOURS[4], linestyle="--", label="full copy")
    axis.set(title="bytes per policy", xlabel="version", ylabel="KiB")
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False, fontsize=8)


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
