"""Draw again from public data which paid groups had to be replayed, and see who vouches for them.

Pure. Once an epoch's secret is public, so is everything that decides which groups and rollouts are drawn:
the digest the worker signed, the secret on chain, and the worker's record, which is its contributions
with lower nonces. The orchestrator may say that it drew with a larger share than the record asks for,
never with a smaller one: it counted fewer nonces while some were undecided, and it replays more of a
worker whose standing fell.

Left out: whether verdicts are true (`rollcall verify --explain` replays one), and unpaid groups, because
nobody can show a draw for work that is in no file.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from audit.epoch import EpochReport, Look, work_digest
from protocol.checks.draw import Draw, is_vouched, rate_millionths
from protocol.commitment import SpokeFor, check_receipt, is_signed
from protocol.constants import MAX_CLOCK_SKEW_SECONDS
from protocol.errors import MarketError
from protocol.messages import Contribution, SubmissionStatus
from protocol.rollout import Submission
from protocol.run import RunSpec
from protocol.signing import Domain
from protocol.verdict import Outcome, Thresholds, Verdict, follows


@dataclass(frozen=True, slots=True)
class Quorum:
    """Whose verdicts count (everyone who ever had a place), for which seat, and how many seats are enough.

    Example: Quorum(threshold=2, seats={"0x…": 0, "0x…": 1, "0x…": 2})
    """

    threshold: int
    seats: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class PublicDraws:
    """The facts in the chain and the files that draws follow from.

    `secrets` are those revealed, by epoch; `opened_at` gives an epoch's time on chain, None for one never
    opened.
    """

    run_id: int
    spec: RunSpec
    domain: Domain
    quorum: Quorum
    spoke_for: SpokeFor
    secrets: Mapping[int, bytes]
    opened_at: Callable[[int], int | None]
    always_owed_until: int
    """Accepted work dated later may be in no file: then only the nonce bounds the record."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """The rollouts of the work that a verdict must cover, with every token of theirs."""

    work_digest: bytes
    rollouts: tuple[int, ...]
    num_tokens: int


class PaidCounts:
    """How many groups each worker was paid for so far, epoch by epoch.

    Example: `records.take(file.contributions)`, then `records.before(item)` for each of them
    """

    def __init__(self, paid: Mapping[str, int] | None = None) -> None:
        self._paid = Counter(paid)
        self._before: dict[tuple[str, int], int] = {}
        self._is_complete = True

    def take(self, contributions: Sequence[Contribution] | None) -> None:
        """Count the next epoch's contributions, in their order; None if its file is not published."""
        self._is_complete = self._is_complete and contributions is not None
        for item in contributions or ():
            self._before[item.worker, item.nonce] = self._paid[item.worker]
            self._paid[item.worker] += 1

    def before(self, item: Contribution) -> int:
        """Return the most groups that can have been accepted with lower nonces."""
        return self._before[item.worker, item.nonce] if self._is_complete else item.nonce - 1


def check_replays(
    report: EpochReport, looks: Sequence[Look], records: PaidCounts, public: PublicDraws
) -> None:
    """Draw every contribution again, and check the verdicts of those drawn.

    A draw can only be checked once its secret is revealed.
    """
    for look in looks:
        if isinstance(look.shown, str):
            continue  # said already, where leases are looked at
        is_due, fault = examine(look.item, *look.shown, records, public)
        report.num_due += is_due
        report.num_replayed += is_due and fault is None
        report.differences += [fault] if fault else []


def examine(
    item: Contribution,
    status: SubmissionStatus,
    submission: Submission,
    records: PaidCounts,
    public: PublicDraws,
) -> tuple[bool, str | None]:
    """Return whether a paid group had to be replayed, as far as its draw can be made again, and what is wrong."""
    digest = work_digest(item, run_id=public.run_id, domain=public.domain)
    fault = _fault_of_draw(item, status, digest, records, public)
    if fault is not None:
        return False, fault
    draw = Draw(epoch=status.draw_epoch, rate=status.draw_rate_millionths)
    secret = public.secrets.get(draw.epoch)
    if secret is None or not draw.selects(secret, digest):
        return False, None
    rollouts = draw.rollouts(
        secret, digest, group_size=public.spec.group_size, policy=public.spec.audit
    )
    try:
        drawn = Drawn(digest, rollouts, _num_tokens(submission, rollouts))
    except (IndexError, ValueError):
        name = f"nonce {item.nonce} of {item.worker}"
        return True, f"{name} is paid and lacks whole tokens of rollouts {rollouts}"
    return True, _fault_of_replay(item, status, drawn, public)


def _fault_of_draw(
    item: Contribution,
    status: SubmissionStatus,
    digest: bytes,
    records: PaidCounts,
    public: PublicDraws,
) -> str | None:
    """Say what is wrong with the epoch or the share by which a group was allegedly drawn."""
    name, receipt = f"nonce {item.nonce} of {item.worker}", status.receipt
    try:
        check_receipt(
            *(receipt, status.lease.lease, digest), spec=public.spec, domain=public.domain
        )
    except MarketError as error:
        return f"{name}: {error}"
    if abs(receipt.received_at - item.submitted_at) > MAX_CLOCK_SKEW_SECONDS + 1:
        return f"{name} is dated {item.submitted_at}, its receipt {receipt.received_at}"
    epoch = status.draw_epoch
    opened, next_opened = public.opened_at(epoch), public.opened_at(epoch + 1)
    is_early = opened is None or receipt.received_at < opened - MAX_CLOCK_SKEW_SECONDS
    is_late = next_opened is not None and receipt.received_at > next_opened + MAX_CLOCK_SKEW_SECONDS
    if is_early or is_late or epoch < status.lease.lease.epoch:
        return (
            f"{name} was received at {receipt.received_at} and drawn by the secret of epoch {epoch}, "
            "which was not the open one then"
        )
    was_owed = receipt.received_at + MAX_CLOCK_SKEW_SECONDS < public.always_owed_until
    record = records.before(item) if was_owed else item.nonce - 1
    least = rate_millionths(public.spec.audit, num_accepted=record)
    if status.draw_rate_millionths < least:
        return (
            f"{name} was drawn at {status.draw_rate_millionths / 10_000:g} %, its record of {record} "
            f"groups asks for {least / 10_000:g} %"
        )
    return None


def _num_tokens(submission: Submission, rollouts: Sequence[int]) -> int:
    return sum(len(submission.rollouts[i].token_ids()) for i in rollouts)


def _fault_of_replay(
    item: Contribution, status: SubmissionStatus, drawn: Drawn, public: PublicDraws
) -> str | None:
    quorum = public.quorum
    # One that was replaced and whoever took its place were one quorum otherwise, both the operator's friends.
    outcomes = {
        quorum.seats[verdict.verifier]: verdict.outcome
        for verdict in status.verdicts
        if _counts(verdict, drawn, public)
    }
    found = list(outcomes.values())
    if is_vouched(found, threshold=quorum.threshold):
        return None
    return (
        f"nonce {item.nonce} of {item.worker} was drawn for replay and is paid with "
        f"{found.count(Outcome.ACCEPTED)} of {quorum.threshold} accepting verdicts on its drawn "
        f"rollouts {list(drawn.rollouts)}"
    )


def _covers(verdict: Verdict, drawn: Drawn, thresholds: Thresholds) -> bool:
    """Whether it follows from figures over what was drawn: a verifier must not choose honest parts."""
    is_drawn = (verdict.rollouts, verdict.stats.num_tokens) == (drawn.rollouts, drawn.num_tokens)
    return is_drawn and follows(verdict, thresholds)


def _counts(verdict: Verdict, drawn: Drawn, public: PublicDraws) -> bool:
    """Whether a member signed this verdict about this very work and the rollouts drawn of it."""
    if (verdict.run_id, verdict.work_digest) != (public.run_id, drawn.work_digest):
        return False
    if not _covers(verdict, drawn, public.spec.thresholds):
        return False
    if verdict.verifier not in public.quorum.seats:
        return False
    return is_signed(verdict, public.domain, public.spoke_for, at=verdict.decided_at)
