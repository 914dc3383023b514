"""Show a demo while it runs: a live table on a terminal, plain lines elsewhere.

Shows only what the event stream and the trainer's metrics say; decides nothing.
"""

import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from rollcall.demo.events import Totals
from rollcall.demo.market import Market, WorkerParty

PLAIN_SECONDS = 10.0
"""Between two lines if there is no terminal."""
BARS = " ▁▂▃▄▅▆▇█"


class View:
    """A context manager that draws. `say` names the current phase; `show` redraws the numbers."""

    def __init__(self, console: Console, market: Market, *, plain: bool) -> None:
        self._console = console
        self._market = market
        self._plain = plain or not console.is_terminal
        self._phase = ""
        self._started = time.monotonic()
        self._said_at = 0.0
        self._progress = Progress(
            TextColumn("[bold]training"),
            BarColumn(bar_width=None),
            TextColumn("policy {task.completed:.0f} of {task.total:.0f}{task.fields[left]}"),
            TimeElapsedColumn(),
        )
        self._task: TaskID = self._progress.add_task("training", total=market.steps, left="")
        self._live = Live(console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> "View":
        if not self._plain:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if not self._plain:
            self._live.stop()
        if kind is KeyboardInterrupt:
            self._console.print(
                "stopping: every process of the market is asked to end, and waited for"
            )

    def say(self, phase: str) -> None:
        """Name the current phase."""
        self._phase = phase
        elapsed = time.monotonic() - self._started
        if self._plain:
            self._console.print(f"{elapsed:6.1f} s  {phase}")
        else:
            self._live.console.print(f"[dim]{elapsed:6.1f} s[/]  {phase}")
            self._live.update(Text(f"… {phase}"))

    def show(self, totals: Totals) -> None:
        """Redraw the table and the bar, or print a line now and then."""
        steps = self._market.trainer_metrics()
        version = int(steps[-1]["version"]) if steps else 0
        if not self._plain:
            self._progress.update(self._task, completed=version, left=self._left(steps))
            self._live.update(self._dashboard(totals, steps))
            return
        if time.monotonic() - self._said_at >= PLAIN_SECONDS:
            self._said_at = time.monotonic()
            elapsed = self._said_at - self._started
            self._console.print(f"{elapsed:6.1f} s  {self._line(totals, steps, version)}")

    def _line(self, totals: Totals, steps: list[dict[str, Any]], version: int) -> str:
        bought = ", ".join(
            f"{w.party.name} {totals.bought(w.party.address)} of {totals.groups[w.party.address]}"
            for w in self._market.workers
        )
        return (
            f"policy {version}/{self._market.steps}{self._left(steps)}, accuracy {self._accuracy(steps)}, "
            f"groups bought: {bought}, {totals.num_verdicts} replays, {len(totals.excluded)} excluded"
        )

    def _left(self, steps: Sequence[dict[str, Any]]) -> str:
        """Return how long the missing steps take at the pace so far, once there is one."""
        made = len(steps) - 2  # without version 0, and without the step that waited for engines
        missing = self._market.steps - made - 1
        if made < 1 or missing < 1:
            return ""
        return f", about {missing * (steps[-1]['at'] - steps[1]['at']) / made:.0f} s left"

    def _dashboard(self, totals: Totals, steps: list[dict[str, Any]]) -> Group:
        return Group(
            Panel(self._workers(totals), title="workers", border_style="dim"),
            Panel(self._learning(steps), title="model", border_style="dim"),
            self._progress,
            Text(
                f"{totals.num_verdicts} replays · {totals.num_epochs_final} of "
                f"{totals.num_epochs_posted} posted epochs final · {self._named(totals.last) or self._phase}",
                style="dim",
            ),
        )

    def _named(self, text: str) -> str:
        """Put the demo's names in place of addresses."""
        for worker in self._market.workers:
            text = text.replace(worker.party.address, worker.party.name)
        return text

    def _workers(self, totals: Totals) -> Table:
        table = Table(box=None, expand=True)
        for column in ("worker", "engine", "handed in", "bought", "earned", "now"):
            table.add_column(column, justify="left" if column in ("worker", "engine") else "right")
        for worker in self._market.workers:
            address = worker.party.address
            engine = worker.engine + (f", int{worker.quantise_bits}" if worker.is_cheat else "")
            table.add_row(
                worker.party.name,
                engine,
                f"{totals.groups[address]:,} groups",
                f"{totals.bought(address):,}",
                f"{self._market.plan.rate * totals.owed_tokens(address):.4f}",
                self._doing(totals, worker),
            )
        return table

    def _doing(self, totals: Totals, worker: WorkerParty) -> str:
        """Return what a worker does, what it waits for, or what became of it."""
        address = worker.party.address
        told = (
            ("[red]slashed[/]", address in totals.slashed),
            ("[red]excluded[/]", address in totals.excluded),
            ("[yellow]paused[/]", address in totals.paused),
            ("[dim]starting[/]", not totals.leased[address]),
            ("[green]sampling[/]", totals.leased[address] > totals.groups[address]),
        )
        waits = f"[dim]waits for {self._market.waits_for(worker) or 'work'}[/]"
        return next((word for word, holds in told if holds), waits)

    def _learning(self, steps: list[dict[str, Any]]) -> Table:
        table = Table(box=None, show_header=False)
        table.add_column(width=22)
        table.add_column()
        bars = _spark(_series(steps, "accuracy"), width=20)
        table.add_row("accuracy (held out)", f"{self._accuracy(steps)} {bars}")
        table.add_row(
            "reward (batch)", f"{_last(steps, 'reward')} {_spark(_series(steps, 'reward'))}"
        )
        return table

    def _accuracy(self, steps: list[dict[str, Any]]) -> str:
        """Return the newest finding and the version being measured; training runs ahead of both."""
        measured = [step for step in steps if "accuracy" in step]
        newest = (
            f"{measured[-1]['accuracy']:.3f} of policy {measured[-1]['version']}"
            if measured
            else "…"
        )
        under_way = self._market.evaluations().measuring()
        return f"{newest}, measuring policy {under_way[0]}" if under_way else newest


def _series(steps: list[dict[str, Any]], key: str) -> list[float]:
    return [float(step[key]) for step in steps if key in step]


def _last(steps: list[dict[str, Any]], key: str) -> str:
    values = _series(steps, key)
    return f"{values[-1]:.3f}" if values else "…"


def _spark(values: list[float], width: int = 50) -> str:
    """Draw values between 0 and 1 as a line of bars."""
    shown = values[-width:]
    return "".join(BARS[round(min(max(value, 0.0), 1.0) * (len(BARS) - 1))] for value in shown)
