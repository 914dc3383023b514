"""`python -m benchmarks.gas`: the table. Exit code 1 where a figure is more than 5 % above its reference.

An epoch of 100,000 contributions by 1,000 workers, each signed, is posted under three of five verifiers'
signatures; then, from the same state, one lying epoch after another is posted and proven false. Gas is a
property of the code, not of the machine: two runs differ by the zero bytes in their data.

    python -m benchmarks.gas [--contributions 100000] [--workers 1000] [--write]
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.gas.life import Life
from benchmarks.gas.market import Market
from benchmarks.gas.naive import naive_designs
from benchmarks.gas.page import page
from benchmarks.gas.proofs import Proofs
from benchmarks.gas.receipts import Receipts
from benchmarks.gas.rows import MOST_ABOVE, Design, Row
from ledger.node import Node
from tests.stage.anvil import anvil, executable

OUT = Path("build/bench/gas.json")
PAGE = Path("contracts/GAS.md")
PEER = Design("Prime Intellect's path (measured for the design)", 226_765, 226_765)


def measure(num_contributions: int, num_workers: int) -> tuple[list[Row], list[Design]]:
    """Weigh everything on a chain of its own."""
    with anvil() as node:
        market = Market(Node.at(node.url, timeout_seconds=60.0))
        life = Life(market, num_contributions, num_workers)
        rows = list(_shown(life.rows()))
        rows += _shown(Proofs(life).rows())
        rows += _shown(Receipts(life).rows())
        ours = _ours(rows, num_contributions, num_workers)
        return rows, [ours, *naive_designs(market, num_contributions // num_workers), PEER]


def _shown(rows: Iterable[Row]) -> Iterator[Row]:
    for row in rows:
        print(_line(row), flush=True)
        yield row


def _line(row: Row) -> str:
    if row.reference is None or row.ratio is None:
        return f"{row.operation:74} {row.gas:>10,}"
    mark = f"  more than {MOST_ABOVE - 1:.0%} above" if row.is_too_much else ""
    return f"{row.operation:74} {row.gas:>10,} {row.reference:>10,} {row.ratio:>6.3f}{mark}"


def _ours(rows: Sequence[Row], num_contributions: int, num_workers: int) -> Design:
    steady = next(row.gas for row in rows if row.operation.endswith("steady state"))
    claim = next(row.gas for row in rows if row.operation.startswith("claim, first"))
    posted = steady / num_contributions
    name = f"Rollcall, {num_contributions:,} contributions in an epoch"
    return Design(name, posted, posted + claim * num_workers / num_contributions)


def _print_designs(designs: Sequence[Design]) -> None:
    print(f"\n{'gas for each contribution':74} {'recorded':>10} {'and paid':>10}")
    for design in designs:
        print(f"{design.name:74} {design.recorded:>10,.1f} {design.paid:>10,.1f}")


def main() -> int:
    """Print the tables, write the JSON, and say whether every figure is within its bar."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gas", description=__doc__)
    parser.add_argument("--contributions", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=1_000)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--write", action="store_true", help=f"also write {PAGE}")
    options = parser.parse_args()
    if executable() is None:
        sys.exit("no anvil: run `make contracts/node_modules/.ready`, or install Foundry")
    print(f"{'operation':74} {'gas':>10} {'reference':>10} {'ratio':>6}")
    rows, designs = measure(options.contributions, options.workers)
    _print_designs(designs)
    too_much = [row.operation for row in rows if row.is_too_much]
    result = {
        "contributions": options.contributions,
        "workers": options.workers,
        "most_above": MOST_ABOVE,
        "rows": [{**asdict(row), "ratio": row.ratio} for row in rows],
        "designs": [asdict(design) for design in designs],
        "too_much": too_much,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    if options.write:
        PAGE.write_text(page(rows, designs, options.contributions, options.workers), "utf-8")
    return 1 if too_much else 0


if __name__ == "__main__":
    sys.exit(main())
