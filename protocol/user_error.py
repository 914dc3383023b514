"""An error that the person at the command line can mend: one line and its remedy."""

import re

INNER = re.compile(r"HTTPS?ConnectionPool\(.*", re.DOTALL)
CAUSE = re.compile(r"(?:\[Errno -?\d+\] |\()([A-Za-z][\w ]+)[\"')]*$")


class UserError(Exception):
    """Shown as one line without a trace; the command then exits with 1."""


def one_line(error: Exception) -> str:
    """Return an error's text on one line, with a library's own report cut out of it."""
    text = " ".join(str(error).split()) or type(error).__name__
    cause = CAUSE.search(text)
    return INNER.sub(cause[1].lower() if cause else "no answer", text)
