"""Draw a demo's market at a glance: who sold what and was paid, what became of the cheat, and what was learned."""

import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from textwrap import shorten
from typing import Any

from rollcall.demo.claims import MIN_END_ACCURACY, Claim
from rollcall.demo.results import ESCROW, Results, Sold, WorkerResult, full_bytes, patch_bytes

INK, DIM, GRID = "#26323f", "#66727f", "#e3e7ec"
GOOD, BAD = "#3a9b6c", "#c8553d"
COLOURS = ("#2f6fb0", "#3a9b6c", "#8a63b8", "#b98a2f")
"""The honest workers' colours, in their order."""
SYMBOL = "RTEST"


def draw(results: Results, claims: Sequence[Claim], path: Path) -> None:
    """Write the picture."""
    picture(results, claims).savefig(path, dpi=110)


def picture(results: Results, claims: Sequence[Claim]) -> Any:
    """Return the figure: sales and accuracy, the way of work and weights, the money, the claims."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style = {"font.size": 9, "axes.titlesize": 10, "axes.titlelocation": "left"}
    inks = {"text.color": INK, "axes.titlecolor": INK, "axes.edgecolor": GRID}
    dims = {"axes.labelcolor": DIM, "xtick.color": DIM, "ytick.color": DIM}
    with rc_context({**style, **inks, **dims}):
        figure = Figure(figsize=(13, 10), layout="constrained")
        grid = figure.add_gridspec(3, 6, height_ratios=(3.4, 2.5, 2.3))
        figure.suptitle(_headline(results), fontsize=13, x=0.01, ha="left")
        _sales(figure.add_subplot(grid[0, :4]), results)
        _accuracy(figure.add_subplot(grid[0, 4:]), results)
        _staleness(figure.add_subplot(grid[1, :2]), results)
        _bytes(figure.add_subplot(grid[1, 2:4]), results)
        _money(figure.add_subplot(grid[1, 4:]), results)
        _ticked(figure.add_subplot(grid[2, :]), claims)
    return figure


def interval(share: float, number: int) -> float:
    """Return half the width of a share's 95 % interval."""
    return 1.96 * math.sqrt(share * (1 - share) / number)


def _headline(results: Results) -> str:
    before, after = results.accuracy[0], results.accuracy[results.num_steps]
    num, replayed = len(results.sold), sum(group.is_replayed for group in results.sold)
    share = f"{replayed / num:.0%} of them replayed" if num else "no group was replayed"
    return (
        f"Strangers handed in {num:,} groups, {share}; the model went from "
        f"{before:.1%} to {after:.1%} of {results.spec.num_held_out} held-out problems"
    )


def _sales(axis: Any, results: Results) -> None:
    """Draw accepted tokens by worker, and of a cheat what it sent, when it was found, and what it got."""
    start = results.clock.market_open
    honest = [worker for worker in results.workers if not worker.is_cheat]
    for worker, colour in zip(honest, COLOURS, strict=False):
        mine = [g for g in _of(worker, results) if g.state == "accepted"]
        times, totals = _running(mine, start)
        axis.plot(times, totals, color=colour, drawstyle="steps-post")
        said = (
            f"{worker.name}: {sum(g.tokens for g in mine):,} tokens, paid {_amount(worker.claimed)} {SYMBOL}\n"
            f"it sampled {1 - worker.share_waited:.0%} of its time; the flat parts wait for the trainer"
        )
        axis.plot([], [], color=colour, label=said)
    for worker in results.workers:
        if worker.is_cheat:
            _cheat(axis, worker, results)
    axis.set(title="what each worker sold", xlabel="seconds", ylabel="thousand tokens")
    axis.set_xlim(left=0)
    axis.set_ylim(0, 1.35 * axis.get_ylim()[1])  # room for words
    axis.legend(loc="upper left", frameon=False, labelcolor="linecolor")
    _plain(axis)


def _cheat(axis: Any, worker: WorkerResult, results: Results) -> None:
    """Draw a cheat's work until it was found, which was worth nothing from then on."""
    start, sent = results.clock.market_open, _of(worker, results)
    times, totals = _running(sent, start)
    axis.fill_between(times, totals, step="post", color=BAD, alpha=0.25)
    axis.plot(times, totals, color=BAD, drawstyle="steps-post", linewidth=2)
    trained = sum(group.trained_in >= 0 for group in sent)
    said = (
        f"{worker.name}: {len(sent)} groups of {', '.join(worker.named) or 'unnamed'} weights, "
        f"{trained} trained on, paid {_amount(worker.claimed)}"
    )
    axis.plot([], [], color=BAD, linewidth=2, label=said)
    when = {
        "exclusion": ("✗ found by a replay", 0.62),
        "slashed": (f"slashed {worker.lost / 10**18:g} {SYMBOL}", 0.54),
    }
    for event in results.events:
        if event.kind in when and event.fields.get("worker") == worker.address:
            (what, height), at = when[event.kind], event.at - start
            axis.axvline(at, ymax=height, color=BAD, linestyle="--", linewidth=1)
            axis.annotate(
                f" {what}, {at:.0f} s",
                (at, height),
                xycoords=("data", "axes fraction"),
                color=BAD,
                va="top",
            )


def _accuracy(axis: Any, results: Results) -> None:
    start, num = results.clock.market_open, results.spec.num_held_out
    points = [(s["at"] - start, s["accuracy"]) for s in results.steps if "accuracy" in s]
    rewards = [(s["at"] - start, s["reward"]) for s in results.steps if "reward" in s]
    if rewards:
        axis.plot(*zip(*rewards, strict=True), color=DIM, linewidth=0.8, alpha=0.7)
        words = {"xycoords": "axes fraction", "color": DIM, "ha": "right"}
        axis.annotate("grey: mean reward of the trained batch", (0.98, 0.04), **words)
    if points:
        times, found = zip(*points, strict=True)
        errors = [interval(share, num) for share in found]
        axis.errorbar(times, found, yerr=errors, color=COLOURS[0], marker="o", markersize=3)
    axis.axhline(MIN_END_ACCURACY, color=GOOD, linewidth=0.8, linestyle="--")
    axis.annotate(f" asked for: {MIN_END_ACCURACY}", (0, MIN_END_ACCURACY), color=GOOD, va="bottom")
    before, after = results.accuracy[0], results.accuracy[results.num_steps]
    axis.set_title(
        f"accuracy {before:.3f} ± {interval(before, num):.3f} → {after:.3f} ± {interval(after, num):.3f}"
    )
    axis.set(
        xlabel=f"seconds; bars: 95 % intervals over {num} problems", ylim=(0, 1), xlim=(0, None)
    )
    _plain(axis)


def _staleness(axis: Any, results: Results) -> None:
    """Draw the mean per step between the freshest and the oldest group, with the bound."""
    ages: dict[int, list[int]] = defaultdict(list)
    for group in results.sold:
        if group.trained_in >= 0:
            ages[group.trained_in].append(group.trained_in - group.policy_version)
    steps, most = sorted(ages), results.spec.max_staleness
    lowest, highest = [min(ages[s]) for s in steps], [max(ages[s]) for s in steps]
    axis.fill_between(
        steps, lowest, highest, color=COLOURS[0], alpha=0.2, label="freshest to oldest"
    )
    means = [sum(ages[s]) / len(ages[s]) for s in steps]
    axis.plot(steps, means, color=COLOURS[0], label="mean")
    axis.axhline(most, color=DIM, linewidth=0.8, linestyle="--")
    limit = "the run's limit, up to which workers sample ahead"
    axis.annotate(
        limit, (1, most), xycoords=("axes fraction", "data"), color=DIM, ha="right", va="bottom"
    )
    axis.set(title="versions between sampling and training", xlabel="step", ylim=(0, most + 0.8))
    axis.legend(loc="lower right", frameon=False)
    _plain(axis)


def _bytes(axis: Any, results: Results) -> None:
    sizes = {m.version: size / 1024 for m in results.manifests if (size := patch_bytes(m))}
    whole = full_bytes(results) / 1024
    axis.axhline(whole, color=DIM, linewidth=0.8, linestyle="--")
    axis.annotate(" a full copy", (0, whole), color=DIM, va="bottom")
    if sizes:
        mean = sum(sizes.values()) / len(sizes)
        axis.plot(list(sizes), list(sizes.values()), color=COLOURS[0])
        axis.annotate(
            f" a patch: {mean / whole:.0%} of it", next(iter(sizes.items())), color=COLOURS[0]
        )
        axis.texts[-1].set_va("bottom")
    axis.set(
        title="KiB sent for each policy", xlabel="version", ylim=(0, 1.12 * whole), xlim=(0, None)
    )
    _plain(axis)


def _money(axis: Any, results: Results) -> None:
    """Write what came in, whom it went to, and what is left; and what a cheat lost."""
    paid = sum(worker.claimed for worker in results.workers)
    adds_up = paid + results.left == ESCROW
    check = ("✓ in = paid + left", GOOD) if adds_up else ("✗ in is not paid + left", BAD)
    rows: list[tuple[str, int | None, str]] = [("escrowed by the operator", ESCROW, INK)]
    for worker in results.workers:
        rows.append((f"paid to {worker.name}", worker.claimed, BAD if worker.is_cheat else INK))
    rows += [("left for the operator", results.left, INK), (check[0], None, check[1])]
    rows += [(f"stake taken from {w.name}", w.lost, BAD) for w in results.workers if w.is_cheat]
    axis.set(title=f"money, in {SYMBOL}", xlim=(0, 1), ylim=(len(rows), -0.4))
    axis.set_axis_off()
    for row, (what, amount, colour) in enumerate(rows):
        axis.text(0, row, what, color=colour, va="center")
        if amount is not None:
            axis.text(1, row, f"{amount / 10**18:,.6f}", color=colour, va="center", ha="right")


def _ticked(axis: Any, claims: Sequence[Claim]) -> None:
    """Write each claim with its finding, ticked where it holds."""
    holding = sum(claim.holds for claim in claims)
    title = f"{holding} of {len(claims)} claims hold"
    axis.set(title=title, xlim=(0, 1), ylim=(len(claims) - 0.5, -0.5))
    axis.set_axis_off()
    for row, claim in enumerate(claims):
        colour = GOOD if claim.holds else BAD
        axis.text(0, row, "✓" if claim.holds else "✗", color=colour, va="center")
        axis.text(0.016, row, claim.name.replace("`", ""), va="center")
        found = shorten(claim.found, 170 - len(claim.name), placeholder=" …")
        axis.text(1, row, found, color=DIM if claim.holds else BAD, va="center", ha="right")


def _of(worker: WorkerResult, results: Results) -> list[Sold]:
    return [group for group in results.sold if group.worker == worker.address]


def _running(groups: Sequence[Sold], start: float) -> tuple[list[float], list[float]]:
    """Return when the groups came, and the running sum of their tokens, in thousands."""
    ordered = sorted(groups, key=lambda g: g.received_at)
    totals = [total / 1000 for total in accumulate(group.tokens for group in ordered)]
    return [group.received_at - start for group in ordered], totals


def _amount(wei: int) -> str:
    return f"{wei / 10**18:.3f}" if wei else "0"


def _plain(axis: Any) -> None:
    axis.grid(visible=True, color=GRID, linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
