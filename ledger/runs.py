"""`RunLedger` in Python: runs, permits, halting, epochs, claims, verifiers' replacement."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple

from ledger.calls import Door, only, ordered, require_word
from ledger.node import MinedTransaction
from ledger.state import AccountOpening, EpochState, Posting, RunParams, RunState
from protocol.epoch import AccountLeaf, EpochHeader


class Runs(Door):
    """The ledger's functions. Amounts are in wei of the run's token."""

    # ---------------------------------------------------------------- money and people

    def create_run(self, params: RunParams, budget: int, spec_uri: str) -> int:
        """Create a run, escrowing `budget`; return its id."""
        call = self._ledger.functions.createRun(params.as_struct(), budget, spec_uri)
        receipt = self._deposit(params.token, budget, self._ledger, call)
        return int(only(receipt, "RunCreated", self._ledger).values["runId"])

    def fund_run(self, run_id: int, amount: int) -> MinedTransaction:
        """Add to a run's budget."""
        call = self._ledger.functions.fundRun(run_id, amount)
        return self._deposit(self.run(run_id).token, amount, self._ledger, call)

    def join_run(self, run_id: int, evidence: bytes = b"") -> MinedTransaction:
        """Join as a worker, exposing up to the run's minimum stake to its reports."""
        return self._send(self._ledger.functions.joinRun(run_id, evidence))

    def claim(
        self, run_id: int, epoch: int, account: AccountLeaf, index: int, proof: Sequence[bytes]
    ) -> int:
        """Have a worker paid by a final epoch; return the amount. Any account may send it."""
        opening = AccountOpening(account, index, tuple(proof))
        receipt = self._send(self._ledger.functions.claim(run_id, epoch, opening.as_struct()))
        return int(only(receipt, "Claimed", self._ledger).values["amount"])

    def withdraw_credit(self, token: str) -> MinedTransaction:
        """Withdraw this account's refunds."""
        return self._send(self._ledger.functions.withdrawCredit(token))

    # ---------------------------------------------------------------- permits and halting

    def renew_permit(self, run_id: int) -> int:
        """Renew a permit that has not lapsed, as the operator or its hot key; return its end."""
        receipt = self._send(self._ledger.functions.renewPermit(run_id))
        return int(only(receipt, "PermitRenewed", self._ledger).values["permitUntil"])

    def lapse_run(self, run_id: int) -> MinedTransaction:
        """Record that a permit has lapsed. Anyone may."""
        return self._send(self._ledger.functions.lapseRun(run_id))

    def halt_run(self, run_id: int, reason: bytes = bytes(32)) -> MinedTransaction:
        """Halt (operator), or vote to (steward)."""
        return self._send(self._ledger.functions.haltRun(run_id, require_word(reason)))

    def resume_run(self, run_id: int) -> MinedTransaction:
        """Resume one's own halt or lapse, or vote to (steward)."""
        return self._send(self._ledger.functions.resumeRun(run_id))

    def stop_run(self, run_id: int) -> MinedTransaction:
        """End the run for good."""
        return self._send(self._ledger.functions.stopRun(run_id))

    def close_run(self, run_id: int) -> int:
        """Close a stopped run; return what it never committed, which waits for receipts."""
        receipt = self._send(self._ledger.functions.closeRun(run_id))
        return int(only(receipt, "RunClosed", self._ledger).values["uncommitted"])

    # ---------------------------------------------------------------- epochs

    def open_epoch(self, run_id: int, secret_hash: bytes) -> int:
        """Open the next epoch under its secret's keccak256; return its number."""
        receipt = self._send(self._ledger.functions.openEpoch(run_id, require_word(secret_hash)))
        return int(only(receipt, "EpochOpened", self._ledger).values["epoch"])

    def post_epoch(
        self, header: EpochHeader, secret: bytes, signatures: Mapping[str, bytes], data_uri: str
    ) -> MinedTransaction:
        """Post an epoch. `signatures` are keyed by verifier identity, not by hot key."""
        bitmap, signed = self._quorum(header.run_id, signatures)
        words = (astuple(header), require_word(secret), bitmap, signed, data_uri)
        return self._send(self._ledger.functions.postEpoch(*words))

    def retract_epoch(
        self, run_id: int, epoch: int, signatures: Mapping[str, bytes]
    ) -> MinedTransaction:
        """Take back a pending epoch and all later ones, under signatures over `RetractEpoch`."""
        bitmap, signed = self._quorum(run_id, signatures)
        return self._send(self._ledger.functions.retractEpoch(run_id, epoch, bitmap, signed))

    def advance(self, run_id: int) -> MinedTransaction:
        """Make final every epoch whose challenge window has passed and that nothing holds."""
        return self._send(self._ledger.functions.advance(run_id))

    # ---------------------------------------------------------------- verifiers

    def propose_replacement(self, run_id: int, index: int, following: str) -> MinedTransaction:
        """Name who takes the place of a verifier that is short of stake. Operator only."""
        return self._send(self._ledger.functions.proposeReplacement(run_id, index, following))

    def replace_verifier(self, run_id: int) -> MinedTransaction:
        """Carry out a replacement once its time has come. Anyone may."""
        return self._send(self._ledger.functions.replaceVerifier(run_id))

    # ---------------------------------------------------------------- reading

    def run(self, run_id: int) -> RunState:
        """Return a run's state."""
        return self._call(self._ledger.functions.runOf(run_id), lambda found: RunState.of(*found))

    def seats(self, run_id: int) -> dict[str, int]:
        """Return everyone who ever had a verifier's place, with the seat that it speaks for.

        Whoever takes a place has the seat of the one before: of one seat one verdict counts.
        """
        run = self.run(run_id)
        if not run.replaced:
            return {who: place for place, who in enumerate(run.roster)}
        at = self._ledger.functions.verifierAt
        found = (self._call(at(run_id, place)) for place in range(len(run.roster)))
        return {str(who): int(seat) for who, seat in found}

    def num_runs(self) -> int:
        """Return how many runs exist; their ids are 1 to that."""
        return int(self._call(self._ledger.functions.numRuns()))

    def epoch(self, run_id: int, epoch: int) -> EpochState:
        """Return an epoch's state."""
        return self._call(
            self._ledger.functions.epochOf(run_id, epoch), lambda found: EpochState(*found)
        )

    def posting(self, run_id: int, epoch: int, header_hash: bytes) -> tuple[Posting, int]:
        """Return where the header with this hash stands, and the bitmap of who signed it."""
        call = self._ledger.functions.postingOf(run_id, epoch, require_word(header_hash))
        return self._call(call, lambda found: (Posting(found[0]), int(found[1])))

    def is_owed(self, run_id: int, at: int) -> bool:
        """Return whether work dated `at` is owed: neither in a halt nor past a permit or the cap."""
        return bool(self._call(self._ledger.functions.isOwed(run_id, at)))

    def is_joined(self, run_id: int, worker: str) -> bool:
        """Return whether a worker joined a run."""
        return bool(self._call(self._ledger.functions.isJoined(run_id, worker)))

    def claimed(self, run_id: int, worker: str) -> int:
        """Return what a run has paid a worker, in token wei."""
        return int(self._call(self._ledger.functions.claimedOf(run_id, worker)))

    def credit(self, account: str, token: str) -> int:
        """Return refunds that `account` may withdraw."""
        return int(self._call(self._ledger.functions.creditOf(account, token)))

    def _quorum(self, run_id: int, signatures: Mapping[str, bytes]) -> tuple[int, list[bytes]]:
        return ordered(self.run(run_id).places, signatures, f"run {run_id}")
