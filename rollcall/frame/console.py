"""The console, and how a command shows its findings: tables to read, JSON for programs."""

import json
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table

FILE_COLUMNS = 140

errors = Console(stderr=True, highlight=False, soft_wrap=True)


def open_console() -> Console:
    """Return a console on standard output: as wide as its terminal, or enough for tables in a file."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=FILE_COLUMNS)


def show(console: Console, *found: RenderableType, body: Any = None) -> None:
    """Print the findings or, if given, `body` as one JSON value."""
    if body is not None:
        console.print_json(json.dumps(body))
        return
    for item in found:
        console.print(item)


def table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Iterable[str]],
    *,
    right: Collection[str] = (),
) -> Table:
    """Return a table; columns in `right` are set to the right."""
    made = Table(title=title)
    for name in columns:
        made.add_column(name, justify="right" if name in right else "left")
    for row in rows:
        made.add_row(*row)
    return made


def facts(title: str, found: Iterable[tuple[str, str]]) -> Table:
    """Return names and values below one another, as they fit any terminal; what has no value is left out."""
    made = Table(show_header=False, box=None, title=title, title_justify="left")
    made.add_column(style="dim", overflow="fold")
    made.add_column(overflow="fold")
    for name, value in found:
        if value:
            made.add_row(name, value)
    return made
