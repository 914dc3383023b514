"""`Council` in Python: pausing, and who holds which office.

Offices change hands only through the timelock, which everybody can watch for its whole delay.
"""

from enum import Enum
from typing import Any

from contracts.door import Door, require_word
from contracts.sender import Receipt
from protocol.canonical import keccak256


class Office(Enum):
    """What the council can appoint somebody to."""

    GUARDIAN = keccak256(b"GUARDIAN")
    ARBITER = keccak256(b"ARBITER")


class Governing(Door):
    """The council's functions, and the timelock's that lead to them."""

    def pause(self, seconds: int, reason: bytes = bytes(32)) -> Receipt:
        """Stop money from coming in for a while. Guardian only."""
        return self._send(self._council.functions.pause(seconds, require_word(reason)))

    def unpause(self) -> Receipt:
        """End a pause early. Guardian only."""
        return self._send(self._council.functions.unpause())

    def paused_until(self) -> int:
        """Return when the last pause ends or ended; zero before the first."""
        return int(self._call(self._council.functions.pausedUntil()))

    def next_pause_at(self) -> int:
        """Return from when on a guardian may pause again; zero before the first pause."""
        return int(self._call(self._council.functions.nextPauseAt()))

    def holds(self, office: Office, account: str) -> bool:
        """Return whether an account holds an office."""
        return bool(self._call(self._council.functions.hasRole(office.value, account)))

    def is_arbiter(self, account: str) -> bool:
        """Return whether an account rules on appeals and escalations."""
        return self.holds(Office.ARBITER, account)

    def resign(self, office: Office) -> Receipt:
        """Give up this account's own office, at once."""
        me = self._require_sender().address
        return self._send(self._council.functions.renounceRole(office.value, me))

    def schedule(self, office: Office, account: str, *, is_appointed: bool) -> int:
        """Announce an appointment or a dismissal, as the timelock's proposer; return when it is due."""
        words = self._operation(office, account, is_appointed)
        delay = self._call(self._timelock.functions.getMinDelay())
        self._send(self._timelock.functions.schedule(*words, delay))
        digest = self._call(self._timelock.functions.hashOperation(*words))
        return int(self._call(self._timelock.functions.getTimestamp(digest)))

    def carry_out(self, office: Office, account: str, *, is_appointed: bool) -> Receipt:
        """Carry out what was announced, once it is due, as the timelock's executor."""
        words = self._operation(office, account, is_appointed)
        return self._send(self._timelock.functions.execute(*words))

    def _operation(self, office: Office, account: str, is_appointed: bool) -> tuple[Any, ...]:
        words = (office.value, account)
        appoint = self._council.functions.grantRole(*words)
        dismiss = self._council.functions.revokeRole(*words)
        data = (appoint if is_appointed else dismiss)._encode_transaction_data()
        return (self._council.address, 0, data, bytes(32), bytes(32))
