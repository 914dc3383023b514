"""Ask Slither about the contracts: `python -m contracts.tools.slither`.

Fails on any finding of high or medium impact that is not excused on the line above it, and on any
excuse without a reason. Slither is AGPL: a tool that lives in a virtual environment of its own under
`build/`, and no part of what is shipped or imported. It compiles by Forge, as the tests do.
"""

import os
import re
import subprocess
import sys
import venv
from pathlib import Path

from contracts.tools.build import forge

HERE = Path(__file__).parents[1]
HOME = HERE.parent / "build" / "slither"
SLITHER = "slither-analyzer==0.11.6"
FOREIGN = "node_modules|forge/|test/"
EXCUSE = re.compile(r"slither-disable-(?:next-line|start)\s+(\S+)(?: -- (\S.*))?$")


def excuses_without_reason(source: str) -> list[int]:
    """Return the lines that silence a detector and do not say why."""
    found = ((n, EXCUSE.search(line)) for n, line in enumerate(source.split("\n"), start=1))
    return [number for number, excuse in found if excuse and not excuse.group(2)]


def install() -> None:
    """Set Slither up, once."""
    if (HOME / SLITHER).exists():
        return
    venv.create(HOME, with_pip=True, clear=True)
    subprocess.run([HOME / "bin" / "pip", "install", "-q", SLITHER], check=True)
    (HOME / SLITHER).touch()


def main() -> None:
    """Exit as Slither does: 0 if nothing is left unexplained."""
    silent = [
        f"{path.relative_to(HERE)}:{number}"
        for path in sorted(HERE.glob("src/**/*.sol"))
        for number in excuses_without_reason(path.read_text("utf-8"))
    ]
    if silent:
        sys.exit(f"these say no reason after ` -- `: {', '.join(silent)}")
    install()
    executable = forge()
    if executable is None:
        sys.exit("no Forge: run make contracts/node_modules/.ready")
    environment = os.environ | {
        "PATH": f"{executable.parent}{os.pathsep}{os.environ['PATH']}",
        # Folders of its own: Slither cleans up before it compiles, and would take the tests' cache.
        "FOUNDRY_OUT": str(HOME / "out"),
        "FOUNDRY_CACHE_PATH": str(HOME / "cache"),
    }
    arguments = ["--fail-medium", "--filter-paths", FOREIGN]
    unasked = ["--exclude-low", "--exclude-informational", "--exclude-optimization"]
    done = subprocess.run(
        [HOME / "bin" / "slither", ".", *arguments, *unasked],
        cwd=HERE,
        env=environment,
        check=False,
    )
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
