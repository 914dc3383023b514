"""Read what anyone can see of a market: the chain's events, the published files, the submissions.

Trusts nothing that it reads: `epoch.py` checks files against the chain's hashes, and leases against
signatures.
"""

from audit.history import Fate, History, Posted
from audit.published import Openable, Published, unknown
from client.public import Reader
from ledger.ledger import Ledger
from protocol.canonical import keccak256
from protocol.epoch import AccountLeaf, blob_of
from protocol.errors import MarketError
from protocol.messages import EpochFile, SubmissionStatus
from protocol.rollout import Submission, read_submission
from protocol.run import RunSpec
from protocol.user_error import UserError

INTERRUPTIONS = {"RunHalted": "cutoff", "RunLapsed": "permitUntil"}
"""Events after which a run owes no work, each with its field for the last owed second."""


class PublicRecord:
    """One ledger and one orchestrator, as anyone sees them at the moment it is made.

    Example: `PublicRecord(Reader(url), ledger).published(posted)`
    """

    def __init__(self, reader: Reader, ledger: Ledger) -> None:
        self.reader = reader
        self.ledger = ledger
        self.now = ledger.block_time()
        events = ledger.events().poll()
        self.history = History.of(events)
        self.claims: dict[int, dict[str, int]] = {}
        """Token wei paid so far, by run and worker."""
        self._interruptions: dict[int, list[int]] = {}
        for event in events:
            if event.name == "Claimed":
                run = self.claims.setdefault(int(event.values["runId"]), {})
                run[str(event.values["worker"])] = int(event.values["claimed"])
            elif event.name in INTERRUPTIONS:
                last_owed = int(event.values[INTERRUPTIONS[event.name]])
                self._interruptions.setdefault(int(event.values["runId"]), []).append(last_owed)
        self._published: dict[bytes, Published | str] = {}

    def run_ids(self, only: int | None) -> list[int]:
        """Return the runs to look at; raise `UserError` for one that is not there."""
        served = [info.run_id for info in self.reader.runs()]
        count = self.ledger.num_runs()
        strange = [run for run in served if run > count]
        if only is None and strange:
            raise UserError(
                f"{self.reader.url} serves run {strange[0]}, this ledger has {count}: name the "
                "ledger it works under with --deployment"
            )
        if only is None:
            return served
        if only in served and only <= count:
            return [only]
        listed = ", ".join(map(str, served)) or "none"
        raise UserError(f"{self.reader.url} serves no run {only}; it serves: {listed}")

    def spec(self, run_id: int) -> RunSpec:
        """Return the run's agreed terms; raise `UserError` if they are not those on chain."""
        spec = self.reader.run(run_id).spec
        require_agreed(self.reader.url, run_id, spec, self.ledger)
        return spec

    def epochs(self, run_id: int) -> list[Posted]:
        """Return the postings that stand, oldest epoch first."""
        found = (p for p in self.history.postings.values() if p.pays and p.run_id == run_id)
        return sorted(found, key=lambda posted: posted.epoch)

    def always_owed_until(self, run_id: int) -> int:
        """Return until when all of a run's work was owed; work accepted after that may be in no file."""
        state = self.ledger.run(run_id)
        ends = [*self._interruptions.get(run_id, []), state.permit_until]
        if state.settle_until:
            ends.append(state.settle_until - state.settle_window)
        return 0 if 0 < state.compute_cap <= state.gflops else min(ends)

    def num_final(self, run_id: int) -> int:
        return sum(posted.fate is Fate.FINAL for posted in self.epochs(run_id))

    def published(self, posted: Posted) -> Published | str:
        """Return a posting's file, or what is wrong with it."""
        if posted.data_hash not in self._published:
            self._published[posted.data_hash] = self._fetch(posted)
        return self._published[posted.data_hash]

    def read(self, posted: Posted) -> Published | None:
        """Return a posting's file, or None."""
        found = self.published(posted)
        return None if isinstance(found, str) else found

    def accounts_before(self, posted: Posted) -> Openable[AccountLeaf] | None:
        """Return the accounts that an epoch builds on, None if their file is not published."""
        if posted.epoch == 0:
            return unknown(0)
        before = self.history.paying(posted.run_id, posted.epoch - 1)
        published = self.read(before) if before else None
        if published is None:
            return None
        return Openable.whole(published.accounts, published.account_tree)

    def submission(
        self, run_id: int, digest: bytes, *, most_bytes: int
    ) -> tuple[SubmissionStatus, Submission]:
        """Return where a submission stands, and its body; raise `MarketError` if it is not shown."""
        status = self.reader.submission(run_id, digest)
        return status, read_submission(self.reader.blob(status.body), most_bytes)

    def _fetch(self, posted: Posted) -> Published | str:
        digest = blob_of(posted.uri)
        if digest is None:
            return f"the posting names no blob: {posted.uri[:80]!r}"
        try:
            data = self.reader.blob(digest)
        except MarketError as error:
            return f"the file is not published: {error.message}"
        if keccak256(data) != posted.data_hash:
            return f"the file hashes to 0x{keccak256(data).hex()}, not to the hash on chain"
        try:
            return Published.of(EpochFile.from_canonical(data))
        except (MarketError, ValueError) as error:
            return f"the file is no epoch file: {error}"


def require_agreed(url: str, run_id: int, spec: RunSpec, ledger: Ledger) -> None:
    """Raise `UserError` if the terms that an orchestrator shows are not those on chain."""
    shown, agreed = spec.canonical_digest(), ledger.run(run_id).spec_hash
    if shown != agreed:
        raise UserError(
            f"the terms that {url} shows for run {run_id} hash to 0x{shown.hex()}, the chain says "
            f"0x{agreed.hex()}: ask another"
        )
