"""Write the rows as Markdown, for people, and as JSON, for whoever compares two runs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from math import log1p
from typing import Any

from benchmarks.attacks.figures import Delay, upper_bound
from benchmarks.attacks.lab import HANDED_IN, PREFILLED
from benchmarks.attacks.peers import LARGEST_SKETCH, TOLERANCE_BASE
from benchmarks.attacks.rows import (
    AIMS,
    HORIZON,
    LEAST_NAMED,
    MOST_MISNAMED,
    MOST_MOVED,
    NUM_SEQUENCES,
    Caught,
    Naming,
    Peer,
    Row,
)
from protocol.checks.evidence import Consequence

HEAD = (
    "attack",
    "groups that differ",
    "rejected alone",
    "of those that differ",
    "groups until found",
    "of those that differ",
    "named right / wrong",
    "named / gross / unpaid",
    "AUC",
    "reward moved",
    "aims",
)
COMMITMENTS = ("TOPLOC", "GRAIL", "Reliquary")


def replay_table(rows: Sequence[Row], peers: Sequence[Peer]) -> str:
    """Return one pair of engines as a table, with others' rules beside it.

    Cells read *as handed in · after a prefill*; delays, median (95 %). Named: the shares of condemned groups
    that get the right name and a wrong one, the rest get none; then what follows from one verdict of each. Rewards: all groups · as if those rejected alone after a prefill had been honest · up to
    where such a worker is found. Commitments: share of groups rejected and area, of a cheat that does
    not prefill: one that does passes as honest. Reliquary: share of groups rejected, without its gate · with it.
    """
    beside = {peer.attack.name: peer for peer in peers}
    head = HEAD + COMMITMENTS if peers else HEAD
    lines = [_line(head), _line(["---"] + ["---:"] * (len(head) - 1))]
    for row in rows:
        commitments = _commitments(beside.get(row.attack.name)) if peers else ()
        lines.append(_line([*_cells(row), *commitments]))
    return "\n".join(lines)


def honest_note(rows: Sequence[Row]) -> str:
    """Say how often honest work was rejected, alone and in sequence, under the bounds of this pair."""
    honest = [row for row in rows if row.attack.name.startswith("honest")]
    groups = sum(row.num_groups for row in honest)
    rejects = round(sum(row.handed_in.rejected * row.num_groups for row in honest))
    crossed = sum(row.handed_in.crossed for row in honest) / len(honest)
    alarms = -log1p(-min(crossed, 0.999)) / HORIZON * 1e6
    return (
        f"Honest work: {rejects} of {groups:,} groups rejected alone (with 95 % confidence less than "
        f"{upper_bound(rejects, groups):.2%}); the sequential test alarms {alarms:.0f} times in a "
        f"million groups, by {NUM_SEQUENCES} sequences of {HORIZON:,} groups drawn from these."
    )


def aims_table(pairs: Mapping[tuple[str, str], Sequence[Row]]) -> str:
    """Return within how many groups 95 % of such workers are found out, by pair.

    As handed in · after a prefill, and in brackets where all of a worker's groups differ from honest work.
    """
    found = {(row.attack.name, pair): row for pair, rows in pairs.items() for row in rows}
    aimed = dict.fromkeys(row.attack for row in found.values() if row.attack.has_aims)
    lines = [_line(["attack", *(f"{s} → {r}" for s, r in pairs)])]
    lines.append(_line(["---"] + ["---:"] * len(pairs)))
    for attack in aimed:
        rows = [found.get((attack.name, pair)) for pair in pairs]
        cells = [
            " · ".join(_within(c) for c in (r.handed_in, r.prefilled)) if r else "" for r in rows
        ]
        lines.append(_line([attack.title, *cells]))
    return "\n".join(lines)


def aims_note(pairs: Mapping[tuple[str, str], Sequence[Row]]) -> str:
    """Say which aims are missed, pair by pair."""
    lines = []
    for (sampler, replayer), rows in pairs.items():
        missed = [line for row in rows if (line := _missed(row))]
        what = "; ".join(missed) if missed else "none"
        lines.append(f"Aims missed, {sampler} → {replayer}: {what}.")
    return "\n\n".join(lines)


def _missed(row: Row) -> str:
    """Return what one attack misses of its aims, with the figures."""
    found = []
    for claims, aim in AIMS.items():
        caught = row.caught[claims]
        if row.reached(claims) is False:
            found.append(f"{claims} {_within(caught)} groups of {aim}")
        right = row.named_right(claims)
        if right is not None and right < LEAST_NAMED:
            found.append(f"{claims} named right {_percent(right)}")
        wrong = row.named_wrong(claims)
        if wrong is not None and wrong > MOST_MISNAMED:
            found.append(f"{claims} named wrong {_percent(wrong)}")
    if row.attack.forks and abs(row.prefilled.moved) >= MOST_MOVED:
        found.append(f"reward moved {row.prefilled.moved:+.4f}")
    return f"{row.attack.title} ({', '.join(found)})" if found else ""


def _within(caught: Caught) -> str:
    def of(delay: Delay) -> str:
        return f"> {delay.horizon:,}" if delay.p95_groups is None else f"{delay.p95_groups:,}"

    return of(caught.either) + (f" ({of(caught.differing)})" if caught.differing else "")


def sketch_note(peers: Sequence[Peer]) -> str:
    """Say what a constant zero in place of GRAIL's sketch comes to on honest work."""
    honest = peers[0]
    return (
        f"A constant zero in place of GRAIL's sketch passes in {_percent(honest.zero_passes)} of "
        f"honest groups at every position: the largest sketch there is {honest.largest_sketch:,}, of "
        f"at most {LARGEST_SKETCH:,}, and a distance of {TOLERANCE_BASE:,} passes."
    )


def as_json(rows: Sequence[Row], peers: Sequence[Peer]) -> dict[str, Any]:
    """Return every figure, without the scores behind the areas."""
    return {
        "replay": [
            {
                "attack": row.attack.name,
                "sampler": row.sampler,
                "replayer": row.replayer,
                "num_groups": row.num_groups,
                "num_tokens": row.num_tokens,
                "match": row.match,
                "mean_gap": row.mean_gap,
                "differs": row.differs,
                "moved": row.moved,
                "moved_unpunished": row.moved_unpunished,
                "handed_in": _caught(row, HANDED_IN),
                "prefilled": _caught(row, PREFILLED),
            }
            for row in rows
        ],
        "activations": [
            {
                "attack": peer.attack.name,
                "toploc_rejected": peer.toploc_rejected,
                "toploc_area": peer.toploc.area,
                "grail_rejected": peer.grail_rejected,
                "grail_area": peer.grail.area,
                "zero_passes": peer.zero_passes,
                "largest_sketch": peer.largest_sketch,
                "reliquary": asdict(peer.reliquary) if peer.reliquary else None,
            }
            for peer in peers
        ],
    }


def _caught(row: Row, claims: str) -> dict[str, Any]:
    caught = row.caught[claims]
    return {
        "rejected": caught.rejected,
        "rejected_bound": caught.rejected_bound,
        "rejected_differing": caught.rejected_differing,
        "rejected_rollouts": caught.rejected_rollouts,
        "rejected_rollouts_differing": caught.rejected_rollouts_differing,
        "sequential": _delay(caught.sequential),
        "either": _delay(caught.either),
        "differing": _delay(caught.differing) if caught.differing else None,
        "crossed": caught.crossed,
        "area": caught.area.area,
        "moved": caught.moved,
        "named": asdict(caught.naming),
        "named_right": row.named_right(claims),
        "named_wrong": row.named_wrong(claims),
        "aim_reached": row.reached(claims),
        "aim_reached_differing": row.reached_differing(claims),
    }


def _delay(delay: Delay) -> dict[str, int | None]:
    return {name: getattr(delay, name) for name in Delay.__slots__}


def _cells(row: Row) -> Iterator[str]:
    both = (row.handed_in, row.prefilled)
    yield row.attack.title
    yield _percent(row.differs)
    yield " · ".join(_percent(caught.rejected) for caught in both)
    yield " · ".join(_maybe(caught.rejected_differing) for caught in both)
    yield " · ".join(_groups(caught.either) for caught in both)
    yield " · ".join(_groups(c.differing) if c.differing else "–" for c in both)
    yield " · ".join(_named(row, claims) for claims in AIMS)
    yield " · ".join(_follows(caught.naming) for caught in both)
    yield " · ".join(f"{caught.area.area:.3f}" for caught in both)
    yield f"{row.moved:+.4f} · {row.moved_unpunished:+.4f} · {row.prefilled.moved:+.4f}"
    yield _aim(row)


def _named(row: Row, claims: str) -> str:
    naming = row.caught[claims].naming
    if not naming.count:
        return "–"
    right, wrong = row.named_right(claims), row.named_wrong(claims)
    return f"{_maybe(right)} / {_maybe(wrong)}"


def _follows(naming: Naming) -> str:
    if not naming.count:
        return "–"
    steps = (Consequence.NAMED, Consequence.GROSS, Consequence.UNPAID)
    return " / ".join(f"{naming.consequences.get(step, 0.0):.0%}" for step in steps)


def _commitments(peer: Peer | None) -> tuple[str, str, str]:
    if peer is None:
        return "", "", ""
    rule = peer.reliquary
    return (
        f"{_percent(peer.toploc_rejected)}, {peer.toploc.area:.3f}",
        f"{_percent(peer.grail_rejected)}, {peer.grail.area:.3f}",
        f"{_percent(rule.rejected)} · {_percent(rule.rejected_with_gate)}" if rule else "",
    )


def _aim(row: Row) -> str:
    if row.attack.forks:
        return f"{MOST_MOVED}: {'yes' if abs(row.prefilled.moved) < MOST_MOVED else 'no'}"
    if not row.attack.has_aims:
        return ""
    return " · ".join(f"{aim}: {'yes' if row.reached(c) else 'no'}" for c, aim in AIMS.items())


def _groups(delay: Delay) -> str:
    return _span(delay.median_groups, delay.p95_groups)


def _span(median: int | None, p95: int | None) -> str:
    if median is None:
        return "–"
    return f"{median:,} ({p95:,})" if p95 is not None else f"{median:,} (–)"


def _maybe(share: float | None) -> str:
    return "–" if share is None else _percent(share)


def _percent(share: float) -> str:
    if share in (0.0, 1.0):
        return f"{share:.0%}"
    return f"{share:.1%}"


def _line(cells: Sequence[str] | Iterator[str]) -> str:
    return "| " + " | ".join(cells) + " |"
