"""What a worker's receipts promise beyond the newest posted epoch. Pure.

Nonces ascend across a run's epochs, so what is above the worker's last paid one is in none yet.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from audit.omissions import KeptReceipt
from protocol.epoch import AccountLeaf


@dataclass(frozen=True, slots=True)
class Unposted:
    """Accepted work of one run that no epoch has, oldest first."""

    kept: tuple[KeptReceipt, ...] = ()

    @property
    def units(self) -> int:
        return sum(item.work.tokens for item in self.kept)

    def __len__(self) -> int:
        return len(self.kept)


def unposted(promises: Iterable[KeptReceipt], *, last_nonce: int) -> Unposted:
    """Return what is promised above the last nonce that was paid, each nonce once."""
    by_nonce = {k.work.nonce: k for k in promises if k.work.nonce > last_nonce}
    return Unposted(tuple(by_nonce[nonce] for nonce in sorted(by_nonce)))


def last_nonce_of(accounts: Sequence[AccountLeaf], worker: str) -> int:
    """Return the last nonce that a worker was paid for, 0 where it has no account."""
    return next((leaf.last_nonce for leaf in accounts if leaf.worker == worker), 0)
