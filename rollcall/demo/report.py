"""A demo's report: `report.json` for programs, `report.png` to look at, a table to read."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from rollcall.demo.claims import Claim
from rollcall.demo.results import Evidence, GroupEvidence, WorkerEvidence

INK, GRID = "#26323f", "#d9dee4"
COLOURS = ("#2f6fb0", "#3a9b6c", "#c8553d", "#8a63b8", "#b98a2f")
"""Workers, in their order; the demo's cheat is the third and so the red one."""


def write_report(
    folder: Path, evidence: Evidence, claims: Sequence[Claim], console: Console
) -> None:
    """Write both files into `folder` and print the tables."""
    body = report_body(evidence, claims)
    (folder / "report.json").write_text(json.dumps(body, indent=1) + "\n")
    draw(evidence, folder / "report.png")
    console.print(_workers_table(evidence))
    console.print(_measures_table(body["measured"]))
    console.print(_claims_table(claims))
    console.print(f"report: {folder / 'report.json'}, {folder / 'report.png'}")


def report_body(evidence: Evidence, claims: Sequence[Claim]) -> dict[str, Any]:
    """Return the whole report as JSON values."""
    clock = evidence.clock
    return {
        "claims": [asdict(claim) for claim in claims],
        "all_hold": all(claim.holds for claim in claims),
        "measured": measured(evidence),
        "seconds": {
            "starting": clock.market_open - clock.started,
            "market": clock.trained - clock.market_open,
            "settling": clock.settled - clock.trained,
        },
        "workers": [asdict(worker) for worker in evidence.workers],
        "steps": evidence.steps,
        "policies": [asdict(policy) for policy in evidence.policies],
        "groups": [asdict(group) for group in evidence.groups],
    }


def measured(evidence: Evidence) -> dict[str, Any]:
    """Return the figures a reader compares: bytes, rates and shares of time."""
    patches = [policy for policy in evidence.policies if policy.patch_bytes]
    patch = sum(policy.patch_bytes for policy in patches) / max(1, len(patches))
    full = max(policy.anchor_bytes for policy in evidence.policies)
    waited = sum(float(step.get("wait_seconds", 0.0)) for step in evidence.steps)
    worked = sum(float(step.get("step_seconds", 0.0)) for step in evidence.steps)
    trained = sum(group.trained_in >= 0 for group in evidence.groups)
    return {
        "accuracy_before": evidence.accuracy_before,
        "accuracy_after": evidence.accuracy_after,
        "groups_submitted": len(evidence.groups),
        "groups_trained": trained,
        "groups_replayed": sum(group.is_audited for group in evidence.groups),
        "patch_bytes_mean": round(patch),
        "full_copy_bytes": full,
        "patch_share_of_full_copy": patch / full,
        "trainer_share_waited": waited / worked if worked else 0.0,
        "tokens_per_second": {w.name: w.tokens_per_second for w in evidence.workers},
        "share_waited": {w.name: w.share_waited for w in evidence.workers},
    }


def draw(evidence: Evidence, path: Path) -> None:
    """Draw accuracy, reward, staleness, tokens and earnings over the market's time."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams.update({"font.size": 9, "axes.edgecolor": GRID, "text.color": INK})
    figure, axes = pyplot.subplots(2, 3, figsize=(13, 7), constrained_layout=True)
    figure.suptitle("A market on one machine: strangers sample, a model learns", fontsize=13)
    start = evidence.clock.market_open
    _accuracy(axes[0][0], evidence, start)
    _reward(axes[0][1], evidence, start)
    _staleness(axes[0][2], evidence, start)
    _tokens(axes[1][0], evidence, start)
    _earnings(axes[1][1], evidence, start)
    _bytes(axes[1][2], evidence)
    for axis in axes.flat:
        axis.grid(visible=True, color=GRID, linewidth=0.6)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _accuracy(axis: Any, evidence: Evidence, start: float) -> None:
    points = [(s["at"] - start, s["accuracy"]) for s in evidence.steps if "accuracy" in s]
    axis.plot(*zip(*points, strict=True), color=COLOURS[0], marker="o", markersize=3)
    axis.axhline(0.85, color=COLOURS[1], linewidth=0.8, linestyle="--")
    axis.set(title="accuracy on held-out problems", xlabel="seconds", ylim=(0, 1))


def _reward(axis: Any, evidence: Evidence, start: float) -> None:
    points = [(s["at"] - start, s["reward"]) for s in evidence.steps if "reward" in s]
    axis.plot(*zip(*points, strict=True), color=COLOURS[0])
    axis.set(title="mean reward of the trained batch", xlabel="seconds", ylim=(0, 1))


def _staleness(axis: Any, evidence: Evidence, start: float) -> None:
    """Draw the mean per step between the freshest and the oldest group, with the bound."""
    ages: dict[int, list[int]] = defaultdict(list)
    for group in evidence.groups:
        if group.trained_in >= 0:
            ages[group.trained_in].append(group.trained_in - group.policy_version)
    # Version n + 1 is what step n made.
    steps = [s for s in evidence.steps if s["version"] - 1 in ages]
    times = [s["at"] - start for s in steps]
    found = [ages[s["version"] - 1] for s in steps]
    axis.fill_between(
        times, [min(a) for a in found], [max(a) for a in found], color=COLOURS[0], alpha=0.2
    )
    axis.plot(times, [sum(a) / len(a) for a in found], color=COLOURS[0])
    axis.axhline(evidence.max_staleness, color=COLOURS[2], linewidth=0.8, linestyle="--")
    axis.set(title="staleness of trained groups", xlabel="seconds", ylabel="versions")
    axis.set_ylim(0, evidence.max_staleness + 0.5)


def _tokens(axis: Any, evidence: Evidence, start: float) -> None:
    for worker, colour in zip(evidence.workers, COLOURS, strict=False):
        mine = [g for g in evidence.groups if g.worker == worker.address]
        if worker.is_cheat:
            _running(axis, mine, start, 1e-3, ":", color=colour, label=f"{worker.name}, rejected")
        else:
            accepted = [g for g in mine if g.state == "accepted"]
            _running(axis, accepted, start, 1e-3, "-", color=colour, label=worker.name)
    axis.set(title="tokens sold", xlabel="seconds", ylabel="thousands")
    axis.legend(frameon=False, fontsize=8)


def _earnings(axis: Any, evidence: Evidence, start: float) -> None:
    """Draw what accepted work earned as it came in, and when the chain slashed."""
    price = evidence.rate / 10**18
    for worker, colour in zip(evidence.workers, COLOURS, strict=False):
        accepted = [
            g for g in evidence.groups if g.worker == worker.address and g.state == "accepted"
        ]
        label = f"{worker.name}, claimed {worker.claimed / 10**18:.3f}"
        _running(axis, accepted, start, price, "-", color=colour, label=label)
    names = {worker.address: worker for worker in evidence.workers}
    for event in evidence.events:
        if event.kind == "slashed" and str(event.fields["worker"]) in names:
            worker = names[str(event.fields["worker"])]
            lost = (worker.stake_before - worker.stake_after) / 10**18
            label = f"{worker.name}, claimed 0, slashed {lost:g}"
            axis.axvline(event.at - start, color=COLOURS[2], linestyle="--", label=label)
    axis.set(title="earnings on chain", xlabel="seconds", ylabel="tokens of the ledger")
    axis.legend(loc="upper left", framealpha=0.9, edgecolor="none", fontsize=8)


def _running(
    axis: Any, groups: Sequence[GroupEvidence], start: float, scale: float, style: str, **line: str
) -> None:
    """Draw the running sum of the groups' tokens, times `scale`."""
    times, totals, total = [], [], 0
    for group in sorted(groups, key=lambda g: g.received_at):
        total += group.tokens
        times.append(group.received_at - start)
        totals.append(total * scale)
    if times:
        axis.plot(times, totals, style, **line)


def _bytes(axis: Any, evidence: Evidence) -> None:
    versions = [p.version for p in evidence.policies if p.patch_bytes]
    axis.plot(
        versions,
        [p.patch_bytes / 1024 for p in evidence.policies if p.patch_bytes],
        color=COLOURS[0],
        label="patch",
    )
    full = max(policy.anchor_bytes for policy in evidence.policies)
    axis.axhline(full / 1024, color=COLOURS[4], linestyle="--", label="full copy")
    axis.set(title="bytes per policy", xlabel="version", ylabel="KiB")
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False, fontsize=8)


def _workers_table(evidence: Evidence) -> Table:
    table = Table(title="workers")
    for column in (
        "worker",
        "engine",
        "accepted",
        "rejected",
        "tokens/s",
        "waited",
        "paid",
        "stake",
    ):
        table.add_column(column, justify="left" if column in ("worker", "engine") else "right")
    for worker in evidence.workers:
        table.add_row(*_worker_row(worker))
    return table


def _worker_row(worker: WorkerEvidence) -> tuple[str, ...]:
    rejected = sum(worker.rejected_by_reason.values())
    colour = "red" if worker.is_cheat else "default"
    return (
        f"[{colour}]{worker.name}[/]",
        worker.engine + (" (int4)" if worker.is_cheat else ""),
        f"{worker.accepted_groups:,}",
        f"{rejected:,}",
        f"{worker.tokens_per_second:,.0f}",
        f"{worker.share_waited:.0%}",
        f"{worker.claimed / 10**18:.6f}",
        f"{worker.stake_after / 10**18:g}",
    )


def _measures_table(figures: dict[str, Any]) -> Table:
    table = Table(title="measured", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    share = figures["patch_share_of_full_copy"]
    rows = (
        ("groups submitted", f"{figures['groups_submitted']:,}"),
        ("groups trained on", f"{figures['groups_trained']:,}"),
        ("groups replayed", f"{figures['groups_replayed']:,}"),
        ("bytes of a patch, mean", f"{figures['patch_bytes_mean']:,} ({share:.1%} of a full copy)"),
        ("bytes of a full copy", f"{figures['full_copy_bytes']:,}"),
        ("share of time the trainer waited", f"{figures['trainer_share_waited']:.0%}"),
    )
    for row in rows:
        table.add_row(*row)
    return table


def _claims_table(claims: Sequence[Claim]) -> Table:
    table = Table(title="claims")
    for column in ("", "claim", "found"):
        table.add_column(column)
    for claim in claims:
        mark = "[green]✓[/]" if claim.holds else "[red]✗[/]"
        table.add_row(mark, claim.name, claim.found)
    return table
