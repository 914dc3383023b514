"""Fold the chain's events into where each posting and dispute stands now.

Pure. A contract's view tells the newest state of a posting that one already knows of; only events tell
which there are.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from ledger.events import LedgerEvent
from ledger.state import DisputeKind
from protocol.epoch import AccountLeaf, WorkLeaf
from protocol.rollout import Work
from protocol.signing import hash_struct


class Fate(StrEnum):
    """What became of a posted header. Retracted ones can still be proven false for a while."""

    PENDING = "pending"
    FINAL = "final"
    VOIDED = "voided"
    RETRACTED = "retracted"


@dataclass(frozen=True, slots=True)
class Posted:
    """One posted header, as its event tells it."""

    run_id: int
    epoch: int
    generation: int
    header_hash: bytes
    account_root: bytes
    data_hash: bytes
    uri: str
    secret: bytes
    cost: int
    final_at: int
    transaction: str
    fate: Fate = Fate.PENDING

    @property
    def is_disputable(self) -> bool:
        return self.fate in (Fate.PENDING, Fate.RETRACTED)

    @property
    def pays(self) -> bool:
        return self.fate in (Fate.PENDING, Fate.FINAL)

    @property
    def key(self) -> bytes:
        return self.header_hash

    @property
    def facts(self) -> dict[str, int | str]:
        """What a log says of it."""
        return {"run_id": self.run_id, "epoch": self.epoch}


@dataclass(frozen=True, slots=True)
class OwedClaim:
    """Work that its worker claims by a receipt, as its event tells it."""

    work: Work

    @property
    def run_id(self) -> int:
        return self.work.run_id

    @property
    def key(self) -> bytes:
        return hash_struct(self.work)

    @property
    def facts(self) -> dict[str, int | str]:
        """What a log says of it."""
        return {"run_id": self.run_id, "worker": self.work.worker, "nonce": self.work.nonce}


@dataclass(frozen=True, slots=True)
class WorkAnswer:
    """A work leaf that was opened on demand."""

    place: int
    leaf: WorkLeaf
    signature: bytes
    proof: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class AccountAnswer:
    """An account leaf that was opened on demand."""

    place: int
    leaf: AccountLeaf
    proof: tuple[bytes, ...]


@dataclass(slots=True)
class Dispute:
    """One dispute and what has been answered to it."""

    dispute_id: bytes
    header_hash: bytes
    run_id: int
    epoch: int
    kind: DisputeKind
    by: str
    deadline: int
    indices: tuple[int, ...]
    subject: bytes
    """Of an omission, the struct hash of the work; of an escalation, its reason."""
    is_open: bool = True
    work: list[WorkAnswer] = field(default_factory=list)
    accounts: list[AccountAnswer] = field(default_factory=list)

    @property
    def answered(self) -> set[int]:
        return {a.place for a in self.work} | {a.place for a in self.accounts}


class History:
    """Postings by header hash and disputes by id.

    Example:
        history = History.of(journal.events)
        for posted in history.disputable(): ...
    """

    def __init__(self) -> None:
        self.postings: dict[bytes, Posted] = {}
        self.disputes: dict[bytes, Dispute] = {}
        self.claims: dict[bytes, OwedClaim] = {}
        self._standing: dict[tuple[int, int], bytes] = {}

    @classmethod
    def of(cls, events: Iterable[LedgerEvent]) -> "History":
        history = cls()
        for event in events:
            history.fold(event)
        return history

    def fold(self, event: LedgerEvent) -> None:
        """Take the next event."""
        values = event.values
        match event.name:
            case "EpochPosted":
                posted = _posted(event)
                self.postings[posted.header_hash] = posted
                self._standing[posted.run_id, posted.epoch] = posted.header_hash
            case "EpochFinal":
                self._move(values, Fate.FINAL)
            case "EpochVoided":
                self._move(values, Fate.VOIDED)
            case "EpochRetracted":
                self._decide(bytes(values["headerHash"]), Fate.RETRACTED)
            case "FraudProven":
                self._decide(bytes(values["headerHash"]), Fate.VOIDED)
            case "EpochReleased":
                self._prolong(values)
            case "Disputed" | "WorkAnswered" | "AccountAnswered" | "DisputeClosed":
                self._dispute(event.name, values)
            case "OwedClaimed":
                claim = _owed_claim(values)
                self.claims[claim.key] = claim
            case "OwedAnswered" | "OwedPaid":
                self._end_claims(values)

    def disputable(self) -> list[Posted]:
        """Return the headers that can be proven false, each run's earliest epoch first."""
        found = [posted for posted in self.postings.values() if posted.is_disputable]
        return sorted(found, key=lambda posted: (posted.run_id, posted.epoch))

    def paying(self, run_id: int, epoch: int) -> Posted | None:
        """Return the posting that stands for an epoch now."""
        header_hash = self._standing.get((run_id, epoch))
        return None if header_hash is None else self.postings[header_hash]

    def about(self, header_hash: bytes) -> list[Dispute]:
        return [d for d in self.disputes.values() if d.header_hash == header_hash]

    def _end_claims(self, values: Mapping[str, Any]) -> None:
        """Forget a worker's claims in a run, or those of one nonce."""
        ended = {key: str(values[key]) for key in ("runId", "worker", "nonce") if key in values}
        for key, claim in list(self.claims.items()):
            work = claim.work
            told = {"runId": work.run_id, "worker": work.worker, "nonce": work.nonce}
            if all(str(told[name]) == value for name, value in ended.items()):
                del self.claims[key]

    def _move(self, values: Mapping[str, Any], fate: Fate) -> None:
        """Decide the pending posting of an epoch; a retracted one is no longer pending."""
        posted = self._pending(values)
        if posted is not None:
            self._decide(posted.header_hash, fate)

    def _decide(self, header_hash: bytes, fate: Fate) -> None:
        posted = self.postings.get(header_hash)
        if posted is None:
            return
        self.postings[header_hash] = replace(posted, fate=fate)
        place = (posted.run_id, posted.epoch)
        if fate is not Fate.FINAL and self._standing.get(place) == header_hash:
            del self._standing[place]

    def _prolong(self, values: Mapping[str, Any]) -> None:
        posted = self._pending(values)
        if posted is not None:
            later = replace(posted, final_at=int(values["finalAt"]))
            self.postings[posted.header_hash] = later

    def _pending(self, values: Mapping[str, Any]) -> Posted | None:
        posted = self.paying(int(values["runId"]), int(values["epoch"]))
        return posted if posted is not None and posted.fate is Fate.PENDING else None

    def _dispute(self, name: str, values: Mapping[str, Any]) -> None:
        dispute_id = bytes(values["disputeId"])
        if name == "Disputed":
            posted = self._pending(values)
            if posted is not None:
                self.disputes[dispute_id] = _disputed(posted, values)
            return
        dispute = self.disputes.get(dispute_id)
        if dispute is None:
            return
        match name:
            case "WorkAnswered":
                dispute.work.append(_work_answer(values))
            case "AccountAnswered":
                dispute.accounts.append(_account_answer(values))
            case _:
                dispute.is_open = False


def _posted(event: LedgerEvent) -> Posted:
    values = event.values
    return Posted(
        run_id=int(values["runId"]),
        epoch=int(values["epoch"]),
        generation=int(values["generation"]),
        header_hash=bytes(values["headerHash"]),
        account_root=bytes(values["accountRoot"]),
        data_hash=bytes(values["dataHash"]),
        uri=str(values["dataURI"]),
        secret=bytes(values["secret"]),
        cost=int(values["cost"]),
        final_at=int(values["finalAt"]),
        transaction=event.transaction_hash,
    )


def _disputed(posted: Posted, values: Mapping[str, Any]) -> Dispute:
    return Dispute(
        dispute_id=bytes(values["disputeId"]),
        header_hash=posted.header_hash,
        run_id=posted.run_id,
        epoch=posted.epoch,
        kind=DisputeKind(values["kind"]),
        by=str(values["by"]),
        deadline=int(values["deadline"]),
        indices=tuple(int(index) for index in values["indices"]),
        subject=bytes(values["reason"]),
    )


def _owed_claim(values: Mapping[str, Any]) -> OwedClaim:
    work: Mapping[str, Any] | Sequence[Any] = values["work"]
    fields = work.values() if isinstance(work, Mapping) else work
    return OwedClaim(Work(**dict(zip(Work.model_fields, fields, strict=True))))


def _work_answer(values: Mapping[str, Any]) -> WorkAnswer:
    leaf: Mapping[str, Any] | Sequence[Any] = values["leaf"]
    fields = leaf.values() if isinstance(leaf, Mapping) else leaf
    return WorkAnswer(
        place=int(values["index"]),
        leaf=WorkLeaf(*fields),
        signature=bytes(values["signature"]),
        proof=tuple(bytes(word) for word in values["proof"]),
    )


def _account_answer(values: Mapping[str, Any]) -> AccountAnswer:
    leaf = AccountLeaf(str(values["worker"]), int(values["earned"]), int(values["lastNonce"]))
    proof = tuple(bytes(word) for word in values["proof"])
    return AccountAnswer(place=int(values["index"]), leaf=leaf, proof=proof)
