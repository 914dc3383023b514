"""`rollcall owed`: what a worker's receipts promise and no epoch has, claimed on chain.

Needs the receipts and epoch files that the worker kept and a node, and no market. A run that goes on pays by
epochs: work overdue in it is claimed, and unanswered the claim ends the run. A closed run pays claims from
what it never committed. Each call takes the steps that are due and says when the next ones are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from protocol.user_error import UserError
from rollcall.cli.claim import KEPT
from rollcall.cli.desk import Desk, PlannedCall
from rollcall.cli.options import Books, at_books, example
from rollcall.cli.times import moment

if TYPE_CHECKING:
    from audit.omissions import KeptReceipt
    from ledger.state import OwedDates, RunState
    from protocol.messages import EpochFile
    from protocol.rollout import Work
    from rollout_worker.pay.unposted import Unposted

RECEIPTS = "receipts"
"""File in a worker's data_dir of the receipts that it holds."""

RECEIPTS_PER_TRANSACTION = 50
"""About 50,000 gas each: one transaction stays under three million."""
commands = typer.Typer()


@at_books(commands, "owed", example("rollcall owed --config worker.toml"), needs_config=True)
def owed_command(books: Books) -> None:
    """Show what the worker was promised and no epoch has, and claim it where it is due.

    Needs no market: the receipts and epoch files on this disk, and a node. A run that does not answer for
    overdue work is ended; a closed one pays claims before its operator gets the rest back.
    """
    from rollcall.cli.epoch_files import from_files

    assert books.data_dir is not None
    kept = books.file or books.data_dir / KEPT
    with books.desk() as desk:
        files = from_files(desk, kept) if books.file or kept.exists() else ()
        claim_owed(desk, books.data_dir / RECEIPTS, files, worker=books.worker, only=books.run)


def claim_owed(
    desk: Desk, book: Path, files: Iterable[EpochFile], *, worker: str | None, only: int | None
) -> None:
    """Take every step that is due for what no epoch has, run by run."""
    from rollout_worker.pay.receipts import ReceiptBook

    who, kept = desk.whose(worker), list(files)
    promises = [k for k in ReceiptBook(book).all() if not k.receipt.rejection]
    mine = sorted((k for k in promises if k.work.worker == who), key=lambda k: k.work.run_id)
    if not mine:
        raise UserError(f"{book} has no receipt of {who}: name its data_dir with --config")
    for run_id, group in groupby(mine, key=lambda k: k.work.run_id):
        if only in (None, run_id):
            _Case(desk, run_id, who, list(group), kept).step()


def of_run(
    desk: Desk, run_id: int, who: str, promises: Iterable[KeptReceipt], files: Iterable[EpochFile]
) -> Unposted:
    """Return what no posted epoch has, by the newest one's own file, and by earlier ones as far as they are here."""
    from rollout_worker.pay.unposted import is_skipped, unposted

    files = list(files)
    posted = _posted(desk, run_id, files)
    return unposted(
        promises,
        last_nonce=_last_nonce(desk, run_id, who, files),
        skipped=lambda nonce: is_skipped(posted, who, nonce),
    )


def _last_nonce(desk: Desk, run_id: int, who: str, files: Iterable[EpochFile]) -> int:
    from protocol.epoch import account_root, accounts_of
    from rollout_worker.pay.unposted import last_nonce_of

    newest = desk.run(run_id).num_posted - 1
    if newest < 0:
        return 0
    root = desk.ledger.epoch(run_id, newest).account_root
    for file in files:
        if (file.run_id, file.epoch) == (run_id, newest):
            leaves = accounts_of(file)
            if account_root(leaves) == root:
                return last_nonce_of(leaves, who)
    raise UserError(
        f"the file of epoch {newest} of run {run_id} is not here, and a claim for what it paid costs "
        "stake: get it from the orchestrator or another worker, and name it with --file"
    )


def _posted(desk: Desk, run_id: int, files: Iterable[EpochFile]) -> dict[int, EpochFile]:
    """Return the run's files, by epoch, whose headers are the posted ones."""
    from protocol.epoch import header_of

    found = {}
    for file in files:
        if file.run_id == run_id and file.epoch < desk.run(run_id).num_posted:
            try:
                header = header_of(file, file.canonical())
            except ValueError:
                continue  # its leaves do not ascend: no quorum signed it
            if header.struct_hash() == desk.ledger.epoch(run_id, file.epoch).header_hash:
                found[file.epoch] = file
    return found


class _Case:
    """One run's unposted work and where the run stands."""

    def __init__(
        self,
        desk: Desk,
        run_id: int,
        who: str,
        promises: Sequence[KeptReceipt],
        files: Sequence[EpochFile],
    ) -> None:
        self._desk, self._ledger = desk, desk.ledger
        self._run_id, self._who = run_id, who
        self._run: RunState = desk.run(run_id)
        self._token = desk.token_at(self._run.token)
        self._dates: OwedDates | None = self._ledger.owed_dates(run_id)
        self._unposted = of_run(desk, run_id, who, promises, files)

    def step(self) -> None:
        from ledger.state import LedgerStatus

        found, run = self._unposted, self._run
        amount = self._token.show(found.units * run.rate)
        self._say(f"{len(found)} groups are in no epoch: {found.units:,} units, {amount}")
        if self._ledger.is_reported(self._run_id, self._who):
            self._say("a quorum reported this worker: what no epoch has is not owed to it")
        elif self._dates is not None:
            self._from_closed(self._dates)
        elif run.status is LedgerStatus.STOPPED:
            self._close()
        elif found.kept:
            self._from_open()

    # ------------------------------------------------------------ where the run stands

    def _from_open(self) -> None:
        """Claim what is overdue; end a run that has not answered."""
        now, window = self._desk.now(), self._run.settle_window
        overdue = [k for k in self._unposted.kept if k.receipt.received_at + window <= now]
        if not overdue:
            first = min(k.receipt.received_at for k in self._unposted.kept) + window
            self._say(f"none is overdue before {moment(first, now)}: epochs may still pay it")
            return
        ripe = self._unanswered(overdue)
        if ripe is None:
            self._claim(overdue)
            return
        self._desk.ask(f"End run {self._run_id}, which has not answered for overdue work?")
        what = f"end run {self._run_id}, which has not answered"
        self._desk.send(what, "stop_overdue", ripe, done=f"run {self._run_id} is stopped")

    def _unanswered(self, overdue: Sequence[KeptReceipt]) -> Work | None:
        """Return work whose claim a response window has passed over, if there is any."""
        latest = self._desk.now() - self._ledger.response_window()
        if self._ledger.paused_until() > latest:
            return None
        claimed = ((k.work, self._ledger.claimed_at(k.work)) for k in overdue)
        return next((work for work, at in claimed if 0 < at <= latest), None)

    def _close(self) -> None:
        now, until = self._desk.now(), self._run.settle_until
        if now <= until:
            self._say(f"epochs are posted until {moment(until, now)}; then run this again")
            return
        self._desk.send(
            f"close run {self._run_id}",
            *("close_run", self._run_id),
            done=lambda left: f"run {self._run_id} is closed with {self._token.show(left)} left",
        )
        if not self._desk.dry_run:
            self._dates = self._ledger.owed_dates(self._run_id)
            assert self._dates is not None
            self._from_closed(self._dates)

    def _from_closed(self, dates: OwedDates) -> None:
        now = self._desk.now()
        if now < dates.claims_until:
            self._claim(self._unposted.kept)
        units = self._ledger.owed(self._run_id, self._who)
        if not units:
            return
        if now < dates.paid_from:
            amount = self._token.show(units * self._run.rate)
            self._say(f"{amount} claimed, paid from {moment(dates.paid_from, now)}: run this again")
            return
        self._desk.send(
            f"have run {self._run_id} pay {self._who}",
            *("pay_owed", self._run_id, self._who),
            done=lambda paid: (
                f"run {self._run_id}: {self._token.show(paid)} are credited to {self._who}, which "
                "takes them with `rollcall withdraw`"
            ),
        )

    def _claim(self, wanted: Sequence[KeptReceipt]) -> None:
        fresh = [k for k in wanted if self._is_claimable(k.work)]
        if not fresh:
            return
        self._desk.ask(f"Claim {len(fresh)} groups of run {self._run_id} by their receipts?")
        self._desk.send_all(list(self._calls(fresh)))

    def _is_claimable(self, work: Work) -> bool:
        if not self._ledger.is_owed(self._run_id, work.submitted_at):
            return False
        return not self._ledger.claimed_at(work) and not self._ledger.is_condemned(work)

    def _calls(self, fresh: Sequence[KeptReceipt]) -> Iterator[PlannedCall]:
        for at in range(0, len(fresh), RECEIPTS_PER_TRANSACTION):
            part = fresh[at : at + RECEIPTS_PER_TRANSACTION]
            promises = [(k.work, k.receipt) for k in part]
            units = sum(k.work.tokens for k in part)
            told = f"run {self._run_id}: {len(part)} groups claimed, {units:,} units"
            yield PlannedCall(
                f"claim {len(part)} groups of run {self._run_id} by their receipts",
                *("claim_owed", (promises,), told),
            )

    def _say(self, text: str) -> None:
        self._desk.say(f"run {self._run_id}: {text}")
