"""One posted header under examination: which leaves can be opened, and which to ask for next.

Pure. A file that leads to the header's roots opens everything at once. If it does not lead to a tree,
only the leaves that demands reveal can be opened there (`search.py`).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from audit.hidden.search import Demand, Exhausted, Revealed, next_step
from audit.history import Dispute, Posted
from audit.published import Opened, Published
from ledger.state import DisputeKind
from protocol.epoch import AccountLeaf, EpochHeader, WorkLeaf


@dataclass(frozen=True, slots=True)
class Question:
    """Which leaves of which tree to demand."""

    tree: DisputeKind
    indices: tuple[int, ...]


class Examination:
    """What is known of one header. `published` is None if there is no file, or no readable one.

    Example:
        case = Examination(posted, header, published)
        case.learn(history.about(posted.header_hash))
        findings = find(case.opened(), facts, before=…)
    """

    def __init__(self, posted: Posted, header: EpochHeader, published: Published | None) -> None:
        self.posted = posted
        self.header = header
        self.published = published
        self.opens_work = published is not None and published.opens_work(header)
        self.opens_accounts = published is not None and published.opens_accounts(header)
        self._signatures: dict[int, bytes] = dict(published.signatures) if published else {}
        self._work = None if self.opens_work else _revealed_work(header, published)
        self._accounts = None if self.opens_accounts else _revealed_accounts(header, published)

    @property
    def is_whole(self) -> bool:
        """Whether the file opens both trees."""
        return self.opens_work and self.opens_accounts

    @property
    def num_learned(self) -> int:
        """Answered leaves so far."""
        return sum(len(tree.answered) for tree in (self._work, self._accounts) if tree)

    def learn(self, disputes: Iterable[Dispute]) -> None:
        """Take the answers on chain. Doing so again changes nothing."""
        for dispute in disputes:
            for answer in dispute.work:
                if self._work and self._work.learn(answer.place, answer.leaf, answer.proof):
                    self._signatures[answer.place] = answer.signature
            for account in dispute.accounts:
                if self._accounts:
                    self._accounts.learn(account.place, account.leaf, account.proof)

    def opened(self) -> Opened:
        """Return all that can be opened now."""
        return Opened(
            self.header,
            self._work.openable() if self._work else self._whole().work,
            self._signatures,
            self._accounts.openable() if self._accounts else self._whole().accounts,
        )

    def next_question(self) -> Question | Exhausted:
        """Return what to demand next, work before accounts, because accounts are judged by it."""
        steps = (
            (DisputeKind.WORK, next_step(self._work) if self._work else Exhausted(None)),
            (
                DisputeKind.ACCOUNTS,
                next_step(self._accounts) if self._accounts else Exhausted(None),
            ),
        )
        for tree, step in steps:
            if isinstance(step, Demand):
                return Question(tree, step.indices)
        places = [step.place for _, step in steps if isinstance(step, Exhausted)]
        return Exhausted(next((place for place in places if place is not None), None))

    def _whole(self) -> Opened:
        if self.published is None:
            raise ValueError("without a file nothing is whole")
        return self.published.under(self.header)


def _revealed_work(header: EpochHeader, published: Published | None) -> Revealed[WorkLeaf]:
    leaves = published.work if published else ()
    return Revealed(header.work_root, header.work_count, leaves)


def _revealed_accounts(header: EpochHeader, published: Published | None) -> Revealed[AccountLeaf]:
    leaves = published.accounts if published else ()
    return Revealed(header.account_root, header.account_count, leaves)
