"""The verifier's program: replay audits, sign fraud reports and epochs, each only after checking.

A verifier is a worker that replays instead of generating. Its signature is all it is trusted for, so
it signs nothing it has not recomputed: a fraud report only where its own replays are worth the stake
(`protocol.checks.evidence`), an epoch only where every sum follows from signed work and nothing in it contradicts its own verdicts.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Protocol

import structlog

from audit.chain_facts import Keys
from client.connection import Later
from client.policies import PolicyCache, bring_model_folder
from client.retry import Unreachable
from ledger.errors import ChainUnreachable, LedgerError
from local.voice import Voice
from protocol.checks.seal import seals_that_hold, why_not_open
from protocol.errors import MarketError, VoteLost
from protocol.messages import AuditRequest, AuditTask, AuditTasks, ClosedVote, RunInfo
from protocol.policies.manifest import Weights
from protocol.user_error import UserError, hosts_only
from protocol.verdict import Outcome, Seal, Verdict
from rollout_worker.choose import OVER
from rollout_worker.replay.measure import Replayer, ReplayModel
from rollout_worker.replay.registry import open_replayer
from rollout_worker.verify.accusations import ReportSigner
from rollout_worker.verify.drift import DriftBook
from rollout_worker.verify.epochs import EpochSigner, Verifier
from rollout_worker.verify.recheck import Rechecker
from rollout_worker.verify.verdicts import VerdictBook, VerdictSigner


class Watch:
    """A verifier's work for one run."""

    def __init__(self, verifier: Verifier, info: RunInfo) -> None:
        self._verifier = verifier
        self._info = info
        self._run_id = info.run_id
        self._book = VerdictBook(verifier.config.data_dir / f"verdicts-{info.run_id}.jsonl")
        self._signer = VerdictSigner(
            *(info.run_id, verifier.identity, verifier.key, verifier.domain),
            now=verifier.routes.clock.now,
        )
        self._recheck = Rechecker(
            verifier.routes,
            info,
            PolicyCache(
                verifier.routes,
                run_id=info.run_id,
                spec=info.spec,
                domain=verifier.domain,
                keep=verifier.config.replay.policies_kept,
            ),
            self._signer,
            spoke_for=Keys(verifier.wallet.ledger).spoke_for,
            open_suspects=self._open_suspects,
            drifts=DriftBook(verifier.config.data_dir / f"drift-{info.run_id}.jsonl"),
            most_seconds=verifier.config.replay.most_seconds,
            open_model=self._open_model,
            give_up=verifier.stop.is_set,
        )
        self._epochs = EpochSigner(verifier, info, self._book)
        self._reports = ReportSigner(verifier, info, self._book, self._recheck)
        self._seals: tuple[Seal, ...] = ()
        """Of verdicts that were found since the last request."""
        self._kept_back: set[bytes] = set()
        self._looked_at = 0.0
        self._has_lost_vote = False
        self._log = structlog.get_logger().bind(run=info.run_id)

    def step(self) -> float:
        """Do what there is to do; return after how many seconds to look again, 0 for at once."""
        verifier = self._verifier
        now = time.monotonic()
        if now - self._looked_at >= verifier.config.poll_seconds:
            self._looked_at = now
            self._reports.step()
            self._epochs.step()
        with verifier.counters.timing("wait"):
            answer = self._ask()
        if isinstance(answer, Later):
            verifier.counters.state("waits_for", "groups to replay")
            return min(answer.seconds, verifier.config.poll_seconds)
        self._tell(answer.closed)
        with verifier.counters.timing("busy"):
            verifier.counters.state("waits_for", "" if answer.tasks else "groups to replay")
            self._examine(answer.tasks)
        return 0.0 if answer.tasks else verifier.config.poll_seconds

    # audits

    def _ask(self) -> AuditTasks | Later:
        """Send seals and ask for replays; a lost vote is said once, for epochs are still to be signed."""
        verifier, count = self._verifier, self._verifier.config.replay.tasks_per_call
        request, self._seals = AuditRequest(count=count, seals=self._seals), ()
        try:
            return verifier.routes.audits(self._run_id, request, give_up=verifier.stop.is_set)
        except VoteLost as error:
            if not self._has_lost_vote:
                self._log.error("vote lost", reason=error.message)
            self._has_lost_vote = True
            return Later(verifier.config.poll_seconds)

    def _examine(self, tasks: Sequence[AuditTask]) -> None:
        """Replay tasks and seal what is found; what was found before a restart is not replayed again."""
        earlier = [self._book.get(task.work_digest) for task in tasks]
        found = [verdict for verdict in earlier if verdict is not None]
        known = {verdict.work_digest for verdict in found}
        for verdict in self._recheck.verdicts([t for t in tasks if t.work_digest not in known]):
            if verdict.outcome is Outcome.UNDECIDED:
                self._send(verdict)
            else:
                self._book.keep(verdict)
                found.append(verdict)
        self._seals = tuple(map(self._signer.seal, found))

    def _tell(self, votes: Sequence[ClosedVote]) -> None:
        """Send verdicts on which others have sealed theirs; the chain says whose seals count, and how many."""
        if not votes:
            return
        verifier, ledger = self._verifier, self._verifier.wallet.ledger
        run, spoke_for = ledger.run(self._run_id), Keys(ledger).spoke_for
        for vote in votes:
            own = self._book.get(vote.work_digest)
            if own is None:
                continue  # of a disk that is lost: others are asked in its place
            seals = seals_that_hold(
                *(vote, own),
                verifiers=run.verifiers,
                domain=verifier.domain,
                spoke_for=spoke_for,
                now=int(verifier.routes.clock.now()),
            )
            reason = why_not_open(seals, own, threshold=run.threshold)
            if reason is not None:
                if own.work_digest not in self._kept_back:
                    work = f"0x{own.work_digest.hex()}"
                    self._log.error("verdict not sent", digest=work, reason=reason)
                self._kept_back.add(own.work_digest)
                continue
            self._book.keep_seals(vote.model_copy(update={"seals": seals}))
            self._send(own)

    def _send(self, verdict: Verdict) -> None:
        verifier = self._verifier
        try:
            verifier.routes.verdict(self._run_id, verdict, give_up=verifier.stop.is_set)
        except MarketError as error:  # settled meanwhile, or given to somebody else
            self._log.warning("verdict refused", code=error.code, reason=error.message)
            return
        verifier.counters.add_to("verdicts", verdict.outcome.value)
        verifier.counters.add("tokens", verdict.stats.num_tokens)

    def _open_model(self, weights: Weights) -> Replayer:
        verifier = self._verifier
        folder = verifier.config.data_dir / "models" / str(self._run_id)
        bring_model_folder(
            verifier.routes, self._info.spec, weights, folder, give_up=verifier.stop.is_set
        )
        return open_replayer(
            verifier.config.replay,
            folder,
            dtype=self._info.spec.compute_dtype,
            max_model_len=self._info.spec.max_model_len,
        )

    def _open_suspects(self, weights: Weights) -> ReplayModel:
        """Open what hypotheses are tried with; it swaps weights, which the other model keeps."""
        verifier, spec = self._verifier, self._info.spec
        folder = verifier.config.data_dir / "models" / str(self._run_id)
        bring_model_folder(verifier.routes, spec, weights, folder, give_up=verifier.stop.is_set)
        return ReplayModel(folder, dtype=spec.compute_dtype, device=verifier.config.replay.device)


def serve(verifier: Verifier) -> None:
    """Verify every configured run that names this verifier, until told to stop."""
    log = structlog.get_logger()
    watches: dict[int, Watch] = {}
    looked_at = -float("inf")
    chain = Voice("chain", at=hosts_only(verifier.config.chain.rpc_url))
    while not verifier.stop.is_set():
        pause = verifier.config.poll_seconds
        try:
            if time.monotonic() - looked_at > 10 * verifier.config.poll_seconds or not watches:
                looked_at = time.monotonic()
                _find_runs(verifier, watches)
            pause = step_all(watches, most=pause, chain=chain)
        except Unreachable:
            return
        except (MarketError, LedgerError) as error:
            log.error("runs not found", reason=str(error))
        verifier.counters.write()
        if pause:
            with verifier.counters.timing("wait"):
                verifier.stop.wait(pause)


class Duty(Protocol):
    """What is done for one run, over and over."""

    def step(self) -> float:
        """Do what there is to do; return after how many seconds to look again."""
        ...


def step_all(watches: Mapping[int, Duty], *, most: float, chain: Voice) -> float:
    """Take a step for every run and return the shortest pause; one run's trouble is its own."""
    log = structlog.get_logger()
    pause = most
    for run_id, watch in watches.items():
        try:
            with chain.hears(ChainUnreachable):
                pause = min(pause, watch.step())
        except ChainUnreachable:
            continue
        except (MarketError, LedgerError) as error:
            log.error("verification interrupted", run=run_id, reason=str(error))
        except UserError:  # told to stop, or no engine replays any more
            raise
        except Exception as error:
            # Libraries raise anything for what an operator or a worker wrote.
            log.exception("verification interrupted", run=run_id, reason=repr(error))
    return pause


def _find_runs(verifier: Verifier, watches: dict[int, Watch]) -> None:
    """Watch runs whose verifiers on chain include this one; a stopped run is watched until closed."""
    wanted = verifier.config.runs
    for info in verifier.routes.runs(give_up=verifier.stop.is_set):
        is_new = info.run_id not in watches and info.status is not OVER[-1]
        if not is_new or (wanted != "any" and info.run_id not in wanted):
            continue
        log = structlog.get_logger().bind(run=info.run_id)
        try:
            state = verifier.wallet.check_run(info)
        except (MarketError, LedgerError) as error:
            log.error("run not watched", reason=str(error))
            continue
        if verifier.identity in state.verifiers:
            _join(verifier, info)
            watches[info.run_id] = Watch(verifier, info)
            log.info("watching")


def _join(verifier: Verifier, info: RunInfo) -> None:
    """Join as a worker does: a run that tests its verifiers takes verdicts of those that joined only."""
    try:
        verifier.wallet.join(info)
    except (MarketError, LedgerError) as error:
        log = structlog.get_logger()
        log.warning("run not joined", run=info.run_id, reason=str(error))
