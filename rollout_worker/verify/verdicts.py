"""A verifier's own verdicts: signed, and kept on disk with the seals that it was shown.

It contradicts none of its own, signs reports by them, and holds others to theirs.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.files import append, mended_lines
from protocol.messages import ClosedVote
from protocol.signing import Domain, sign
from protocol.verdict import NOTHING_MEASURED, Outcome, Seal, Verdict


@dataclass(frozen=True, slots=True)
class VerdictSigner:
    """Signs for one verifier what it found in one run. `now` is the market's clock."""

    run_id: int
    verifier: str
    key: bytes
    domain: Domain
    now: Callable[[], float]

    def verdict(self, work_digest: bytes, outcome: Outcome, **found: Any) -> Verdict:
        """Return a signed verdict; what is not named was not found."""
        nothing = {"rejection": "", "detail": "", "rollouts": (), "stats": NOTHING_MEASURED}
        verdict = Verdict(
            run_id=self.run_id,
            work_digest=work_digest,
            verifier=self.verifier,
            outcome=outcome,
            **{**nothing, "mismatches": (), **found},
            salt=secrets.token_bytes(32),
            decided_at=int(self.now()),
            signature=bytes(65),
        )
        return verdict.model_copy(update={"signature": self._sign(verdict)})

    def seal(self, verdict: Verdict) -> Seal:
        """Promise a verdict, without telling it."""
        unsigned = Seal.of(verdict)
        return unsigned.model_copy(update={"signature": self._sign(unsigned)})

    def _sign(self, what: Verdict | Seal) -> bytes:
        return sign(self.key, self.domain.digest(what))


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
