"""`rollcall run list | show`: the public register of runs, from the chain alone.

Events name every run and what it said of itself; views tell its state. No orchestrator is asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rollcall.cli.desk import Desk
from rollcall.cli.options import AsJson, RunId, at_ledger
from rollcall.cli.times import duration, moment
from rollcall.frame.console import facts, open_console, show, table

if TYPE_CHECKING:
    from ledger.register import RunListing
    from ledger.state import RunState

SHOWN_TEXT = 60


def add_to(commands: typer.Typer) -> None:
    """Add `list` and `show` to the commands of `rollcall run`."""
    at_ledger(commands, "list", "rollcall run list --rpc http://127.0.0.1:8545", sends=False)(
        list_runs
    )
    at_ledger(commands, "show", "rollcall run show 1", sends=False)(show_run)


def list_runs(desk: Desk, *, as_json: AsJson = False) -> None:
    """Show every run of the ledger: status, permit, meter, cap, licence, use, parent run."""
    show_all(desk, open_console(), as_json=as_json)


def show_run(desk: Desk, run_id: RunId, *, as_json: AsJson = False) -> None:
    """Show one run: its terms, its people, its money, its epochs."""
    show_one(desk, run_id, open_console(), as_json=as_json)


def status(item: RunListing, now: int) -> str:
    """Return a run's status; an active run with a lapsed permit owes for no more work."""
    from ledger.state import LedgerStatus

    is_lapsed = item.status is LedgerStatus.ACTIVE and not item.is_live(now)
    return "lapsed" if is_lapsed else item.status.name.lower()


def show_all(desk: Desk, console: Console, *, as_json: bool) -> None:
    """Print the register."""
    found, now = desk.ledger.runs(), desk.now()
    show(
        console,
        _table(desk, found, now)
        if found
        else "no run is on this ledger yet: `rollcall run create` makes one",
        body=[_as_json(desk, item, now) for item in found] if as_json else None,
    )


def show_one(desk: Desk, run_id: int, console: Console, *, as_json: bool) -> None:
    """Print one run: terms, people, money, epochs."""
    run = desk.run(run_id)
    item = next(item for item in desk.ledger.runs() if item.run_id == run_id)
    now = desk.now()
    told = ((name, escape(value)) for name, value in _facts(desk, item, run, now))
    shown = facts(f"run {run_id}", told)
    show(console, shown, body=_as_json(desk, item, now) if as_json else None)


def _table(desk: Desk, found: list[RunListing], now: int) -> Table:
    columns = [
        "run",
        "status",
        "permit",
        "tokens",
        "gflops",
        "budget left",
        "licence",
        "use",
        "from",
    ]
    return table("runs on chain", columns, (_row(desk, item, now) for item in found))


def _row(desk: Desk, item: RunListing, now: int) -> tuple[str, ...]:
    state = status(item, now)
    return (
        str(item.run_id),
        state,
        duration(item.permit_until - now) if state == "active" else "–",
        f"{item.tokens:,}",
        _metered(item),
        desk.token_at(item.token).show(desk.ledger.run(item.run_id).available),
        escape(printable(item.licence)),
        escape(printable(item.intended_use)),
        f"run {item.parent_run}" if item.parent_run else f"0x{item.base_model.hex()[:8]}…",
    )


def _metered(run: RunListing) -> str:
    return f"{run.gflops:,} of {run.compute_cap:,}" if run.compute_cap else f"{run.gflops:,}"


def _facts(desk: Desk, item: RunListing, run: RunState, now: int) -> list[tuple[str, str]]:
    from ledger.calls import NO_ADDRESS
    from ledger.state import LedgerStatus

    token = desk.token_at(run.token)
    halted = run.status is LedgerStatus.HALTED
    return [
        ("status", status(item, now)),
        (
            "permit",
            f"until {moment(run.permit_until, now)}; one lasts {duration(run.permit_period)}",
        ),
        ("halted", moment(run.halted_at, now) if halted else ""),
        ("by", "its stewards" if halted and run.halted_by_stewards else ""),
        ("resumable", f"from {moment(run.halted_at + run.resume_delay, now)}" if halted else ""),
        ("settling", f"until {moment(run.settle_until, now)}" if run.settle_until else ""),
        ("operator", run.operator),
        ("orchestrator", printable(item.spec_uri)),
        ("licence", printable(item.licence)),
        ("use", printable(item.intended_use)),
        ("goes on from", f"run {item.parent_run}" if item.parent_run else "no other run"),
        ("base model", f"0x{run.base_model.hex()} ({run.num_parameters:,} parameters)"),
        ("spec hash", f"0x{run.spec_hash.hex()}"),
        ("pays", f"{token.show(run.rate)} per token sampled"),
        ("budget", f"{token.show(run.budget)}, of which {token.show(run.available)} are free"),
        ("final", f"{token.show(run.finalised)}, of which {token.show(run.claimed)} are claimed"),
        ("stake", f"{token.show(run.min_stake)} at least, and the most that one report can take"),
        ("challenge", duration(run.challenge_window)),
        ("epochs", f"{run.num_opened} opened, {run.num_posted} posted, {run.num_final} final"),
        ("voided", f"{run.generation} times" if run.generation else ""),
        ("compute", f"{run.tokens:,} tokens, {_metered(item)} gflops (an estimate), all final"),
        ("gate", run.gate if run.gate != NO_ADDRESS else "none: anyone with a stake may join"),
        *_members(run),
    ]


def _members(run: RunState) -> list[tuple[str, str]]:
    verifiers = [
        f"{index} {address}{' (replaced)' if run.replaced >> index & 1 else ''}"
        for index, address in enumerate(run.roster)
    ]
    vote = f"{run.steward_threshold} of {len(run.stewards)} stop the run"
    return [
        (
            "verifiers",
            "\n".join([f"{run.threshold} of {len(run.verifiers)} must agree", *verifiers]),
        ),
        ("stewards", "\n".join([vote, *run.stewards]) if run.stewards else "none"),
    ]


def _as_json(desk: Desk, item: RunListing, now: int) -> dict[str, Any]:
    run, token = desk.ledger.run(item.run_id), desk.token_at(item.token)
    return {
        "run": item.run_id,
        "status": status(item, now),
        "operator": item.operator,
        "permit_until": item.permit_until,
        "tokens": item.tokens,
        "gflops": item.gflops,
        "compute_cap_gflops": item.compute_cap,
        "licence": item.licence,
        "intended_use": item.intended_use,
        "parent_run": item.parent_run,
        "base_model": "0x" + item.base_model.hex(),
        "spec_hash": "0x" + item.spec_hash.hex(),
        "spec_uri": item.spec_uri,
        "token": {"address": token.address, "symbol": token.symbol, "decimals": token.decimals},
        "rate": str(run.rate),
        "budget": str(run.budget),
        "committed": str(run.committed),
        "finalised": str(run.finalised),
        "claimed": str(run.claimed),
        "num_opened": run.num_opened,
        "num_posted": run.num_posted,
        "num_final": run.num_final,
        "verifiers": list(run.verifiers),
        "threshold": run.threshold,
        "stewards": list(run.stewards),
        "steward_threshold": run.steward_threshold,
    }


def printable(text: str) -> str:
    """Return an operator's text fit for a terminal: anyone may write anything on chain."""
    fit = "".join(letter if letter.isprintable() else " " for letter in text)
    return fit if len(fit) <= SHOWN_TEXT else fit[: SHOWN_TEXT - 1] + "…"
