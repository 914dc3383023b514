"""An error that the person at the command line can mend: one line and its remedy."""

import re

INNER = re.compile(r"HTTPS?ConnectionPool\(.*", re.DOTALL)
URL = re.compile(r"\b((?:https?|wss?)://)(?:[^\s/@'\"]*@)?([^\s/?#@'\")]+)(?:[/?#][^\s'\")]+)?")
PATH = re.compile(r"\b(url: )/[^\s'\")]+")
CAUSE = re.compile(r"(?:\[Errno -?\d+\] |\()([A-Za-z][\w ]+)[\"')]*$")


class UserError(Exception):
    """Shown as one line without a trace; the command then exits with 1."""


def hosts_only(text: str) -> str:
    """Return a text whose URLs end at their host: a node's address often holds its owner's key."""
    return PATH.sub(r"\1/…", URL.sub(_host, text))


def _host(found: re.Match[str]) -> str:
    shown = found[1] + found[2]
    return shown if found[0].rstrip("/") == shown else f"{shown}/…"


def one_line(error: Exception) -> str:
    """Return an error's text on one line, with a library's own report cut out of it."""
    text = " ".join(str(error).split()) or type(error).__name__
    cause = CAUSE.search(text)
    return INNER.sub(cause[1].lower() if cause else "no answer", text)
