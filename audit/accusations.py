"""Accusations against workers, from the chain's events and views alone.

What a quorum reported, where each report stands, and the digest of its appeal's reason.
"""

from dataclasses import dataclass

from ledger.ledger import Ledger
from ledger.state import SlashState, SlashStatus


@dataclass(frozen=True, slots=True)
class Accusation:
    """One report of a quorum against one piece of work. `appeal` is its reason's digest, if any."""

    slash_id: bytes
    state: SlashState
    work_digest: bytes
    appeal: bytes | None


class Accusations:
    """The accusations against one worker, or against anybody, followed from look to look.

    Example: `Accusations(ledger, worker).look()`
    """

    def __init__(self, ledger: Ledger, worker: str | None) -> None:
        self._ledger = ledger
        self._worker = worker
        self._cursor = ledger.events()
        self._works: dict[bytes, bytes] = {}
        self._reasons: dict[bytes, bytes] = {}

    def look(self) -> list[Accusation]:
        """Return every accusation as it stands, oldest first."""
        for event in self._cursor.poll():
            slash_id = event.values.get("slashId", b"")
            if event.name == "SlashAppealed":
                self._reasons[slash_id] = event.values["reason"]
            elif event.name == "SlashProposed" and self._worker in (None, event.values["worker"]):
                self._works[slash_id] = event.values["workDigest"]
        found = [self._accusation(slash_id) for slash_id in self._works]
        # An accusation that the chain took back has no status; it comes again with its event.
        return [
            accusation for accusation in found if accusation.state.status is not SlashStatus.NONE
        ]

    def _accusation(self, slash_id: bytes) -> Accusation:
        state = self._ledger.slash(slash_id)
        return Accusation(slash_id, state, self._works[slash_id], self._reasons.get(slash_id))
