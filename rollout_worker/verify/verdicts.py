"""A verifier's own verdicts on disk: it never contradicts one, and signs reports by them."""

from pathlib import Path

from protocol.files import append, mended_lines
from protocol.verdict import Outcome, Verdict


class VerdictBook:
    """Decisions by the work they are about, in a file that only grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._by_work = {v.work_digest: v for v in mended_lines(path, Verdict.from_json)}

    def get(self, work_digest: bytes) -> Verdict | None:
        return self._by_work.get(work_digest)

    def digests(self) -> tuple[bytes, ...]:
        """Return the work that was decided, oldest first."""
        return tuple(self._by_work)

    def keep(self, verdict: Verdict) -> None:
        """Record a decision before it is sent; an undecided one may be tried again."""
        if verdict.outcome is Outcome.UNDECIDED:
            return
        append(self._path, verdict.to_json() + b"\n")
        self._by_work[verdict.work_digest] = verdict
