"""What a worker keeps and proves about its pay, without trusting the orchestrator.

For one run: the files of its pending epochs and of the newest final one, so that a claim needs nothing
but this disk and a node; and a look at each pending epoch for own work that it skipped. Files are held
against the header on chain and never believed otherwise. Whatever a step cannot do is logged and done
in the next one.
"""

import threading
from collections.abc import Iterator
from pathlib import Path

import structlog

from audit.omissions import Due, Omission, omissions
from audit.published import Openable, Published
from client.public import MAX_EPOCH_BYTES, BlobMismatch, PublicRoutes
from client.retry import GiveUp, Unreachable
from ledger.errors import ContractError, LedgerError
from ledger.ledger import Ledger
from ledger.state import DisputeStatus, EpochState, Posting, RunState
from local.files import numbered, write_whole
from protocol.canonical import keccak256
from protocol.epoch import AccountLeaf, blob_of
from protocol.errors import MarketError, NotFound
from protocol.merkle import Tree
from protocol.messages import EpochFile
from protocol.user_error import one_line
from rollout_worker.pay.earnings import Earnings, earned_of
from rollout_worker.pay.receipts import ReceiptBook
from rollout_worker.pay.unposted import last_nonce_of


class EpochShelf:
    """A folder of one run's epoch files, named by epoch, each as its poster published it."""

    def __init__(self, folder: Path, run_id: int) -> None:
        self._folder = folder
        self._run_id = run_id
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, epoch: int) -> Path:
        return self._folder / f"run-{self._run_id}-epoch-{epoch}.bin"

    def put(self, epoch: int, data: bytes) -> None:
        write_whole(self.path(epoch), data)

    def get(self, epoch: int, header_hash: bytes) -> Published | None:
        """Return an epoch's file, or None where none here leads to this header."""
        try:
            data = self.path(epoch).read_bytes()
        except FileNotFoundError:
            return None
        return published(data, header_hash)

    def drop_before(self, epoch: int) -> None:
        """Remove what an account tree, which is cumulative, has made superfluous."""
        for number, path in numbered(self._folder, f"run-{self._run_id}-epoch-", ".bin").items():
            if number < epoch:
                path.unlink()


def published(data: bytes, header_hash: bytes) -> Published | None:
    """Return what a file tells, or None unless the header with this hash commits to all of it."""
    try:
        found = Published.of(EpochFile.from_canonical(data))
    except (MarketError, ValueError):
        return None
    header = found.header(keccak256(data))
    return found if header.struct_hash() == header_hash else None


class Bookkeeper:
    """Keeps one run's books for one worker."""

    def __init__(
        self,
        ledger: Ledger,
        routes: PublicRoutes,
        *,
        run_id: int,
        worker: str,
        receipts: ReceiptBook,
        folder: Path,
        proves: bool,
        give_up: GiveUp,
    ) -> None:
        self._ledger = ledger
        self._routes = routes
        self._run_id = run_id
        self._worker = worker
        self._receipts = receipts
        self._shelf = EpochShelf(folder, run_id)
        self._proves = proves
        self._give_up = give_up
        self._examined: set[bytes] = set()
        self._disputes: set[bytes] = set()
        self._cursor = ledger.events()
        self._uris: dict[bytes, str] = {}
        self._paid_nonce: int | None = None
        self._state: RunState | None = None
        self._earned: dict[int, int] = {}
        """This worker's units up to each epoch whose file was seen."""
        self._log = structlog.get_logger().bind(run=run_id)

    def step(self) -> None:
        """Fetch what is new on chain, show what was skipped, drop what is superfluous."""
        self._end_disputes()
        self._state = state = self._ledger.run(self._run_id)
        if not state.num_posted:
            self._paid_nonce = 0
        for epoch in range(max(0, state.num_final - 1), state.num_posted):
            chain = self._ledger.epoch(self._run_id, epoch)
            found = self._file(epoch, chain)
            if found is not None:
                self._earned[epoch] = earned_of(found.accounts, self._worker)
            if found is not None and epoch == state.num_posted - 1:
                self._paid_nonce = last_nonce_of(found.accounts, self._worker)
            if found is None or epoch < state.num_final or not self._proves:
                continue
            if chain.header_hash not in self._examined:
                self._examine(chain, found)
        self._shelf.drop_before(state.num_final - 1)

    def unposted(self) -> tuple[int, int]:
        """Return how many groups were taken and are in no posted epoch that was seen, and their tokens."""
        if self._paid_nonce is None:
            return 0, 0  # not looked yet
        return self._receipts.promised_above(self._run_id, self._paid_nonce)

    def earnings(self) -> Earnings | None:
        """Return what was earned by stage, as of the last step; None before the first."""
        state = self._state
        if state is None:
            return None
        final = self._earned.get(state.num_final - 1, 0)
        posted = self._earned.get(state.num_posted - 1, final)
        claimed = self._ledger.claimed(self._run_id, self._worker)
        return Earnings(
            accepted=self.unposted()[1] * state.rate,
            in_challenge=max(0, posted - final) * state.rate,
            claimable=max(0, final * state.rate - claimed),
            claimed=claimed,
        )

    def _file(self, epoch: int, chain: EpochState) -> Published | None:
        """Return an epoch's file from this disk, else from the market; None where neither has it."""
        found = self._shelf.get(epoch, chain.header_hash)
        if found is not None:
            return found
        for digest in self._digests(epoch, chain.header_hash):
            try:
                data = self._routes.blob(
                    digest, max_bytes=MAX_EPOCH_BYTES, kind="epoch", give_up=self._give_up
                )
            except (NotFound, BlobMismatch):
                continue
            found = published(data, chain.header_hash)
            if found is not None:
                self._shelf.put(epoch, data)
                return found
        return None

    def _digests(self, epoch: int, header_hash: bytes) -> Iterator[bytes]:
        """Yield where an epoch's file may be: as the market says, then as whoever posted it said."""
        yield self._routes.epoch(self._run_id, epoch, give_up=self._give_up).file
        for event in self._cursor.poll():
            if event.name == "EpochPosted" and event.values["runId"] == self._run_id:
                self._uris[bytes(event.values["headerHash"])] = str(event.values["dataURI"])
        named = blob_of(self._uris.get(header_hash, ""))
        if named is not None:
            yield named

    def _examine(self, chain: EpochState, found: Published) -> None:
        """Show one omission: unanswered it voids the epoch, and with it whatever else was skipped."""
        before = self._accounts_before(found.file.epoch)
        if before is None:
            return
        header = found.header(keccak256(found.file.canonical()))
        due = Due(
            posted_at=chain.posted_at,
            overdue_at=chain.opened_at - self._ledger.run(self._run_id).settle_window,
            is_owed=lambda at: self._ledger.is_owed(self._run_id, at),
        )
        skipped = next(
            omissions(self._receipts.promises(self._run_id), found.under(header), before, due),
            None,
        )
        if skipped is not None and not self._is_accused():
            self._disputes.add(self._show(skipped))
        self._examined.add(chain.header_hash)

    def _accounts_before(self, epoch: int) -> Openable[AccountLeaf] | None:
        if epoch == 0:
            return Openable.whole((), Tree([]))
        found = self._file(epoch - 1, self._ledger.epoch(self._run_id, epoch - 1))
        return Openable.whole(found.accounts, found.account_tree) if found else None

    def _is_accused(self) -> bool:
        """Whether the omission would be answered: a worker that stands accused is not owed its work."""
        return self._ledger.is_reported(self._run_id, self._worker)

    def _show(self, skipped: Omission) -> bytes:
        """Open the dispute and return its id, also where it was opened before a restart."""
        evidence = (skipped.work, skipped.receipt, skipped.around, skipped.before)
        try:
            dispute_id = self._ledger.prove_omission(skipped.header, *evidence)
        except ContractError as error:
            if error.name != "WrongDispute":
                raise
            return bytes(error.values["disputeId"])
        epoch, nonce = skipped.header.epoch, skipped.work.nonce
        self._log.warning("omission shown", epoch=epoch, nonce=nonce)
        return dispute_id

    def _end_disputes(self) -> None:
        """Have own disputes decided once their time is up, or at once where the epoch is gone."""
        for dispute_id in sorted(self._disputes):
            dispute = self._ledger.dispute(dispute_id)
            if dispute.status is DisputeStatus.OPEN:
                stands, _ = self._ledger.posting(self._run_id, dispute.epoch, dispute.header_hash)
                is_due = self._ledger.block_time() >= dispute.deadline
                if stands is Posting.PENDING and not is_due:
                    continue
                self._ledger.expire(dispute_id)
            self._disputes.remove(dispute_id)
            ended = self._ledger.dispute(dispute_id).status.name.lower()
            self._log.info("omission decided", epoch=dispute.epoch, status=ended)


def keep_books(bookkeeper: Bookkeeper, stop: threading.Event, *, seconds: float) -> None:
    """Take steps until told to stop; a failed one is logged when its reason is new."""
    log = structlog.get_logger()
    said = ""
    while not stop.wait(seconds):
        try:
            bookkeeper.step()
            said = ""
        except Unreachable:
            return
        except (MarketError, LedgerError) as error:
            if (told := one_line(error)) != said:
                said = told
                log.warning("books not kept", reason=said)
