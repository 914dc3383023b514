"""What the chain says for an examination: the dates, keys and windows that judge a posted epoch."""

from dataclasses import replace

from audit.fraud import Facts
from audit.history import Fate, Posted
from ledger.ledger import Ledger
from ledger.rules import owed_until
from ledger.state import RunState
from protocol.signing import Domain
from protocol.wire import checksum_address


def domain_of(ledger: Ledger) -> Domain:
    """Return the domain of this market's signatures."""
    return Domain(ledger.deployment.chain_id, checksum_address(ledger.deployment.ledger))


def facts_of(ledger: Ledger, posted: Posted, *, now: int) -> Facts:
    """Return what the chain says of a posting; `now` is the time of a block read before this call."""
    facts = facts_now(ledger, posted.run_id, ledger.run(posted.run_id), now=now)
    # The ledger forgets when a retracted header was posted, and takes the present for it.
    if posted.fate is Fate.RETRACTED:
        return facts
    return replace(facts, posted_at=ledger.epoch(posted.run_id, posted.epoch).posted_at)


def facts_now(ledger: Ledger, run_id: int, state: RunState, *, now: int) -> Facts:
    """Return what the chain says of an epoch posted now, at the time of a block before `state` was read."""
    return Facts(
        domain=domain_of(ledger),
        posted_at=now,
        num_parameters=state.num_parameters,
        is_owed=owed_until(ledger, run_id, state, now=now),
        spoke_for=Keys(ledger).spoke_for,
    )


class Keys:
    """The registry's answer to who spoke for whom, asked once for each hot key that it knows."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._known: dict[str, tuple[str, int]] = {}

    def spoke_for(self, signer: str, worker: str, dated: int) -> bool:
        """Whether `signer` is the worker, or a hot key of it that was not revoked by then."""
        if signer == worker:
            return True
        if signer not in self._known:
            found = self._ledger.signer_of(signer)
            if found is None:
                return False  # it may be registered later
            self._known[signer] = found
        owner, until = self._known[signer]
        return owner == worker and dated < until
