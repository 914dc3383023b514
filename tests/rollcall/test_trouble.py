"""No trace is an answer: every command, driven into whatever can be wrong around it, says so in one line with a remedy.

docs/troubleshooting.md lists the lines; each line that a command prints is there, and each that is there is printed.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import cycle, groupby, product
from pathlib import Path
from string import Formatter
from tempfile import mkdtemp

import pytest
import typer

from rollcall.__main__ import app
from rollcall.frame.ending import PAGE, Ending
from tests.stage.ground import Ground
from tests.stage.troubles import COMMANDS, DEVCHAIN, KEYS, ROOT, Surroundings, Trouble, surroundings
from tests.stage.warm import Ended, Typed, Warm, warmed

LINES = [line for lines in COMMANDS.values() for line in lines] + [DEVCHAIN]
FEW = 2
"""Troubles of one place that each of its commands meets, however many they are."""
MOST_WHOLE = 7
"""Commands that meet all troubles of one place; of more each meets one, and all in the slow test."""
PLACES = sorted({name for line in LINES for _, name, _, _ in Formatter().parse(line) if name})
ENTRY = re.compile(r"^    (✗ .*)$", re.MULTILINE)
REMEDY = re.compile(r"[\w)'%]: [\w`]|→|; |, or |`")
LOGGED = re.compile(r"timestamp=\S+ level=(warning|error|info) ")


def reach(line: str) -> set[str]:
    """Return the places that a command depends on."""
    return {name for _, name, _, _ in Formatter().parse(line) if name}


@dataclass
class Town:
    """Where commands are typed, and what each has said so far."""

    around: Surroundings
    warm: Warm
    home: Path
    said: dict[tuple[str, Trouble], Ended] = field(default_factory=dict)

    def type_in(self, cases: Iterable[tuple[str, Trouble]]) -> Iterator[tuple[str, Trouble, Ended]]:
        """Type commands in troubles, each once; yield what became of them."""
        cases = list(cases)
        fresh = [case for case in cases if case not in self.said]
        ended = self.warm.run([self._typed(*case) for case in fresh])
        self.said.update(zip(fresh, ended, strict=True))
        yield from ((*case, self.said[case]) for case in cases)

    def _typed(self, line: str, trouble: Trouble) -> Typed:
        words = line.format(**{**self.around.right, trouble.place: trouble.value}).split(" ")
        env = {"PATH": "/usr/bin:/bin", "HOME": str(self.home), "COLUMNS": "120"}
        if line.partition(" ")[0].strip("{}") in KEYS:
            env["ROLLCALL_KEY"] = words.pop(0)
        module = words.pop(0) if line == DEVCHAIN else "rollcall"
        folder = mkdtemp(dir=self.home)
        return Typed(module, tuple(words), env, folder, trouble.is_full)

    def turns(self) -> Iterator[tuple[str, Trouble]]:
        """Yield every command with each place it depends on; where many depend on one, its troubles take turns,
        but for the chain, whose lines no other program says.
        """
        for at, group in groupby(self.around.troubles, lambda trouble: trouble.place):
            troubles, lines = tuple(group), [line for line in LINES if at in reach(line)]
            if len(lines) <= MOST_WHOLE or len(troubles) <= FEW:
                yield from product(lines, troubles)
            else:
                yield from zip(lines, cycle(troubles), strict=False)
                yield from product({DEVCHAIN} & set(lines), troubles)


@pytest.fixture(scope="module")
def town(
    ground: Ground, redis_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Town]:
    folder = tmp_path_factory.mktemp("town")
    with surroundings(ground, redis_server, folder / "around") as around, warmed() as warm:
        yield Town(around, warm, folder)


def test_every_command_is_driven_into_trouble() -> None:
    assert set(_names(typer.main.get_command(app))) == COMMANDS.keys()


def test_every_way_to_type_a_command_can_go_wrong(town: Town) -> None:
    wrong = {trouble.place for trouble in town.around.troubles}
    assert [line for line in LINES if not reach(line) & wrong] == []


@pytest.mark.parametrize("place", PLACES)
def test_what_is_wrong_is_one_line_with_a_remedy(town: Town, place: str) -> None:
    cases = [case for case in town.turns() if case[1].place == place]
    assert cases
    for line, trouble, ended in town.type_in(cases):
        require_answer(line, trouble, ended)


@pytest.mark.slow
def test_so_it_is_for_every_command_in_every_trouble(town: Town) -> None:
    every = ((line, trouble) for line in LINES for trouble in town.around.troubles)
    for line, trouble, ended in town.type_in(
        case for case in every if case[1].place in reach(case[0])
    ):
        require_answer(line, trouble, ended)


def test_the_page_lists_what_commands_print_and_nothing_else(town: Town) -> None:
    entries = ENTRY.findall((ROOT / PAGE).read_text("utf-8"))
    assert len(entries) == len(set(entries))
    unused, unknown = set(entries), []
    for line, trouble, ended in town.type_in(town.turns()):
        for told in told_by(ended):
            fit = {entry for entry in entries if fits(entry, told)}
            unused -= fit
            unknown += [] if fit else [f"{line} in {trouble} says {told}"]
    assert not unknown, "\n".join([f"{PAGE} lacks what is said:", *unknown])
    assert not unused, "\n".join(["no command says:", *sorted(unused)])


def test_the_page_lists_every_exit_code() -> None:
    listed = re.findall(r"^\| (\d+) \|", (ROOT / PAGE).read_text("utf-8"), re.MULTILINE)
    assert [int(code) for code in listed] == sorted(Ending)


def require_answer(line: str, trouble: Trouble, ended: Ended) -> None:
    """Require one line, or several under its mark, and an exit code from the list that is no fault's."""
    about = f"`{line}` in {trouble}: exit {ended.code}\n{ended.out}\n{ended.err}"
    mistyped = [Ending.MISTYPED] if trouble.name == "negative" else []
    assert ended.code in [Ending.FAILED, *mistyped], about
    assert "Traceback" not in ended.err + ended.out, about
    told = told_by(ended)
    assert told, about
    assert all(REMEDY.search(one) for one in told), f"no remedy: {about}"
    stray = [
        one
        for one in ended.err.splitlines()
        if one.strip() and one not in told and not LOGGED.match(one)
    ]
    assert not stray, about


def told_by(ended: Ended) -> list[str]:
    """Return the marked lines: a check of `doctor` marks its own among others on standard output."""
    findings = re.split(r"\n(?=[✓✗·] )", ended.out.rstrip())
    lines = [*ended.err.splitlines(), *(" ".join(one.split("\n")) for one in findings)]
    return [re.sub(" +", " ", one) for one in lines if one.startswith("✗ ")]


def fits(entry: str, told: str) -> bool:
    """Return whether a line is an entry of the page, where `…` stands for any values."""
    pattern = ".*".join(re.escape(piece) for piece in entry.split("…"))
    return re.fullmatch(pattern, told) is not None


def _names(group: object, prefix: str = "") -> Iterator[str]:
    commands = getattr(group, "commands", None)
    if commands is None:
        yield prefix.strip()
        return
    for name, command in commands.items():
        yield from _names(command, f"{prefix} {name}")
