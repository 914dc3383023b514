"""Keep the files of the epochs that this verifier signed, and answer demands about them.

A signature answers with its stake for every leaf. Were the file only the orchestrator's, it could hide it once the
epoch is posted, have a friend demand leaves, and share with it what the signers lose. So answering needs the chain
and this disk alone, and goes on beside everything that waits for the orchestrator. The folder is laid out as that of
`rollcall watch --state`, which can take it over.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

import structlog

from audit.files import Shelf
from audit.hidden.responder import Responder
from audit.history import Fate, History, Posted
from audit.owed import Condemned, no_verdicts
from audit.watch_actions import Actor
from ledger.journal import Journal
from ledger.ledger import Ledger
from local.files import write_whole
from local.threads import beside
from protocol.canonical import keccak256
from protocol.user_error import one_line

ROUND_SECONDS = 2.0
"""Between two looks at the chain, about a block: far less than any time in which a demand is answered."""


class KeptFiles:
    """Example: `kept.keep(data)` before the header is signed; `kept.step()`, over and over"""

    def __init__(self, ledger: Ledger, folder: Path, *, address: str) -> None:
        self._ledger = ledger
        self._folder = folder
        self._journal: Journal | None = None
        self._history = History()
        self._responder = Responder(
            ledger,
            Actor(ledger, address=address, sends=True),
            Shelf(folder, _nowhere),
            Condemned(ledger, no_verdicts),
            answers=True,
        )

    def keep(self, data: bytes) -> None:
        """Keep an epoch's file: it outlives this process from here on."""
        self._folder.mkdir(parents=True, exist_ok=True)
        write_whole(self._folder / f"{keccak256(data).hex()}.epoch", data)

    def step(self) -> None:
        """Answer what is demanded of a kept file, and drop those of epochs about which nothing can be any more."""
        kept = {path.stem: path for path in self._folder.glob("*.epoch")}
        if not kept:
            return
        self._read_events()
        now, history = self._ledger.block_time(), self._history
        for dispute in history.disputes.values():
            posted = history.postings[dispute.header_hash]
            if dispute.is_open and posted.data_hash.hex() in kept:
                self._responder.attend(dispute, posted, now=now, is_sound=True)
        for posted in history.postings.values():
            if posted.fate is not Fate.PENDING and posted.data_hash.hex() in kept:
                kept[posted.data_hash.hex()].unlink(missing_ok=True)

    def _read_events(self) -> None:
        journal = self._journal
        if journal is None:
            cursor = self._ledger.events(path=self._folder / "cursor.json")
            journal = self._journal = Journal(cursor, self._folder / "events.jsonl")
            self._history = History.of(journal.events)
        if journal.refresh():
            self._history = History.of(journal.events)


def _nowhere(_posted: Posted) -> None:
    """Have no other source: what was signed is here."""


class Duty(Protocol):
    """What costs stake where it is not done in time."""

    def step(self) -> None:
        """Do what there is to do."""
        ...


@contextmanager
def answering(*duties: Duty, seconds: float = ROUND_SECONDS) -> Iterator[None]:
    """Do duties in a thread of their own; each once at least, however soon their owner ends."""
    stop = threading.Event()
    with beside(stop, partial(_answer, duties, stop, seconds)):
        yield


def _answer(duties: Sequence[Duty], stop: threading.Event, seconds: float) -> None:
    said: dict[Duty, str] = {}
    while True:
        for duty in duties:
            try:
                duty.step()
                said.pop(duty, None)
            except Exception as error:  # noqa: BLE001 - nodes and disks raise anything, and silence costs the stake
                if (told := one_line(error)) != said.get(duty):
                    said[duty] = told
                    structlog.get_logger().error("not looked at", duty=_name(duty), reason=told)
        if stop.wait(seconds):
            return


def _name(duty: Duty) -> str:
    return type(duty).__name__.lower()
