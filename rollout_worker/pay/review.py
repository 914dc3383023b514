"""Look at one's own accused work again: what the market shows of it, and what a replay finds here.

The replay is a verifier's, by the bounds of the run's spec, but under the lease that this worker holds.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from audit.accusations import Accusation
from audit.chain_facts import Keys
from audit.omissions import KeptReceipt
from client.policies import PolicyCache, PolicyUnreachable, bring_model_folder
from client.public import PublicRoutes
from client.retry import GiveUp, Unreachable
from protocol.commitment import check_work
from protocol.constants import MAX_SUBMISSION_BYTES
from protocol.errors import MarketError
from protocol.messages import RunInfo, SubmissionStatus
from protocol.rollout import Lease, Submission, read_submission
from rollout_worker.config import ReplayConfig, WorkerConfig
from rollout_worker.pay.defence import broken_bound
from rollout_worker.replay.measure import Findings
from rollout_worker.replay.registry import open_replayer
from rollout_worker.wallet import Wallet


@dataclass(slots=True)
class WorkReview:
    """What a look at accused work found, as far as it came.

    `problem` says why nobody can check the accusation; else there is a replay, and `broken` names the bound
    of the run that the work breaks.
    """

    info: RunInfo | None = None
    status: SubmissionStatus | None = None
    body: bytes = b""
    findings: Sequence[Findings] = ()
    broken: str = ""
    problem: str = ""


class Review:
    """Example: `Review(config, wallet, market).look(accusation, kept, give_up=stop.is_set)`"""

    def __init__(self, config: WorkerConfig, wallet: Wallet, routes: PublicRoutes) -> None:
        self._config = config
        self._wallet = wallet
        self._routes = routes
        self._keys = Keys(wallet.ledger)

    def look(
        self, accusation: Accusation, kept: KeptReceipt | None, *, give_up: GiveUp
    ) -> WorkReview:
        """Read the accused work and replay it.

        An orchestrator that does not answer is waited for until half of the time to appeal is left. Raises
        `Unreachable` where told to give up, and what a replay raises that this machine cannot make.
        """
        found = WorkReview()
        patience = self._patience(accusation, give_up)
        try:
            self._look(found, accusation, kept, patience)
        except Unreachable as error:
            if give_up():
                raise
            found.problem = str(error)
        except (MarketError, PolicyUnreachable) as error:
            found.problem = f"the market does not show all of the work: {error}"
        return found

    def _look(
        self, found: WorkReview, accusation: Accusation, kept: KeptReceipt | None, give_up: GiveUp
    ) -> None:
        run_id, digest = accusation.state.run_id, accusation.work_digest
        found.info = self._routes.run(run_id, give_up=give_up)
        self._wallet.check_run(found.info)
        found.status = self._routes.submission(run_id, digest, give_up=give_up)
        found.body = self._routes.blob(
            found.status.body, max_bytes=MAX_SUBMISSION_BYTES, kind="submission", give_up=give_up
        )
        submission = read_submission(found.body, found.info.spec.most_submission_bytes)
        signed = kept.lease if kept else found.status.lease
        check_work(
            *(digest, signed, submission),
            info=found.info,
            domain=self._wallet.domain,
            spoke_for=self._keys.spoke_for,
        )
        if signed.lease.worker != self._wallet.identity():
            found.problem = f"the market shows work of {signed.lease.worker}"
            return
        found.findings = self._replayed(found.info, signed.lease, submission, give_up)
        found.broken = broken_bound(found.findings, found.status.verdicts, found.info.spec)

    def _patience(self, accusation: Accusation, give_up: GiveUp) -> GiveUp:
        ledger = self._wallet.ledger
        left = accusation.state.deadline - ledger.block_time() - ledger.appeal_window() / 2
        until = time.monotonic() + left
        return lambda: give_up() or time.monotonic() > until

    def _replayed(
        self, info: RunInfo, lease: Lease, submission: Submission, give_up: GiveUp
    ) -> Sequence[Findings]:
        """Replay one group, and hold its model no longer than that: an engine may be at work beside it."""
        spec, routes = info.spec, self._routes
        store = PolicyCache(
            routes, run_id=info.run_id, spec=spec, domain=self._wallet.domain, keep=1
        )
        policy = store.reach(lease.policy_version, lease.policy_digest, give_up=give_up)
        folder = self._config.data_dir / "appeals" / "model"
        bring_model_folder(routes, spec, policy.weights, folder, give_up=give_up)
        replay = ReplayConfig(device=self._config.engine.device)
        model = open_replayer(
            replay, folder, dtype=spec.compute_dtype, max_model_len=spec.max_model_len
        )
        model.load(policy.weights)
        return model.findings([(lease, submission.rollouts)])[0]
