"""Draw the ROC and the delay of the sequential test."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.attacks.figures import Area, Array
from benchmarks.attacks.rows import Peer, Row

COLOURS = {
    "as handed in": "#1f5fa8",
    "after a prefill": "#7fb3e6",
    "TOPLOC": "#c8641e",
    "GRAIL's sketch": "#8a8a8a",
}
WIDTHS = {"as handed in": 3.0, "after a prefill": 2.2, "TOPLOC": 1.5, "GRAIL's sketch": 1.0}
"""Curves that lie on one another stay visible."""
LEGEND = {"fontsize": 6.5, "frameon": True, "edgecolor": "none", "framealpha": 0.85}
COLUMNS = 4


def roc(rows: Sequence[Row], peers: Sequence[Peer], path: Path) -> None:
    """Draw one small ROC per attack: replay, and the commitments where they were compared."""
    beside = {peer.attack.name: peer for peer in peers}
    shown = [row for row in rows if not row.attack.name.startswith("honest")]
    figure, axes = _grid(len(shown), title=_title(rows, "ROC over blocks of 300 tokens"))
    for axis, row in zip(axes, shown, strict=False):
        areas = {"as handed in": row.handed_in.area, "after a prefill": row.prefilled.area}
        if peer := beside.get(row.attack.name):
            areas |= {"TOPLOC": peer.toploc, "GRAIL's sketch": peer.grail}
        for name, area in areas.items():
            false, true = curve(area)
            axis.plot(
                false, true, color=COLOURS[name], label=f"{name} {area.area:.2f}", lw=WIDTHS[name]
            )
        axis.set_title(row.attack.title, fontsize=9)
        axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axis.legend(loc="lower right", **LEGEND)
    figure.supxlabel("honest blocks flagged", fontsize=9)
    figure.supylabel("blocks of the cheat flagged", fontsize=9)
    _save(figure, path)


def delays(rows: Sequence[Row], path: Path) -> None:
    """Draw, per attack, the share of cheating workers condemned by so many tokens."""
    shown = [row for row in rows if not row.attack.name.startswith("honest")]
    figure, axes = _grid(len(shown), title=_title(rows, "tokens until the sequential test crosses"))
    for axis, row in zip(axes, shown, strict=False):
        for name, caught in (("as handed in", row.handed_in), ("after a prefill", row.prefilled)):
            tokens, share = steps(caught.ended)
            style = "-" if caught is row.handed_in else "--"
            axis.plot(
                tokens,
                share,
                color=COLOURS[name],
                label=name,
                lw=1.6,
                ls=style,
                drawstyle="steps-post",
            )
        axis.set_title(row.attack.title, fontsize=9)
        axis.set_xscale("log")
        axis.set(xlim=(100, 1e6), ylim=(-0.02, 1.02))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", fontsize=8)
    figure.supxlabel("tokens replayed", fontsize=9)
    figure.supylabel("share of such workers condemned", fontsize=9)
    _save(figure, path)


def curve(area: Area) -> tuple[Array, Array]:
    """Return false and true positive rates over all bounds, strictest first."""
    bounds = np.unique(np.concatenate([area.honest, area.cheat]))[::-1]
    false = [0.0, *((area.honest >= bound).mean() for bound in bounds)]
    true = [0.0, *((area.cheat >= bound).mean() for bound in bounds)]
    return np.array(false), np.array(true)


def steps(ended: Array) -> tuple[Array, Array]:
    """Return when the share of condemned sequences rises, and to what."""
    reached = np.sort(ended[np.isfinite(ended)])
    share = np.arange(1, len(reached) + 1) / len(ended)
    last = share[-1] if len(share) else 0.0
    return np.array([1.0, *reached, 1e9]), np.array([0.0, *share, last])


def _title(rows: Sequence[Row], what: str) -> str:
    return f"{what} (sampled by {rows[0].sampler}, replayed by {rows[0].replayer})"


def _grid(count: int, *, title: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    lines = -(-count // COLUMNS)
    figure = Figure(figsize=(3.0 * COLUMNS, 2.5 * lines + 0.5), layout="constrained")
    axes = np.atleast_1d(figure.subplots(lines, COLUMNS)).ravel()
    figure.suptitle(title, fontsize=11)
    for axis in axes:
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[count:]:
        axis.set_visible(False)
    return figure, axes


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
