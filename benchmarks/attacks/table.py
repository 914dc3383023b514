"""Write the rows as Markdown, for people, and as JSON, for whoever compares two runs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from math import log1p
from typing import Any

from benchmarks.attacks.figures import Delay, upper_bound
from benchmarks.attacks.peers import LARGEST_SKETCH, TOLERANCE_BASE
from benchmarks.attacks.rows import HORIZON, NUM_SEQUENCES, Caught, Peer, Row

HEAD = (
    "attack",
    "groups that differ",
    "rejected alone",
    "tokens until the sequential test crosses",
    "groups until condemned",
    "AUC",
    "reward moved",
    "aim",
)
COMMITMENTS = ("TOPLOC", "GRAIL", "Reliquary")


def replay_table(rows: Sequence[Row], peers: Sequence[Peer]) -> str:
    """Return one pair of engines as a table, with others' rules beside it.

    Cells read *as handed in · after a prefill*; delays, median (95 %); rewards, all groups · as if those
    rejected alone after a prefill had been honest; commitments, share of groups rejected and area. Those
    are of a cheat that does not prefill: one that does passes as honest. Reliquary: share of groups
    rejected, without its gate · with it.
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
    """Return, for each aim, within how many groups 95 % of such workers are condemned, by pair."""
    found = {
        (row.attack.name, pair): row
        for pair, rows in pairs.items()
        for row in rows
        if row.attack.aim
    }
    aimed = dict.fromkeys(row.attack for rows in pairs.values() for row in rows if row.attack.aim)
    lines = [_line(["attack", "aim", *(f"{s} → {r}" for s, r in pairs)])]
    lines.append(_line(["---"] + ["---:"] * (len(pairs) + 1)))
    for attack in aimed:
        rows = [found.get((attack.name, pair)) for pair in pairs]
        cells = [
            " · ".join(_within(c) for c in (r.handed_in, r.prefilled)) if r else "" for r in rows
        ]
        lines.append(_line([attack.title, str(attack.aim), *cells]))
    return "\n".join(lines)


def _within(caught: Caught) -> str:
    groups = caught.either.p95_groups
    return f"> {caught.either.horizon:,}" if groups is None else f"{groups:,}"


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
                "handed_in": _caught(row, row.handed_in),
                "prefilled": _caught(row, row.prefilled),
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


def _caught(row: Row, caught: Caught) -> dict[str, Any]:
    return {
        "rejected": caught.rejected,
        "rejected_bound": caught.rejected_bound,
        "sequential": _delay(caught.sequential),
        "either": _delay(caught.either),
        "crossed": caught.crossed,
        "area": caught.area.area,
        "aim_reached": row.reached(caught),
    }


def _delay(delay: Delay) -> dict[str, int | None]:
    return {name: getattr(delay, name) for name in Delay.__slots__}


def _cells(row: Row) -> Iterator[str]:
    both = (row.handed_in, row.prefilled)
    yield row.attack.title
    yield _percent(row.differs)
    yield " · ".join(_percent(caught.rejected) for caught in both)
    yield " · ".join(_tokens(caught.sequential) for caught in both)
    yield " · ".join(_groups(caught.either) for caught in both)
    yield " · ".join(f"{caught.area.area:.3f}" for caught in both)
    yield f"{row.moved:+.3f} · {row.moved_unpunished:+.3f}"
    yield _aim(row)


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
    if not row.attack.aim:
        return ""
    marks = " · ".join("yes" if row.reached(c) else "no" for c in (row.handed_in, row.prefilled))
    return f"{row.attack.aim}: {marks}"


def _tokens(delay: Delay) -> str:
    return _span(delay.median_tokens, delay.p95_tokens)


def _groups(delay: Delay) -> str:
    return _span(delay.median_groups, delay.p95_groups)


def _span(median: int | None, p95: int | None) -> str:
    if median is None:
        return "–"
    return f"{median:,} ({p95:,})" if p95 is not None else f"{median:,} (–)"


def _percent(share: float) -> str:
    if share in (0.0, 1.0):
        return f"{share:.0%}"
    return f"{share:.1%}"


def _line(cells: Sequence[str] | Iterator[str]) -> str:
    return "| " + " | ".join(cells) + " |"
