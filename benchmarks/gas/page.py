"""`contracts/GAS.md` as text: the two tables and what they mean."""

from collections.abc import Sequence

from benchmarks.gas.rows import Design, Row

ABOUT = """\
# Gas

Written by `python -m benchmarks.gas --write`, which measures on anvil and exits 1 if a figure is more than 5 % above its
reference. The epoch has {contributions:,} contributions by {workers:,} workers, each signed, and is posted under three of five
signatures while the one before it becomes final. A proof's gas includes voiding the epoch and slashing the three signers; its
reference is the dearest of the design's proofs.

| operation | gas | reference | ratio |
|---|---:|---:|---:|
{rows}

The reference metered runs and operators. Base models are metered besides: a run that is the first of its model costs one slot
more. Not in the table: each verifier more costs about 12,000 in a proof; 64 of them with eight epochs pending stay under half a
block of 30 million.

| gas for each contribution | recorded | and paid once |
|---|---:|---:|
{designs}

The naive ledgers are in `bench/`: `EachOnChain` keeps a record and books the pay of each contribution in a transaction; in
`BatchedCredits` the operator credits 200 workers at once, and nobody else signs or can object. A worker is paid once for 100
contributions in all three.
"""


def page(rows: Sequence[Row], designs: Sequence[Design], contributions: int, workers: int) -> str:
    """Return the page for an epoch of so many contributions by so many workers."""
    return ABOUT.format(
        contributions=contributions,
        workers=workers,
        rows="\n".join(_row(row) for row in rows),
        designs="\n".join(f"| {d.name} | {d.recorded:,.1f} | {d.paid:,.1f} |" for d in designs),
    )


def _row(row: Row) -> str:
    reference = "" if row.reference is None else f"{row.reference:,}"
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    return f"| {row.operation} | {row.gas:,} | {reference} | {ratio} |"
