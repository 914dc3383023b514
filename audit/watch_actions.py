"""Send a watcher's calls, or only tell them in a dry run; and tell each lasting fact once.

A contract's refusal costs nothing, because the gas estimate meets it. It is logged as a fact, not as a
failure: somebody else was faster, or a window has closed.
"""

from typing import Any

import structlog

from audit.history import OwedClaim, Posted
from ledger.errors import ContractError, LedgerError
from ledger.ledger import Ledger

Subject = Posted | OwedClaim
"""What a call is about."""


class Actor:
    """Calls of one ledger, by method name as `fraud.Finding` gives them.

    Example: `actor.send(posted, "fraud proof", "prove_bad_edge", header, opening)`
    """

    def __init__(self, ledger: Ledger, *, address: str | None, sends: bool) -> None:
        self._ledger = ledger
        self.address = address
        """The account that sends, None if none does."""
        self._sends = sends
        self._told: set[str] = set()
        self._log = structlog.get_logger()

    def send(self, about: Subject, what: str, method: str, /, *arguments: Any, **told: Any) -> bool:
        """Send a call; return whether it was mined, or would have been sent."""
        fields = {"method": method, **told}
        if not self._sends:
            self.say(about, f"would send {what}", **fields)
            return True
        try:
            getattr(self._ledger, method)(*arguments)
        except ContractError as error:
            self.say(about, f"{what} refused", **fields, error=str(error))
            return False
        except LedgerError as error:
            self._log.error(f"{what} not sent", **about.facts, **fields, error=str(error))
            return False
        self._log.warning(f"{what} sent", **about.facts, **fields)
        return True

    def say(self, about: Subject, what: str, /, **fields: Any) -> None:
        """Log a fact once, though every round finds it again."""
        told = f"{about.key.hex()} {what} {sorted(fields.items())}"
        if told not in self._told:
            self._told.add(told)
            self._log.warning(what, **about.facts, **fields)
