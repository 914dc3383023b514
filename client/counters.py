"""What one process sold and how it spent its time: totals on disk, which survive a restart.

`<data_dir>/<role>.json` holds the totals and is replaced whole; each time `metrics.jsonl` gets a line,
for rates over time. Counting only: nothing decides by these numbers.
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from local.files import UNREADABLE, set_aside, tell_damaged, write_whole


class Counters:
    """Named counters, counters by label, and seconds by activity. Threads may share one.

    Example: counters.add("tokens", 512); counters.add_to("bytes", "patch", 9_000)
    """

    def __init__(self, folder: Path, role: str, *, every_seconds: float = 2.0) -> None:
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self._path = folder / f"{role}.json"
        self._lines = folder / "metrics.jsonl"
        self._every_seconds = every_seconds
        self._written_at = 0.0
        self._counts: Counter[str] = Counter()
        self._by_label: dict[str, Counter[str]] = {}
        self._facts: dict[str, Any] = {}
        self._versions: dict[str, dict[str, Any]] = {}
        self._resume()

    def add(self, name: str, amount: float = 1) -> None:
        """Count `amount` towards a total."""
        with self._lock:
            self._counts[name] += amount  # type: ignore[assignment]

    def add_to(self, name: str, label: str, amount: int = 1) -> None:
        """Count towards one label of a total, such as bytes of one kind."""
        with self._lock:
            self._by_label.setdefault(name, Counter())[label] += amount

    def state(self, name: str, fact: str | int) -> None:
        """Record a fact of this process, such as its engine."""
        with self._lock:
            self._facts[name] = fact

    def used_policy(self, run_id: int, version: int, digest: bytes, num_groups: int) -> None:
        """Record that groups were sampled from a policy whose digest was verified."""
        with self._lock:
            entry = self._versions.setdefault(
                f"{run_id}/{version}",
                {"digest": "0x" + digest.hex(), "verified": True, "groups": 0},
            )
            entry["groups"] += num_groups

    @contextmanager
    def timing(self, name: str) -> Iterator[None]:
        """Add the wall seconds of a block to `<name>_seconds`."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.add(f"{name}_seconds", time.monotonic() - started)

    def snapshot(self) -> dict[str, Any]:
        """Return the totals as JSON values."""
        with self._lock:
            counts = {
                name: round(count, 4) if isinstance(count, float) else count
                for name, count in self._counts.items()
            }
            labels = {name: dict(counter) for name, counter in self._by_label.items()}
            versions = {name: dict(entry) for name, entry in self._versions.items()}
            totals = {**self._facts, **counts, **labels, "versions": versions}
        busy = counts.get("busy_seconds", 0.0)
        idle = counts.get("wait_seconds", 0.0)
        totals["share_waited"] = round(idle / (busy + idle), 4) if busy + idle else 0.0
        totals["tokens_per_second"] = round(counts.get("tokens", 0) / busy, 1) if busy else 0.0
        return totals

    def brief(self, *names: str) -> dict[str, object]:
        """Return some totals as a person reads them: 0 for what was never counted, no fact that is empty."""
        totals = self.snapshot()
        found = {name: _brief(totals.get(name, 0)) for name in names}
        return {name: total for name, total in found.items() if total != ""}

    def write(self, *, now: bool = False) -> None:
        """Write the totals and a line, at most every `every_seconds` unless `now`."""
        with self._writing:
            moment = time.monotonic()
            if not now and moment - self._written_at < self._every_seconds:
                return
            self._written_at = moment
            totals = self.snapshot()
            write_whole(self._path, json.dumps(totals, indent=1))
            line = {key: value for key, value in totals.items() if key != "versions"}
            with self._lines.open("a") as lines:
                lines.write(json.dumps({"at": round(time.time(), 3), **line}) + "\n")

    def _resume(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if not self._path.exists():
            return
        try:
            totals = json.loads(self._path.read_bytes())
            versions = totals.pop("versions", {})
            self._versions = {name: {**entry} for name, entry in versions.items()}
        except UNREADABLE as error:
            aside = set_aside(self._path)
            tell_damaged(self._path, error, f"totals begin anew; the file is kept as {aside.name}")
            return
        for derived in ("share_waited", "tokens_per_second"):
            totals.pop(derived, None)
        for name, value in totals.items():
            if isinstance(value, dict):
                self._by_label[name] = Counter(value)
            elif isinstance(value, (int, float)):
                self._counts[name] = value  # type: ignore[assignment]


def _brief(total: Any) -> object:
    if isinstance(total, dict):
        return ", ".join(f"{count} {label}" for label, count in sorted(total.items()))
    return total
