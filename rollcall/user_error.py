"""What a person at the command line did or has that stops a command: one line and its remedy."""


class UserError(Exception):
    """Shown as one line without a trace; the command then exits with 1."""
