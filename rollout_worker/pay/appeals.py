"""Answer accusations by itself: check one's own machine first, and appeal on chain where it was right.

Silence costs an accused worker its stake, an appeal only gas: it takes no bond. Where the own replay agrees
with an accusation the worker does not appeal; where nobody can check the accusation it does. An appeal that
the arbiter leaves undecided is ended here, which frees the stake.

Crash-safe: the chain says what was appealed, and a reason that was written is sent as it stands.
"""

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from audit.accusations import Accusation, Accusations
from client.public import PublicRoutes
from client.retry import GiveUp, Unreachable
from ledger.errors import LedgerError
from ledger.state import SlashStatus
from local.files import tell_damaged, write_whole
from local.threads import beside
from protocol.errors import Malformed, MarketError
from protocol.signing import Domain
from protocol.verdict import Rejection
from rollout_worker.config import WorkerConfig
from rollout_worker.pay.defence import Defence, reason_digest, reason_of
from rollout_worker.pay.receipts import ReceiptBook
from rollout_worker.pay.review import Review
from rollout_worker.replay.measure import mismatches_of, stats_of
from rollout_worker.wallet import Wallet

CONDEMNING = {reason.value for reason in Rejection if reason.name.startswith("REPLAY_")}
"""Rejections that accusations follow from."""
LOOKS_PER_WINDOW = 8
"""How often accusations are looked for in the time to appeal, at the least."""
RETRIES_PER_WINDOW = 32
"""Replays that are tried in the time to appeal on a machine that fails to make one: an engine beside it
may hold the memory."""


class Reasons:
    """A folder of reasons and their evidence, by accusation. The reason is written last."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, slash_id: bytes, suffix: str) -> Path:
        return self._folder / f"0x{slash_id.hex()}.{suffix}"

    def get(self, slash_id: bytes, domain: Domain) -> str | None:
        """Return the reason written for an accusation, or None; its digest goes on chain for good, so it is
        believed only if the evidence beside it gives the same."""
        path = self.path(slash_id, "txt")
        if not path.exists():
            return None
        try:
            evidence = self.path(slash_id, "json").read_bytes()
            reason = reason_of(Defence.from_json(evidence), evidence, domain)
            if path.read_bytes() == reason.encode():
                return reason
            problem: object = "it is not what the evidence beside it gives"
        except (OSError, Malformed) as error:
            problem = error
        tell_damaged(path, problem, "reason and evidence are written anew")
        return None

    def put(self, defence: Defence, domain: Domain) -> str:
        """Write a defence and its reason, each whole or not at all; return the reason."""
        self._folder.mkdir(parents=True, exist_ok=True)
        evidence = defence.to_json()
        reason = reason_of(defence, evidence, domain)
        for suffix, data in (("json", evidence), ("txt", reason.encode())):
            write_whole(self.path(defence.slash_id, suffix), data)
        return reason


class Appeals:
    """One worker's answers, for every run. Calls come from one thread at a time.

    Example: while appeals.step(give_up=stop.is_set): stop.wait(5)
    """

    def __init__(
        self, config: WorkerConfig, wallet: Wallet, routes: PublicRoutes, receipts: ReceiptBook
    ) -> None:
        self._wallet = wallet
        self._ledger = wallet.ledger
        self._routes = routes
        self._receipts = receipts
        self._worker = wallet.identity()
        self._check = Review(config, wallet, routes)
        self._reasons = Reasons(config.data_dir / "appeals")
        self._accusations = Accusations(wallet.ledger, self._worker)
        self.window = wallet.ledger.appeal_window()
        self.pause = min(config.books_seconds, self.window / LOOKS_PER_WINDOW)
        self._conceded: set[bytes] = set()
        self._next_try: dict[bytes, float] = {}
        self._said: set[tuple[bytes, str]] = set()
        self._log = structlog.get_logger().bind(worker=self._worker)

    def step(self, *, give_up: GiveUp) -> bool:
        """Take every accusation a step further; return whether any still waits for something.

        Whatever fails is logged and done in the next step.
        """
        try:
            # Events are read only while stake is held: without, there is nothing to lose.
            if not self._ledger.stake_account(self._worker).locked:
                return False
            found = self._accusations.look()
        except LedgerError as error:
            self._say(b"", "accusations not seen", reason=str(error))
            return True
        is_open = [self._attempt(accusation, give_up) for accusation in found]
        return any(is_open)

    def expects(self, run_id: int, *, give_up: GiveUp) -> bool:
        """Whether a run that found this worker's work false has yet to accuse it on chain."""
        try:
            if self._ledger.is_reported(run_id, self._worker):
                return False
            infos = self._routes.worker(self._worker, give_up=give_up).runs
        except (MarketError, LedgerError) as error:
            self._say(b"", "accusations not seen", reason=str(error))
            return True
        return any(i.run_id == run_id and CONDEMNING & i.rejected_by_reason.keys() for i in infos)

    def _attempt(self, accusation: Accusation, give_up: GiveUp) -> bool:
        """Attend to one accusation, whatever fails; return whether it is still open."""
        slash_id = accusation.slash_id
        if time.monotonic() < self._next_try.get(slash_id, 0.0):
            return True
        try:
            return self._attend(accusation, give_up)
        except (MarketError, LedgerError) as error:
            self._say(slash_id, "not sent, tried again", reason=str(error))
        except Unreachable:
            raise
        except Exception as error:  # noqa: BLE001 - libraries, devices and disks raise anything
            # Else the thread ends and silence concedes.
            self._next_try[slash_id] = time.monotonic() + self.window / RETRIES_PER_WINDOW
            self._say(slash_id, "own replay failed", reason=str(error), remedy=by_hand(slash_id))
        return True

    def _attend(self, accusation: Accusation, give_up: GiveUp) -> bool:
        """Do what an accusation asks for; return whether it still waits for this worker or the arbiter."""
        slash_id, state = accusation.slash_id, accusation.state
        is_due = self._ledger.block_time() >= state.deadline
        match state.status:
            case SlashStatus.APPEALED if is_due:
                self._ledger.expire_appeal(slash_id)
                self._say(slash_id, "acquitted: the arbiter kept silent", freed=state.held)
                return False
            case SlashStatus.APPEALED:
                self._say(slash_id, "the arbiter rules, or acquits by silence", by=state.deadline)
                return True
            case SlashStatus.PROPOSED if not is_due and slash_id not in self._conceded:
                self._say(slash_id, "accused", held=state.held, appeal_by=state.deadline)
                self._answer(accusation, give_up)
                return slash_id not in self._conceded
        return False

    def _answer(self, accusation: Accusation, give_up: GiveUp) -> None:
        """Appeal, or concede where the accusation is right."""
        slash_id = accusation.slash_id
        reason = self._reasons.get(slash_id, self._wallet.domain) or self._written(
            accusation, give_up
        )
        if reason is not None:
            self._ledger.appeal_slash(slash_id, reason_digest(reason))
            file = str(self._reasons.path(slash_id, "txt"))
            self._say(slash_id, "appealed: give the arbiter reason and evidence", file=file)

    def _written(self, accusation: Accusation, give_up: GiveUp) -> str | None:
        """Look at the accused work; return the reason for an appeal, or None after conceding."""
        run_id, digest = accusation.state.run_id, accusation.work_digest
        kept = self._receipts.of_work(digest)
        if kept is None and self._worker in self._ledger.run(run_id).verifiers:
            self._concede(accusation, "it holds no such work; a verdict may be accused")
            return None
        found = self._check.look(accusation, kept, give_up=give_up)
        if found.broken:
            self._concede(accusation, f"the own replay agrees: {found.broken}")
            return None
        defence = Defence(
            slash_id=accusation.slash_id,
            run_id=run_id,
            worker=self._worker,
            work_digest=digest,
            accusing_evidence=accusation.state.evidence_digest,
            kept=kept,
            shown=found.status,
            body=found.body,
            stats=stats_of(found.findings) if found.findings else None,
            mismatches=mismatches_of(found.findings),
            problem=found.problem,
        )
        return self._reasons.put(defence, self._wallet.domain)

    def _concede(self, accusation: Accusation, reason: str) -> None:
        slash_id = accusation.slash_id
        self._conceded.add(slash_id)
        self._log.error(
            "not appealed",
            accusation=f"0x{slash_id.hex()}",
            work=f"0x{accusation.work_digest.hex()}",
            reason=reason,
            remedy=f"check this machine: rollcall doctor --calibrate. {by_hand(slash_id)}",
        )

    def _say(self, slash_id: bytes, what: str, **facts: object) -> None:
        """Log once where an accusation stands: money is at risk."""
        told = (slash_id, f"{what} {facts.get('reason', '')}")
        if told not in self._said:
            self._said.add(told)
            self._log.warning(what, accusation=f"0x{slash_id.hex()}", **facts)


def by_hand(slash_id: bytes) -> str:
    """Return how a person appeals."""
    return f"To appeal all the same: rollcall appeal 0x{slash_id.hex()} --reason …"


@contextmanager
def answering(appeals: Appeals) -> Iterator[None]:
    """Answer accusations in a thread of its own, which mostly waits."""
    stop = threading.Event()

    def answer() -> None:
        try:
            while not stop.wait(appeals.pause):
                appeals.step(give_up=stop.is_set)
        except Unreachable:
            return  # told to stop while waiting for the orchestrator

    with beside(stop, answer):
        yield


def see_out(appeals: Appeals, excluded_from: Iterable[int], stop: threading.Event) -> None:
    """Stay until no accusation is open and none is to come, for an appeal window at most, or until told to stop.

    What comes later is found when the worker is started again.
    """
    log, until = structlog.get_logger(), time.monotonic() + appeals.window
    expecting = set(excluded_from)
    is_waiting = False
    while not stop.is_set():
        try:
            expecting = {run for run in expecting if appeals.expects(run, give_up=stop.is_set)}
            is_open = appeals.step(give_up=stop.is_set)
        except Unreachable:
            return
        if not is_open and (not expecting or time.monotonic() >= until):
            return
        if not is_waiting:
            log.info("staying for accusations", open=is_open, expected_from=sorted(expecting))
            is_waiting = True
        stop.wait(appeals.pause)
