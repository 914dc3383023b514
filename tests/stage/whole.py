"""The rest of the ledger's functions: what no party's program calls, and tests must.

Meters, appointments, and views that only show whether a rule held.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from web3 import Web3

from ledger.calls import require_word
from ledger.ledger import Ledger
from ledger.node import MinedTransaction
from ledger.state import Office


@dataclass(frozen=True, slots=True)
class Replacement:
    """A verifier's place that is to be taken, by whom, and from when."""

    index: int
    next: str
    earliest: int


@dataclass(frozen=True, slots=True)
class Meter:
    """Final work of all runs of one operator or of one base model. Gflops are an estimate."""

    tokens: int
    gflops: int


class WholeLedger(Ledger):
    """The ledger with every function that a test calls.

    Example: `world.by("guardian").pause(3600)`
    """

    # ---------------------------------------------------------------- views

    def replacement(self, run_id: int) -> Replacement | None:
        """Return the replacement that is proposed, if one is."""
        found = Replacement(*self._call(self._ledger.functions.replacementOf(run_id)))
        return found if found.earliest else None

    def verifier_at(self, run_id: int, index: int) -> str:
        """Return who has a verifier's place, replaced or not."""
        verifier, _ = self._call(self._ledger.functions.verifierAt(run_id, index))
        return str(verifier)

    def require_quorum(self, run_id: int, digest: bytes, signatures: Mapping[str, bytes]) -> None:
        """Raise the refusal that a quorum's signatures over `digest` would meet now."""
        bitmap, signed = self._quorum(run_id, signatures)
        self._call(
            self._ledger.functions.requireQuorum(run_id, require_word(digest), bitmap, signed)
        )

    def meter(self, subject: str | bytes) -> Meter:
        """Return the final work of all runs of an operator (its address) or a base model (its digest)."""
        raw = subject if isinstance(subject, bytes) else Web3.to_bytes(hexstr=subject)
        return Meter(*self._call(self._ledger.functions.meterOf(raw.rjust(32, b"\0"))))

    def domain_separator(self) -> bytes:
        """Return the EIP-712 domain of headers, reports and work."""
        return bytes(self._call(self._ledger.functions.domainSeparator()))

    def at_risk(self, run_id: int, worker: str) -> int:
        """Return what is proposed or executed against a worker in a run."""
        return int(self._call(self._disputes.functions.atRiskOf(run_id, worker)))

    def bonds(self) -> int:
        """Return the bonds of all open disputes."""
        return int(self._call(self._registry.functions.bonds()))

    # ---------------------------------------------------------------- the council

    def next_pause_at(self) -> int:
        """Return from when on a guardian may pause again; zero before the first pause."""
        return int(self._call(self._council.functions.nextPauseAt()))

    @property
    def timelock(self) -> Any:
        """The council's administrator, as web3 sees it."""
        return self.node.contract("TimelockController", self.deployment.timelock)

    def schedule(self, office: Office, account: str, *, is_appointed: bool) -> int:
        """Announce an appointment or a dismissal, as the timelock's proposer; return when it is due."""
        words, timelock = self._operation(office, account, is_appointed), self.timelock
        delay = self._call(timelock.functions.getMinDelay())
        self._send(timelock.functions.schedule(*words, delay))
        digest = self._call(timelock.functions.hashOperation(*words))
        return int(self._call(timelock.functions.getTimestamp(digest)))

    def carry_out(self, office: Office, account: str, *, is_appointed: bool) -> MinedTransaction:
        """Carry out what was announced, once it is due, as the timelock's executor."""
        words = self._operation(office, account, is_appointed)
        return self._send(self.timelock.functions.execute(*words))

    def _operation(self, office: Office, account: str, is_appointed: bool) -> tuple[Any, ...]:
        words = (office.value, account)
        appoint = self._council.functions.grantRole(*words)
        dismiss = self._council.functions.revokeRole(*words)
        data = (appoint if is_appointed else dismiss)._encode_transaction_data()
        return (self._council.address, 0, data, bytes(32), bytes(32))
