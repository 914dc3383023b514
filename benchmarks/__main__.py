"""`make bench`: run every benchmark, one after another, each in a process of its own.

Each prints a table and writes JSON to `build/bench/`. Figures are ratios within one run, because
machines are noisy; run on an otherwise idle one. `make bench ARGS=intake` runs one.
"""

import subprocess
import sys

NAMES = (
    "attacks",
    "attacks.streams",
    "claims",
    "gas",
    "hostile",
    "intake",
    "overhead",
    "replay",
    "trainer",
    "withholding",
)


def main() -> int:
    """Run the named benchmarks, or all; return 1 where one failed."""
    wanted = sys.argv[1:] or list(NAMES)
    unknown = sorted(set(wanted) - set(NAMES))
    if unknown:
        print(f"unknown benchmarks {', '.join(unknown)}; there are {', '.join(NAMES)}")
        return 2
    failed = [name for name in wanted if _run(name) != 0]
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


def _run(name: str) -> int:
    print(f"\n== benchmarks.{name}", flush=True)
    return subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
