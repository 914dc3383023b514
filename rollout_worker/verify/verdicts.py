"""A verifier's own verdicts on disk, and the seals that it was shown: it contradicts none of its own, signs
reports by them, and holds others to theirs.
"""

from pathlib import Path

from local.files import append, mended_lines
from protocol.messages import ClosedVote
from protocol.verdict import Outcome, Seal, Verdict


class VerdictBook:
    """Decisions by the work they are about, and beside each the seals of others; both files only grow."""

    def __init__(self, path: Path) -> None:
        self._path, self._seals_path = path, path.with_suffix(".seals")
        self._by_work = {v.work_digest: v for v in mended_lines(path, Verdict.from_json)}
        votes = mended_lines(self._seals_path, ClosedVote.from_json)
        self._seals = {vote.work_digest: vote.seals for vote in votes}

    def get(self, work_digest: bytes) -> Verdict | None:
        return self._by_work.get(work_digest)

    def digests(self) -> tuple[bytes, ...]:
        """Return the work that was decided, oldest first."""
        return tuple(self._by_work)

    def keep(self, verdict: Verdict) -> None:
        """Record a decision before it is sealed; an undecided one may be tried again."""
        if verdict.outcome is Outcome.UNDECIDED:
            return
        append(self._path, verdict.to_json() + b"\n")
        self._by_work[verdict.work_digest] = verdict

    def seals(self, work_digest: bytes) -> tuple[Seal, ...]:
        """Return the seals of the vote on this work, as they were shown before the own verdict was sent."""
        return self._seals.get(work_digest, ())

    def keep_seals(self, vote: ClosedVote) -> None:
        """Record the seals under which a verdict is about to be sent, the first that were shown."""
        if vote.work_digest not in self._seals:
            append(self._seals_path, vote.to_json() + b"\n")
            self._seals[vote.work_digest] = vote.seals
