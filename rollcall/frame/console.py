"""The console people read: as wide as their terminal, or wide enough for tables in a file."""

from rich.console import Console

FILE_COLUMNS = 140


def open_console() -> Console:
    """Return standard output as a console."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=FILE_COLUMNS)
