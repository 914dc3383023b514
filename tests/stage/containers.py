"""What docker reads of a checkout, where no docker is: the build's context, and what a Dockerfile copies of it.

The rules of `.dockerignore` are those of moby's patternmatcher, as BuildKit walks a folder by them: a file
is left out if the last line that names it, or a folder above it, has no `!`.
"""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
GLOB = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
Stage = list[tuple[str, str]]
"""Instructions with their arguments."""


def checkout(folder: Path) -> Path:
    """Copy this checkout's tracked files, as `git clone` would."""
    for name in tracked():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((ROOT / name).read_bytes())
    return folder


def tracked() -> list[str]:
    command = ["git", "ls-files", "-z"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    return [name for name in found.split("\0") if name and (ROOT / name).is_file()]


def build_context(folder: Path, ignored: str) -> set[str]:
    """Return the files below `folder` that a build is sent, by the text of a `.dockerignore`."""
    rules = list(_rules(ignored))
    files = (path for path in folder.rglob("*") if path.is_file())
    return {name for path in files if not _is_ignored(name := str(path.relative_to(folder)), rules)}


def stages(dockerfile: str) -> dict[str, Stage]:
    """Return each stage's instructions; the first is its FROM."""
    found: dict[str, Stage] = {}
    lines = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", dockerfile, flags=re.M)).splitlines()
    for line in filter(None, map(str.strip, lines)):
        instruction, _, arguments = line.partition(" ")
        if instruction == "FROM":
            stage = found[arguments.split(" AS ")[1]] = []
        stage.append((instruction, arguments))
    return found


def copied(stage: Stage, context: set[str]) -> set[str]:
    """Return the files of the context that a stage's COPY lines put into an image."""
    sources = [s for name, words in stage if name in {"COPY", "ADD"} for s in words.split()[:-1]]
    return {
        file
        for file in context
        if any(source in {".", file} or file.startswith(f"{source}/") for source in sources)
    }


def _rules(text: str) -> Iterator[tuple[bool, re.Pattern[str]]]:
    for line in map(str.strip, text.splitlines()):
        if line and not line.startswith("#"):
            pattern = line.removeprefix("!").strip("/")
            parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
            regex = "".join(GLOB.get(part) or re.escape(part) for part in parts)
            yield not line.startswith("!"), re.compile(regex)


def _is_ignored(name: str, rules: list[tuple[bool, re.Pattern[str]]]) -> bool:
    parts = name.split("/")
    above = ["/".join(parts[: end + 1]) for end in range(len(parts))]
    ignored = False
    for ignores, pattern in rules:
        if any(pattern.fullmatch(path) for path in above):
            ignored = ignores
    return ignored
