"""Appeal each accusation of this verifier: it judges by its own replays alone, so none is true of it.

Whoever names verifiers may name friends of its own beside an honest one, and a quorum of friends may report it for
whatever it likes. Silence would concede, and an appeal costs gas alone; the arbiter's silence acquits, and that is
written down here too. Needs the chain and nobody else.
"""

import structlog

from audit.accusations import Accusation, Accusations
from ledger.ledger import Ledger
from ledger.state import SlashStatus
from rollout_worker.pay.defence import reason_digest


class Pleas:
    """Example: `pleas = Pleas(ledger, identity)`, then `pleas.step()`, over and over"""

    def __init__(self, ledger: Ledger, identity: str) -> None:
        self._ledger = ledger
        self._identity = identity
        self._accusations: Accusations | None = None
        self._log = structlog.get_logger().bind(verifier=identity)

    def step(self) -> None:
        """Take every accusation a step further."""
        # Events are read only while stake is held: without, there is nothing to lose.
        if not self._ledger.stake_account(self._identity).locked:
            return
        if self._accusations is None:
            self._accusations = Accusations(self._ledger, self._identity)
        now = self._ledger.block_time()
        for accusation in self._accusations.look():
            self._attend(accusation, is_due=now >= accusation.state.deadline)

    def _attend(self, accusation: Accusation, *, is_due: bool) -> None:
        slash_id, work = accusation.slash_id, f"0x{accusation.work_digest.hex()}"
        status = accusation.state.status
        if status is SlashStatus.PROPOSED and not is_due:
            reason = f"what {self._identity} said of {work} is what its own replay found"
            self._ledger.appeal_slash(slash_id, reason_digest(reason))
            remedy = f"show the arbiter that: rollcall verify --explain {work}"
            self._log.warning("accused: appealed", reason=reason, remedy=remedy)
        elif status is SlashStatus.APPEALED and is_due:
            self._ledger.expire_appeal(slash_id)
            self._log.warning("acquitted: the arbiter kept silent", work=work)
