"""Show an explanation: positions, the group's totals beside its bounds, and every verdict."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from protocol.checks.evidence import consequence
from protocol.verdict import Outcome, Statistic
from rollcall.explain.explain import Explanation, Judgement

MOST_POSITIONS = 20
"""Positions shown unless all are asked for: those that lost by most, then the widest gaps."""
MARKS = {True: "[green]✓[/]", False: "[red]✗[/]", None: "[yellow]·[/]"}


@dataclass(frozen=True, slots=True)
class Position:
    """One token of one rollout, as claimed and as recomputed, in nats."""

    rollout: int
    position: int
    claimed: int
    expected: int
    margin: float
    gap: float


def positions(explanation: Explanation) -> Iterator[Position]:
    """Yield every position in order."""
    for rollout, found in enumerate(explanation.findings):
        for position in range(len(found.claimed)):
            yield Position(
                rollout=rollout,
                position=position,
                claimed=int(found.claimed[position]),
                expected=int(found.expected[position]),
                margin=float(found.margins[position]),
                gap=float(found.gaps[position]),
            )


def chosen(explanation: Explanation, *, all_positions: bool) -> list[Position]:
    """Return the positions to show."""
    found = list(positions(explanation))
    if all_positions:
        return found
    worst = sorted(found, key=lambda p: (-p.margin, -p.gap))[:MOST_POSITIONS]
    return sorted(worst, key=lambda p: (p.rollout, p.position))


def show(explanation: Explanation, console: Console, *, all_positions: bool) -> None:
    """Print it all for a person."""
    lease = explanation.status.lease.lease
    console.print(
        f"group 0x{explanation.status.work_digest.hex()}\n"
        f"worker {lease.worker}, lease {lease.nonce}, task {lease.index}, policy version "
        f"{lease.policy_version}, {explanation.engine}; it stands as {_standing(explanation)}"
    )
    console.print(_positions(explanation, all_positions=all_positions))
    console.print(_bounds(explanation))
    word = f"{explanation.outcome.value} {explanation.rejection}".strip()
    console.print(f"this replay: [bold]{escape(word)}[/], {escape(explanation.detail)}")
    if explanation.outcome is Outcome.REJECTED:
        console.print(f"what was done: [bold]{escape(_what_was_done(explanation))}[/]")
    if not explanation.judgements:
        console.print("no verdict is public yet")
    for judgement in explanation.judgements:
        console.print(_line(judgement))


def to_json(explanation: Explanation, *, all_positions: bool) -> str:
    """Return it all for a program."""
    shown = chosen(explanation, all_positions=all_positions)
    found = {
        "work_digest": "0x" + explanation.status.work_digest.hex(),
        "run_id": explanation.info.run_id,
        "worker": explanation.status.lease.lease.worker,
        "engine": explanation.engine,
        "state": explanation.status.state.value,
        "outcome": explanation.outcome.value,
        "rejection": explanation.rejection,
        "detail": explanation.detail,
        "stats": explanation.stats.model_dump(mode="json"),
        "hypothesis": explanation.named.word if explanation.named else "",
        "what_was_done": _what_was_done(explanation),
        "positions": [
            {
                **{name: getattr(p, name) for name in Position.__slots__},
                "claimed_text": _text(explanation, p.claimed),
                "expected_text": _text(explanation, p.expected),
            }
            for p in shown
        ],
        "verdicts": [
            {
                "verifier": j.verdict.verifier,
                "outcome": j.verdict.outcome.value,
                "rejection": j.verdict.rejection,
                "rollouts": list(j.verdict.rollouts),
                "hypothesis": j.verdict.hypothesis,
                "consequence": consequence(j.verdict, explanation.info.spec.thresholds).value,
                "is_reproduced": j.is_reproduced,
                "remark": j.remark,
                "positions_named": len(j.verdict.mismatches),
                "positions_expected_alike": j.num_expected,
            }
            for j in explanation.judgements
        ],
        "holds": explanation.holds,
    }
    return json.dumps(found, indent=1)


def _what_was_done(explanation: Explanation) -> str:
    """Return in words what was done, or may have been; empty for honest work."""
    if explanation.outcome is not Outcome.REJECTED:
        return ""
    named = explanation.named
    if named is None:
        return "nothing tried explains it: another model, or a cheat without a name here"
    return f"{named.word}: {named.detail}" if named.word else named.detail


def _standing(explanation: Explanation) -> str:
    status = explanation.status
    return f"{status.state.value} {status.rejection}".strip()


def _positions(explanation: Explanation, *, all_positions: bool) -> Table:
    shown, num = (
        chosen(explanation, all_positions=all_positions),
        explanation.stats.num_tokens,
    )
    title = f"{num} positions" if all_positions else f"{len(shown)} of {num} positions, the worst"
    table = Table(title=title, title_justify="left", header_style="")
    for name in ("rollout", "position", "claimed", "expected", "margin", "gap"):
        table.add_column(name, justify="left" if name in {"claimed", "expected"} else "right")
    for p in shown:
        style = "red" if p.margin else None
        table.add_row(
            *(str(p.rollout), str(p.position)),
            escape(f"{p.claimed} {_text(explanation, p.claimed)!r}"),
            escape(f"{p.expected} {_text(explanation, p.expected)!r}") if p.margin else "the same",
            *(f"{p.margin:.6f}", f"{p.gap:.6f}"),
            style=style,
        )
    return table


def _bounds(explanation: Explanation) -> Table:
    """Return the group's totals beside the bounds of honest work, and each verdict's totals."""
    table = Table(title="the group", title_justify="left", header_style="")
    table.add_column("over its tokens")
    table.add_column("this replay", justify="right")
    table.add_column("honest work at most", justify="right")
    for judgement in explanation.judgements:
        table.add_column(judgement.verdict.verifier[:10] + "…", justify="right")
    for statistic in Statistic:
        bounds = explanation.info.spec.thresholds.bounds(statistic)
        total = bounds.reference * explanation.stats.num_tokens + bounds.group
        theirs = (j.verdict.stats.total(statistic) for j in explanation.judgements)
        values = (explanation.stats.total(statistic), total, *theirs)
        table.add_row(statistic.label, *(f"{value / statistic.unit:.6f}" for value in values))
    return table


def _line(judgement: Judgement) -> str:
    verdict = judgement.verdict
    word = f"{verdict.outcome.value} {verdict.rejection}".strip()
    named = ""
    if verdict.mismatches:
        named = f"; {judgement.num_expected} of its {len(verdict.mismatches)} positions as here"
    said = {True: "reproduced", False: "NOT REPRODUCED", None: "not to be judged by this"}
    return (
        f"{MARKS[judgement.is_reproduced]} {verdict.verifier} says {word}: "
        f"{said[judgement.is_reproduced]}, {escape(judgement.remark)}{named}"
    )


def _text(explanation: Explanation, token: int) -> str:
    """Return a token's text; special tokens by their name."""
    return str(explanation.tokenizer.decode([token], skip_special_tokens=False))
