"""Follow a run's event stream: every event to a file, running totals for the view.

A separate thread reads server-sent events and reconnects with `Last-Event-ID`, so a restart of the
orchestrator loses nothing.
"""

import json
import threading
from collections import Counter
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from client.public import Reader
from client.retry import Unreachable
from local.files import read_lines
from protocol.checks.withholding import WITHHELD
from protocol.errors import MarketError
from protocol.messages import Event

RECONNECT_SECONDS = 0.5


@dataclass(slots=True)
class Totals:
    """What has happened so far, by worker address."""

    leased: Counter[str] = field(default_factory=Counter)
    groups: Counter[str] = field(default_factory=Counter)
    """Handed in, whatever became of them."""
    tokens: Counter[str] = field(default_factory=Counter)
    """Of groups that admission took."""
    rejected: Counter[str] = field(default_factory=Counter)
    condemned: set[str] = field(default_factory=set)
    """Found false: none of their work is bought."""
    excluded: set[str] = field(default_factory=set)
    paused: set[str] = field(default_factory=set)
    num_verdicts: int = 0
    num_epochs_posted: int = 0
    num_epochs_final: int = 0
    slashed: set[str] = field(default_factory=set)
    newest_version: int = -1
    last: str = ""

    def bought(self, worker: str) -> int:
        """Return how many of a worker's groups are owed, as far as is known."""
        return 0 if worker in self.condemned else self.groups[worker] - self.rejected[worker]

    def owed_tokens(self, worker: str) -> int:
        return 0 if worker in self.condemned else self.tokens[worker]


class Record:
    """A context manager: entering starts following, leaving stops."""

    def __init__(self, orchestrator: str, run_id: int, path: Path) -> None:
        self._reader = Reader(orchestrator)
        self._run_id = run_id
        self._path = path
        self._totals = Totals()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._last_id = ""
        self._thread = threading.Thread(target=self._follow, name="events", daemon=True)

    def __enter__(self) -> "Record":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=RECONNECT_SECONDS)

    def snapshot(self) -> Totals:
        """Return a copy of the totals."""
        with self._lock:
            return deepcopy(self._totals)

    def events(self) -> list[Event]:
        """Return every event so far, from the file."""
        return read_lines(self._path, Event.from_json)

    def _follow(self) -> None:
        with self._reader as reader:
            while not self._stop.is_set():
                try:
                    for event_id, data in reader.events(self._run_id, after=self._last_id):
                        self._take(event_id, data)
                        if self._stop.is_set():
                            return
                except (MarketError, Unreachable):
                    self._stop.wait(RECONNECT_SECONDS)

    def _take(self, event_id: str, data: str) -> None:
        event = Event.from_json(data)
        with self._path.open("a") as file:
            file.write(json.dumps(json.loads(data)) + "\n")
        with self._lock:
            self._last_id = event_id
            count(self._totals, event)


def count(totals: Totals, event: Event) -> None:
    """Add one event to the totals."""
    fields: dict[str, Any] = event.fields
    worker = str(fields.get("worker", ""))
    match event.kind:
        case "lease":
            totals.leased[worker] += int(fields["count"])
        case "submission":
            is_rejected = fields["state"] == "rejected"
            totals.groups[worker] += 1
            totals.tokens[worker] += 0 if is_rejected else int(fields["tokens"])
            totals.rejected[worker] += is_rejected
        case "verdict":
            totals.num_verdicts += 1
            totals.rejected[worker] += fields["outcome"] == "rejected"
        case "exclusion":
            totals.excluded.add(worker)
            kept_back = fields.get("rejection") == WITHHELD
            if not kept_back:
                totals.condemned.add(worker)
            what = f"{worker} kept groups back" if kept_back else f"a replay found {worker} false"
            totals.last = f"{what}; it is excluded"
        case "paused":
            totals.paused.add(worker)
            totals.last = f"{worker} drifts; it is paused until its machine passes a self-check"
        case "resumed":
            totals.paused.discard(worker)
            totals.last = f"{worker} passed its self-check"
        case "policy":
            totals.newest_version = int(fields["version"])
        case "epoch_posted":
            totals.num_epochs_posted += 1
            totals.last = f"epoch {fields['epoch']} is posted on chain"
        case "epoch_final":
            totals.num_epochs_final += 1
            totals.last = f"epoch {fields['epoch']} is final"
        case "slash_proposed":
            totals.last = f"{worker} is reported; it may appeal"
        case "slashed":
            totals.slashed.add(worker)
            totals.last = f"{worker} is slashed"
