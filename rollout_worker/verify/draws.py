"""Hold what an epoch would pay to what was paid before, and to its draws, before signing: what was to be replayed
has its verdicts, and nothing is paid again.

An auditor holds every group to the same rule later (`audit/draws.py`), when it is paid. Here only those are
fetched that can have been drawn: by the record and the revealed secret of an epoch that was open when the work
is dated.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from audit.chain_facts import Keys
from audit.draws import PaidCounts, PublicDraws, Quorum, examine
from audit.epoch import EpochRefused, check_group, read_file
from audit.paid import PaidIndex
from client.public import MAX_EPOCH_BYTES, PublicRoutes
from ledger.ledger import Ledger
from ledger.state import LedgerStatus, RunState
from protocol.canonical import keccak256
from protocol.checks.draw import is_drawn, rate_millionths
from protocol.checks.seal import broken_seal
from protocol.constants import MAX_CLOCK_SKEW_SECONDS, MAX_SUBMISSION_BYTES
from protocol.messages import Contribution, EpochFile, RunInfo
from protocol.rollout import read_submission
from protocol.signing import Domain
from rollout_worker.verify.verdicts import VerdictBook

SLACK_SECONDS = 2 * MAX_CLOCK_SKEW_SECONDS + 1
"""Between a group's date and the chain's time: its worker's clock and the orchestrator's may be off."""


@dataclass(frozen=True, slots=True)
class PostedEpoch:
    """What a posted epoch counts for: the secret it revealed, and groups by worker."""

    header_hash: bytes
    secret: bytes
    num_groups: Counter[str]


class DrawCheck:
    """Checks the epochs of one run, in order. Reads each earlier file once, and anew where the chain has
    another one in its place: after a voided epoch, or blocks that were taken back.
    """

    def __init__(
        self,
        routes: PublicRoutes,
        ledger: Ledger,
        info: RunInfo,
        domain: Domain,
        book: VerdictBook,
        *,
        paid: PaidIndex,
    ) -> None:
        self._routes = routes
        self._ledger = ledger
        self._info = info
        self._domain = domain
        self._book = book
        self._paid = paid
        self._keys = Keys(ledger)
        self._posted: dict[int, PostedEpoch] = {}
        self._num_final = 0
        """Epochs that were final when they were last looked at."""

    def check(self, file: EpochFile, work: Mapping[bytes, Contribution], state: RunState) -> None:
        """Raise `EpochRefused` unless each of the file's groups is new, and was replayed well where it was drawn.

        `work` is the file's, by digest; a group drawn by a secret that is not out must wait for its epoch.
        """
        before = self._before(file.epoch, state)
        self._require_new(file, before)
        secrets = {number: posted.secret for number, posted in enumerate(before)}
        public = self._public(state, secrets | {file.epoch: file.secret})
        records = PaidCounts(sum((posted.num_groups for posted in before), Counter()))
        records.take(file.contributions)
        for digest, item in work.items():
            if self._can_be_drawn(digest, item, records, public, state.num_opened):
                self._examine(digest, item, records, public)

    def _require_new(self, file: EpochFile, before: list[PostedEpoch]) -> None:
        """A payload names its lease, so honest work has its own: anybody proves a second one, and takes the
        stakes of those who signed it. Of work that is not looked at only this shows that it is not its lease's.
        """
        epochs = {posted.header_hash: number for number, posted in enumerate(before)}
        for item in file.contributions:
            paid = self._paid.of_payload(self._info.run_id, item.payload_digest)
            for header_hash in paid & epochs.keys():
                raise EpochRefused(
                    f"nonce {item.nonce} of {item.worker} has the payload of work that epoch "
                    f"{epochs[header_hash]} paid"
                )

    def _examine(
        self, digest: bytes, item: Contribution, records: PaidCounts, public: PublicDraws
    ) -> None:
        status = self._routes.submission(public.run_id, digest)
        body = self._routes.blob(status.body, max_bytes=MAX_SUBMISSION_BYTES, kind="submission")
        submission = read_submission(body, public.spec.most_submission_bytes)
        check_group(
            *(item, status, submission),
            secret=public.secrets.get(status.lease.lease.epoch),
            info=self._info,
            domain=self._domain,
            spoke_for=self._keys.spoke_for,
        )
        _, fault = examine(item, status, submission, records, public)
        if fault is None and status.draw_epoch not in public.secrets:
            fault = (
                f"nonce {item.nonce} of {item.worker} was drawn by epoch {status.draw_epoch}'s secret, "
                "which is not out: it must wait for that epoch"
            )
        if fault is None and (broken := broken_seal(status.verdicts, self._book.seals(digest))):
            fault = f"{broken.verifier}'s verdict on nonce {item.nonce} of {item.worker} is not what it sealed"
        if fault is not None:
            raise EpochRefused(fault)

    def _can_be_drawn(
        self,
        digest: bytes,
        item: Contribution,
        records: PaidCounts,
        public: PublicDraws,
        num_opened: int,
    ) -> bool:
        rate = rate_millionths(public.spec.audit, num_accepted=records.before(item))
        was_any_open = False
        for epoch in reversed(range(num_opened)):
            opened, closed = public.opened_at(epoch), public.opened_at(epoch + 1)
            if closed is not None and item.submitted_at > closed + SLACK_SECONDS:
                return False
            if opened is None or item.submitted_at < opened - SLACK_SECONDS:
                continue
            was_any_open = True
            secret = public.secrets.get(epoch)
            if secret is None or is_drawn(secret, digest, rate=rate):
                return True
        # A date before every epoch names no secret: what draws it is then the receipt's time, if anything.
        return not was_any_open

    def _before(self, epoch: int, state: RunState) -> list[PostedEpoch]:
        """Return the epochs before this one as the chain has them; what stays final is looked at once."""
        fixed = min(self._num_final, state.num_final)
        for earlier in range(epoch):
            known = self._posted.get(earlier)
            if known is not None and earlier < fixed:
                continue
            header_hash = self._ledger.epoch(self._info.run_id, earlier).header_hash
            if known is None or known.header_hash != header_hash:
                self._posted[earlier] = self._read(earlier, header_hash)
        self._num_final = state.num_final
        return [self._posted[earlier] for earlier in range(epoch)]

    def _read(self, epoch: int, header_hash: bytes) -> PostedEpoch:
        digest = self._routes.epoch(self._info.run_id, epoch).file
        data = self._routes.blob(digest, max_bytes=MAX_EPOCH_BYTES, kind="epoch")
        published = read_file(data)
        if published.header(keccak256(data)).struct_hash() != header_hash:
            raise EpochRefused(f"the file of epoch {epoch} has not the header on chain")
        file = published.file
        self._paid.add(self._info.run_id, header_hash, published.work)
        return PostedEpoch(
            header_hash, file.secret, Counter(item.worker for item in file.contributions)
        )

    def _public(self, state: RunState, secrets: Mapping[int, bytes]) -> PublicDraws:
        # A run that was ever halted may owe some accepted work to nobody: the nonce bounds the record then.
        is_whole = state.status is LedgerStatus.ACTIVE and not state.halted_at
        return PublicDraws(
            run_id=self._info.run_id,
            spec=self._info.spec,
            domain=self._domain,
            quorum=Quorum(threshold=state.threshold, seats=self._ledger.seats(self._info.run_id)),
            spoke_for=self._keys.spoke_for,
            secrets=secrets,
            opened_at=cache(self._opened_at),
            always_owed_until=state.permit_until if is_whole else 0,
        )

    def _opened_at(self, epoch: int) -> int | None:
        return self._ledger.epoch(self._info.run_id, epoch).opened_at or None
