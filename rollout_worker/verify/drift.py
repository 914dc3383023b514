"""This verifier's own sequential tests on disk, one per worker.

`protocol.checks.sequential` decides; this file remembers, so that a restart goes on where it stood. A group
that is replayed again (the crash came before its verdict was kept) counts once, and raises the alarm again
that it raised.
"""

from pathlib import Path

from local.files import append, mended_lines
from protocol.checks.sequential import Alarm, Drift, crossed, folded
from protocol.verdict import ReplayStats, Thresholds
from protocol.wire import Address, Bytes32, Wire


class Entry(Wire):
    """A worker's test after one group."""

    worker: Address
    work_digest: Bytes32
    drift: Drift
    alarm: tuple[str, str] | None = None
    """Which term crossed with this group, and the line that says so."""


class DriftBook:
    """The tests' states after every group, in a file that only grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._states: dict[str, Drift] = {}
        self._alarms: dict[bytes, Alarm | None] = {}
        """What each counted group raised."""
        for entry in mended_lines(path, Entry.from_json):
            self._take(entry)

    def state(self, worker: str) -> Drift:
        """Return where a worker's test stands; a new worker's is all zeros."""
        return self._states.get(worker, Drift())

    def fold(
        self, worker: str, work_digest: bytes, stats: ReplayStats, thresholds: Thresholds
    ) -> Alarm | None:
        """Count a group that `judge` accepted, once; return the alarm it raises, and begin again after one."""
        if work_digest in self._alarms:
            return self._alarms[work_digest]
        drift = folded(self.state(worker), stats, thresholds)
        alarm = crossed(drift, thresholds)
        entry = Entry(
            worker=worker, work_digest=work_digest, drift=Drift() if alarm else drift, alarm=alarm
        )
        append(self._path, entry.to_json() + b"\n")
        self._take(entry)
        return alarm

    def _take(self, entry: Entry) -> None:
        self._states[entry.worker] = entry.drift
        self._alarms[entry.work_digest] = Alarm(*entry.alarm) if entry.alarm else None
