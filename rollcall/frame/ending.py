"""How a command ends: its exit code, and for every error that reaches the command line one line with a remedy.

A person's mistake is told by who noticed it. What a library raises unforeseen is a fault of the program: the line
names it and its place, because most of those who see it cannot mend it, and says how the trace is seen.
"""

import errno
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from traceback import FrameSummary, extract_tb

import typer
from rich.markup import escape
from typer._click.exceptions import ClickException, NoArgsIsHelpError, UsageError

from protocol.errors import MarketError
from protocol.user_error import UserError, hosts_only, one_line
from rollcall.frame.console import errors

DEBUG_VARIABLE = "ROLLCALL_DEBUG"
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""Errors of a disk, which name no file once that is open."""
PAGE = "docs/troubleshooting.md"
ROOT = Path(__file__).parents[2]
OURS = (
    "rollcall orchestrator rollout_worker trainer devchain contracts audit client ledger protocol"
)


class Ending(IntEnum):
    """Every exit code. Others are a signal's: 128 and its number, or as the system gives it."""

    DONE = 0
    FAILED = 1
    """It cannot be done, or what was checked does not hold: the line says why."""
    MISTYPED = 2
    """The command line itself: an unknown command or option, a missing or impossible value."""
    FAULT = 70
    """The program is at fault: EX_SOFTWARE of sysexits.h."""
    STOPPED = 130
    """Ctrl-C, as shells give it: 128 + SIGINT."""


def run_to_its_end(command: Callable[[], object]) -> Ending | int:
    """Run a command; return its exit code, having told what went wrong. With ROLLCALL_DEBUG=1 raise a fault."""
    try:
        ended = command()
    except KeyboardInterrupt:
        return Ending.STOPPED
    except NoArgsIsHelpError as error:
        error.show()
        return Ending.MISTYPED
    except Exception as error:
        line, ending = _answer(error)
        if ending is Ending.FAULT and os.environ.get(DEBUG_VARIABLE):
            raise
        errors.print(f"[red]✗[/] {escape(line)}")
        return ending
    return ended if isinstance(ended, int) else Ending.DONE


@contextmanager
def stopped_says(what: str) -> Iterator[None]:
    """On Ctrl-C within the block, say what became of the work and end the command."""
    try:
        yield
    except KeyboardInterrupt as stopped:
        errors.print(what)
        raise typer.Exit(Ending.STOPPED) from stopped


def _answer(error: Exception) -> tuple[str, Ending]:
    """Return the line for an error, and how the command ends."""
    if isinstance(error, ClickException):
        return _usage(error), Ending.MISTYPED
    if isinstance(error, typer.Abort):
        return "nothing was done: the question was not answered", Ending.FAILED
    mistake = _mistake(error)
    return (mistake, Ending.FAILED) if mistake else (_fault(error), Ending.FAULT)


def _usage(error: ClickException) -> str:
    path = error.ctx.command_path if isinstance(error, UsageError) and error.ctx else "rollcall"
    text = " ".join(error.format_message().split()).rstrip(".")
    text = re.sub(r"^No such option: (-\d.*)", r"\1 is negative, which no value here may be", text)
    return f"{text}: `{path} --help` shows what it takes"


def _mistake(error: Exception) -> str:
    """Return the line for an error that its reader can mend, or nothing."""
    # A role that was started without the chain's library raises none of its errors.
    ledger = sys.modules.get("ledger.errors")
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MarketError):
        return f"{error.code}: {error.message}"
    if ledger is not None and isinstance(error, ledger.LedgerError):
        return _of_ledger(error)
    if isinstance(error, OSError) and (error.filename is not None or error.errno in DISK):
        what = error.filename or "a file cannot be written"
        return f"{what}: {error.strerror}: look at the path, its rights and the room left there"
    return ""


def _of_ledger(error: Exception) -> str:
    """Return what a role met at the chain in one line; amounts by the decimals that most tokens have."""
    from ledger.amounts import Token
    from ledger.errors import ContractError
    from rollcall.cli.refusals import explain

    if isinstance(error, ContractError):
        return explain(error, Token("", "tokens", 18), int(time.time()))
    return one_line(error)


def _fault(error: Exception) -> str:
    where = [place for frame in extract_tb(error.__traceback__) if (place := _place(frame))]
    return (
        f"a fault of this program{''.join(where[-1:])}: {type(error).__name__}: {hosts_only(one_line(error))[:300]}. "
        f"Please report it, with the trace that {DEBUG_VARIABLE}=1 shows"
    )


def _place(frame: FrameSummary) -> str:
    """Return where a frame of our own packages is, or nothing."""
    path = Path(frame.filename)
    name = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    return f" at {name}:{frame.lineno}" if name.parts[0] in OURS.split() else ""
