"""`Disputes` in Python: fraud proofs, demands, omissions, escalations, reports and appeals."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, replace
from typing import Any

from web3 import Web3

from ledger.calls import only, ordered, require_word
from ledger.node import MinedTransaction
from ledger.owed import Owing, work_struct
from ledger.state import (
    AccountOpening,
    Condemnation,
    DisputeKind,
    DisputeState,
    RunState,
    SlashState,
    WorkOpening,
)
from protocol.epoch import EpochHeader, FraudReport
from protocol.rollout import Receipt, Work


class Disputing(Owing):
    """The disputes' functions. The registry is allowed exactly the bond, before it is needed."""

    # ---------------------------------------------------------------- proofs

    def prove_bad_leaf(
        self, header: EpochHeader, work: WorkOpening, signature: bytes = b""
    ) -> MinedTransaction:
        """Show that a leaf is false by itself or, with the `signature` it names, not signed."""
        call = self._disputes.functions.proveBadLeaf(astuple(header), work.as_struct(), signature)
        return self._send(call)

    def prove_bad_pair(
        self, header: EpochHeader, left: WorkOpening, right: WorkOpening
    ) -> MinedTransaction:
        """Show neighbours that are out of order or whose running sums do not follow."""
        leaves = (left.as_struct(), right.as_struct())
        return self._send(self._disputes.functions.proveBadPair(astuple(header), *leaves))

    def prove_bad_edge(self, header: EpochHeader, work: WorkOpening) -> MinedTransaction:
        """Show a first leaf whose sums are not its own, or a last one's that are not the header's."""
        return self._send(self._disputes.functions.proveBadEdge(astuple(header), work.as_struct()))

    def prove_duplicate(
        self, header: EpochHeader, work: WorkOpening, other: EpochHeader, other_work: WorkOpening
    ) -> MinedTransaction:
        """Show two leaves with one payload, or one (worker, nonce); `header` is voided."""
        words = (astuple(header), work.as_struct(), astuple(other), other_work.as_struct())
        return self._send(self._disputes.functions.proveDuplicate(*words))

    def prove_stale_nonce(
        self, header: EpochHeader, work: WorkOpening, before: AccountOpening
    ) -> MinedTransaction:
        """Show a leaf whose nonce is not after the last one its worker was paid for."""
        words = (astuple(header), work.as_struct(), before.as_struct())
        return self._send(self._disputes.functions.proveStaleNonce(*words))

    def prove_account_order(
        self, header: EpochHeader, left: AccountOpening, right: AccountOpening
    ) -> MinedTransaction:
        """Show neighbouring accounts that do not ascend strictly."""
        words = (astuple(header), left.as_struct(), right.as_struct())
        return self._send(self._disputes.functions.proveAccountOrder(*words))

    def prove_bad_account(
        self,
        header: EpochHeader,
        worker: str,
        before: Sequence[AccountOpening],
        work: Sequence[WorkOpening],
        account: Sequence[AccountOpening],
    ) -> MinedTransaction:
        """Show an account that is not the one before plus the worker's work."""
        openings = (_structs(before), _structs(work), _structs(account))
        who = Web3.to_checksum_address(worker)
        return self._send(self._disputes.functions.proveBadAccount(astuple(header), who, *openings))

    # ---------------------------------------------------------------- under a bond

    def demand(self, header: EpochHeader, kind: DisputeKind, indices: Sequence[int]) -> bytes:
        """Demand that leaves be opened on chain; return the dispute's id."""
        call = self._disputes.functions.demand(astuple(header), kind, list(indices))
        return self._dispute(call, len(indices) * self.bond_of(header.run_id))

    def answer_work(  # noqa: PLR0917 - the contract's own order
        self,
        dispute_id: bytes,
        header: EpochHeader,
        indices: Sequence[int],
        slots: Sequence[int],
        work: Sequence[WorkOpening],
        signatures: Sequence[bytes],
    ) -> MinedTransaction:
        """Open demanded work leaves with their signatures; `slots` are their places in `indices`."""
        asked = (require_word(dispute_id), astuple(header), list(indices), list(slots))
        call = self._disputes.functions.answerWork(*asked, _structs(work), list(signatures))
        return self._send(call)

    def answer_accounts(
        self,
        dispute_id: bytes,
        header: EpochHeader,
        indices: Sequence[int],
        slots: Sequence[int],
        accounts: Sequence[AccountOpening],
    ) -> MinedTransaction:
        """Open demanded account leaves; `slots` are their places in `indices`."""
        asked = (require_word(dispute_id), astuple(header), list(indices), list(slots))
        return self._send(self._disputes.functions.answerAccounts(*asked, _structs(accounts)))

    def prove_omission(
        self,
        header: EpochHeader,
        work: Work,
        receipt: Receipt,
        around: Sequence[WorkOpening],
        before: Sequence[AccountOpening],
    ) -> bytes:
        """Show that an epoch skipped work with a signed receipt; return the dispute's id."""
        promise = (work_struct(work), receipt.received_at)
        openings = (_structs(around), _structs(before))
        call = self._disputes.functions.proveOmission(
            astuple(header), promise, receipt.signature, *openings
        )
        return self._dispute(call, self.bond_of(header.run_id))

    def answer_omission(
        self,
        dispute_id: bytes,
        run_id: int = 0,
        work_hash: bytes = bytes(32),
        verdicts: Sequence[Condemnation] = (),
    ) -> MinedTransaction:
        """Answer that the worker stands accused, or else by a quorum's verdicts on the run's work."""
        shown = [astuple(verdict) for verdict in verdicts]
        words = (require_word(dispute_id), run_id, require_word(work_hash), shown)
        return self._send(self._disputes.functions.answerOmission(*words))

    def escalate(self, header: EpochHeader, reason: bytes) -> bytes:
        """Hold an epoch until an arbiter rules; return the dispute's id."""
        call = self._disputes.functions.escalate(astuple(header), require_word(reason))
        return self._dispute(call, self._min_stake(header.run_id))

    def rule(self, dispute_id: bytes, is_fraud: bool) -> MinedTransaction:
        """Rule on an escalation, as an arbiter."""
        return self._send(self._disputes.functions.rule(require_word(dispute_id), is_fraud))

    def expire(self, dispute_id: bytes) -> MinedTransaction:
        """Decide a dispute whose time is up, or that is moot."""
        return self._send(self._disputes.functions.expire(require_word(dispute_id)))

    def dispute(self, dispute_id: bytes) -> DisputeState:
        """Return a dispute's state."""
        return self._call(self._disputes.functions.disputeOf(dispute_id), DisputeState.of)

    def bond_of(self, run_id: int) -> int:
        """Return the bond for each demanded leaf, and for an omission, in a run."""
        stake = self._min_stake(run_id)
        call = self._disputes.functions.BONDS_PER_STAKE()
        return self._call(call, lambda parts: stake // int(parts))

    # ---------------------------------------------------------------- slashing

    def propose_slash(self, report: FraudReport, signatures: Mapping[str, bytes]) -> bytes:
        """Report a worker under verifiers' signatures, keyed by identity; return the slash id."""
        run = self._call(
            self._ledger.functions.runOf(report.run_id), lambda found: RunState.of(*found)
        )
        bitmap, signed = ordered(run.places, signatures, f"run {report.run_id}")
        # Contracts take addresses in checksummed spelling only.
        spelled = replace(report, worker=Web3.to_checksum_address(report.worker))
        call = self._disputes.functions.proposeSlash(astuple(spelled), bitmap, signed)
        return bytes(only(self._send(call), "SlashProposed", self._disputes).values["slashId"])

    def appeal_slash(self, slash_id: bytes, reason: bytes = bytes(32)) -> MinedTransaction:
        """Appeal, as the accused or one of its hot keys."""
        return self._send(self._disputes.functions.appealSlash(slash_id, require_word(reason)))

    def execute_slash(self, slash_id: bytes) -> MinedTransaction:
        """Take the stake when nobody appealed in time."""
        return self._send(self._disputes.functions.executeSlash(slash_id))

    def resolve_appeal(self, slash_id: bytes, is_guilty: bool) -> MinedTransaction:
        """Rule, as the arbiter."""
        return self._send(self._disputes.functions.resolveAppeal(slash_id, is_guilty))

    def expire_appeal(self, slash_id: bytes) -> MinedTransaction:
        """Acquit when the arbiter kept silent."""
        return self._send(self._disputes.functions.expireAppeal(slash_id))

    def slash(self, slash_id: bytes) -> SlashState:
        """Return an accusation's state."""
        return self._call(self._disputes.functions.slashOf(slash_id), SlashState.of)

    def slash_id(self, run_id: int, worker: str, work_digest: bytes) -> bytes:
        """Return the id an accusation over this work has or would have."""
        return bytes(self._call(self._disputes.functions.slashIdOf(run_id, worker, work_digest)))

    def is_reported(self, run_id: int, worker: str) -> bool:
        """Return whether a quorum ever reported a worker in a run, whatever became of it."""
        return bool(self._call(self._disputes.functions.isReported(run_id, worker)))

    def appeal_window(self) -> int:
        """Return for how many seconds an accusation can be appealed."""
        return int(self._call(self._disputes.functions.appealWindow()))

    def _min_stake(self, run_id: int) -> int:
        return int(self._call(self._ledger.functions.minStakeOf(run_id)))

    def _dispute(self, call: Any, bond: int) -> bytes:
        """Send a call that takes a bond; the registry pulls the bond, not the called contract."""
        receipt = self._deposit(self.deployment.token, bond, self._registry, call)
        return bytes(only(receipt, "Disputed", self._disputes).values["disputeId"])


def _structs(openings: Sequence[WorkOpening] | Sequence[AccountOpening]) -> list[tuple[Any, ...]]:
    return [opening.as_struct() for opening in openings]
