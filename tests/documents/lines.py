"""Count the lines that ARCHITECTURE.md states. `python -m tests.documents.lines` rewrites its tables.

A row of such a table begins with a file or a folder in backticks and a number; `**all**` is the sum of
the rows above it.
"""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "ARCHITECTURE.md"
ROW = re.compile(r"^\| `([\w./]+)` \| ([\d,]+) \|", re.MULTILINE)
SUM = re.compile(r"^\| \*\*all\*\* \| ([\d,]+) \|", re.MULTILINE)


def tables(text: str) -> list[dict[str, int]]:
    """Return each counted table: what every row states, its sum last, under `all`."""
    found: list[dict[str, int]] = []
    rows: dict[str, int] = {}
    for line in text.splitlines():
        if row := ROW.match(line):
            rows[row[1]] = _number(row[2])
        elif total := SUM.match(line):
            found.append({**rows, "all": _number(total[1])})
            rows = {}
    return found


def counted(text: str) -> str:
    """Return the page with its numbers as they are."""
    total = 0

    def row(match: re.Match[str]) -> str:
        nonlocal total
        number = lines_of(match[1])
        total += number
        return f"| `{match[1]}` | {number:,} |"

    lines = []
    for line in text.splitlines(keepends=True):
        if SUM.match(line):
            lines.append(SUM.sub(f"| **all** | {total:,} |", line))
            total = 0
        else:
            lines.append(ROW.sub(row, line))
    return "".join(lines)


def lines_of(path: str) -> int:
    """Return the lines of a file, or of all Python and Lua under a folder."""
    names = product_files(path) if path.endswith("/") else [path]
    return sum(len((ROOT / name).read_text("utf-8").splitlines()) for name in names)


def product_files(folder: str) -> list[str]:
    """Return the Python and Lua files under a folder that git knows or would take."""
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--"]
    found = subprocess.run(
        [*words, f"{folder}*.py", f"{folder}*.lua"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return sorted(name for name in set(found.splitlines()) if (ROOT / name).exists())


def _number(text: str) -> int:
    return int(text.replace(",", ""))


if __name__ == "__main__":
    PAGE.write_text(counted(PAGE.read_text("utf-8")), "utf-8")
