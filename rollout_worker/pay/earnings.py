"""What a worker earned in a run, by stage: as `rollcall claim` and `rollcall status` name them. Pure."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from ledger.amounts import Token
from protocol.epoch import AccountLeaf


@dataclass(frozen=True, slots=True)
class Earnings:
    """Amounts in the token's smallest denomination, each counted in one stage only."""

    accepted: int
    """By receipts, in no posted epoch yet."""
    in_challenge: int
    """In a posted epoch that may still be disputed."""
    claimable: int
    claimed: int

    def shown(self, token: Token) -> dict[str, str]:
        """Return each stage's amount as people read it."""
        return {stage: token.show(amount) for stage, amount in asdict(self).items()}


def earned_of(accounts: Sequence[AccountLeaf], worker: str) -> int:
    """Return a worker's units up to an epoch, 0 where it has no account."""
    return next((leaf.earned for leaf in accounts if leaf.worker == worker), 0)
