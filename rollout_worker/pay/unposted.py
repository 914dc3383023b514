"""What a worker's receipts promise that no posted epoch has. Pure.

Nonces ascend across a run's epochs, so what is above the worker's last paid one is in none yet, and what an epoch
passed over is in none ever.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from audit.omissions import KeptReceipt
from protocol.epoch import AccountLeaf, accounts_of
from protocol.messages import EpochFile


@dataclass(frozen=True, slots=True)
class Unposted:
    """Accepted work of one run that no epoch has, oldest first."""

    kept: tuple[KeptReceipt, ...] = ()

    @property
    def units(self) -> int:
        return sum(item.work.tokens for item in self.kept)

    def __len__(self) -> int:
        return len(self.kept)


def unposted(
    promises: Iterable[KeptReceipt], *, last_nonce: int, skipped: Callable[[int], bool]
) -> Unposted:
    """Return what is promised above the last nonce that was paid, or was skipped below it, each nonce once."""
    found = (k for k in promises if k.work.nonce > last_nonce or skipped(k.work.nonce))
    by_nonce = {k.work.nonce: k for k in found}
    return Unposted(tuple(by_nonce[nonce] for nonce in sorted(by_nonce)))


def is_skipped(files: Mapping[int, EpochFile], worker: str, nonce: int) -> bool:
    """Return whether the posted epoch that passed over a nonce lacks it; False where its files are not here.

    `files` are by epoch, each the very one that was posted.
    """
    for epoch, file in files.items():
        before = files.get(epoch - 1)
        if epoch and before is None:
            continue
        first = last_nonce_of(accounts_of(before), worker) if before else 0
        if first < nonce <= last_nonce_of(accounts_of(file), worker):
            return all((c.worker, c.nonce) != (worker, nonce) for c in file.contributions)
    return False


def last_nonce_of(accounts: Sequence[AccountLeaf], worker: str) -> int:
    """Return the last nonce that a worker was paid for, 0 where it has no account."""
    return next((leaf.last_nonce for leaf in accounts if leaf.worker == worker), 0)
