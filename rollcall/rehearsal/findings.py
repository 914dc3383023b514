"""What a rehearsal tells: one line with its remedy, and whether a run may go on chain all the same."""

from collections.abc import Callable
from dataclasses import dataclass

from protocol.user_error import UserError


@dataclass(frozen=True, slots=True)
class Finding:
    """Example: Finding("models/x has no eos_token_id: add it", is_fatal=True)"""

    text: str
    is_fatal: bool = True


def complaint(look: Callable[[], object]) -> Finding | None:
    """Return what a look refuses, or None where it passes."""
    try:
        look()
    except UserError as error:
        return Finding(str(error))
    return None
