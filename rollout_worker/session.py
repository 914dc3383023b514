"""One engine at work for one run: lease, bring weights, generate, submit, all three at once.

The engine never waits for the network where it can be helped. While it generates one job, a second
thread leases the next and brings its weights, and `sell.py` signs and submits the last. Between jobs
the engine loads changed weights. A lost orchestrator is waited for; what is finished is kept until
its lease ends. After a stop the job in hand is finished and sent, and the one ahead is returned.
"""

import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum

import structlog

from audit.omissions import KeptReceipt
from client.connection import Later
from client.counters import Counters
from client.policies import FetchedPolicy, PolicyCache, PolicyUnreachable
from client.retry import Unreachable
from client.worker import WorkerRoutes
from local.files import NotWritten
from protocol.commitment import check_lease
from protocol.errors import (
    Excluded,
    Malformed,
    MarketError,
    NotJoined,
    RunNotOpen,
    SelfCheckDue,
    TooManyRejected,
)
from protocol.messages import LeaseRequest, RunInfo
from protocol.rollout import Lease, Receipt, Rollout, SignedLease, Work
from protocol.signing import Domain
from rollout_worker.choose import OVER, Ability, choose
from rollout_worker.config import WorkerConfig
from rollout_worker.engines.base import Engine
from rollout_worker.generate import generate_groups
from rollout_worker.nonces import NonceGaps
from rollout_worker.pay.receipts import ReceiptBook
from rollout_worker.sell import Delivery, Outbox, Postage
from rollout_worker.wallet import Permit


class End(StrEnum):
    """Why a worker leaves a run."""

    STOPPED = "stopped"
    RUN_OVER = "run_over"
    EXCLUDED = "excluded"
    REFUSED = "refused"
    OUTBID = "outbid"
    INTERRUPTED = "interrupted"
    PAUSED = "paused"
    """No leases until this machine passes a self-check."""
    RESUMED = "resumed"


@dataclass(frozen=True, slots=True)
class Job:
    """Leases of one policy version, with its verified weights."""

    policy: FetchedPolicy
    leases: tuple[Lease, ...]


@dataclass(frozen=True, slots=True)
class Seller:
    """Who works: the keys, the market and the ability, for as long as the process lives."""

    config: WorkerConfig
    key: bytes
    identity: str
    domain: Domain
    routes: WorkerRoutes
    receipts: ReceiptBook
    counters: Counters
    ability: Ability
    stop: threading.Event


class Shift:
    """One engine at work for one run, from its first lease until an `End`."""

    def __init__(
        self,
        seller: Seller,
        info: RunInfo,
        store: PolicyCache,
        engine: Engine,
        permit: Permit,
    ) -> None:
        self._seller = seller
        self._permit = permit
        self._info = info
        self._store = store
        self._engine = engine
        self._loaded = b""
        self._ahead = ThreadPoolExecutor(1, thread_name_prefix="ahead")
        config = seller.config
        postage = Postage(
            url=config.orchestrator,
            key=seller.key,
            info=info,
            domain=seller.domain,
            engine=engine.name,
            retry=config.retry,
            drain_seconds=config.drain_seconds,
        )
        self._outbox = Outbox(postage, self._told)
        self._backlog: deque[SignedLease] = deque()
        self._promised: dict[int, SignedLease] = {}
        self._gaps = NonceGaps()
        self._hindered_by = ""
        self._is_lowered = False
        self._rejected = ""
        self._ended: End | None = None
        self._fault: NotWritten | None = None
        self._looked_at = time.monotonic()
        self._log = structlog.get_logger().bind(run=info.run_id)

    def run(self) -> End:
        """Work until an end; everything finished has been sent or given up when this returns."""
        self._outbox.start()
        coming = self._ahead.submit(self._prepare)
        try:
            while True:
                job = self._await(coming)
                if isinstance(job, End):
                    return job
                if self._is_leaving():
                    return self._ended or End.STOPPED
                coming = self._ahead.submit(self._prepare)
                groups = self._generate(job)
                self._outbox.put(list(zip(job.leases, groups, strict=True)))
                self._seller.counters.write()
        finally:
            self._close(coming)
            if self._fault is not None:
                raise self._fault

    def _is_leaving(self) -> bool:
        return self._ended is not None or self._seller.stop.is_set()

    def _close(self, coming: "Future[Job | End]") -> None:
        """Return what was leased ahead and wait for what was finished."""
        self._ended = self._ended or End.INTERRUPTED
        ahead = coming.result() if coming.exception() is None else None
        unused = [signed.lease for signed in self._backlog]
        if isinstance(ahead, Job):
            unused += ahead.leases
        self._give_back(tuple(unused))
        self._outbox.close()
        self._ahead.shutdown(wait=True)
        self._seller.counters.write(now=True)

    def _await(self, coming: "Future[Job | End]") -> Job | End:
        with self._seller.counters.timing("wait"):
            return coming.result()

    def _generate(self, job: Job) -> list[tuple[Rollout, ...]]:
        """Bring the engine to the job's policy and sample every group."""
        counters, eos = self._seller.counters, self._info.spec.eos_token_ids
        with counters.timing("busy"):
            if self._loaded != job.policy.digest:
                with counters.timing("load"):
                    self._engine.load(job.policy.weights)
                self._loaded = job.policy.digest
                self._log.info("policy loaded", version=job.policy.version)
            groups = generate_groups(
                self._engine,
                job.leases,
                eos_token_ids=eos,
            )
        counters.add("generated_tokens", sum(len(r.tokens) // 4 for group in groups for r in group))
        counters.used_policy(
            self._info.run_id, job.policy.version, job.policy.digest, len(job.leases)
        )
        return groups

    # one job ahead, in its own thread

    def _prepare(self) -> Job | End:
        """Lease the next job and bring its weights to the host; never raises what ends a shift."""
        try:
            while True:
                if (end := self._reason_to_leave()) is not None:
                    return end
                leases = self._lease()
                if not leases:
                    continue
                try:
                    policy = self._store.reach(
                        leases[0].policy_version,
                        leases[0].policy_digest,
                        give_up=self._is_leaving,
                    )
                except (PolicyUnreachable, Unreachable) as error:
                    self._log.warning("leases returned", reason=str(error))
                    self._give_back(leases)
                    self._pause(self._seller.config.poll_seconds, "the leased policy")
                    continue
                return Job(policy, leases)
        except Unreachable:
            return self._ended or End.STOPPED
        except Excluded as error:
            self._log.error("excluded", reason=error.message)
            return End.EXCLUDED
        except SelfCheckDue as error:
            self._log.warning("leasing paused", reason=error.message)
            return End.PAUSED
        except MarketError as error:
            self._log.error("refused", code=error.code, reason=error.message)
            return End.REFUSED

    def _lease(self) -> tuple[Lease, ...]:
        """Return leases of one version, or none after a pause."""
        seller = self._seller
        if not self._backlog:
            if not self._may_lease():
                return ()
            request = LeaseRequest(count=seller.config.groups_per_call)
            try:
                answer = seller.routes.lease(self._info.run_id, request, give_up=seller.stop.is_set)
            except (RunNotOpen, NotJoined, TooManyRejected) as error:
                self._rest(error)
                return ()
            if isinstance(answer, Later):
                self._pause(answer.seconds, "the trainer: enough groups are out")
                return ()
            self._pause(0.0, "")
            self._gaps.saw([*answer.skipped, *(signed.lease.nonce for signed in answer.leases)])
            self._tell(answer.notice)
            self._tell_rejected(answer.rejected)
            self._backlog.extend(answer.leases)
        return self._take()

    def _tell(self, notice: str) -> None:
        """Log once what the orchestrator says of a lowered standing, and once that it is good again."""
        if bool(notice) == self._is_lowered:
            return
        self._is_lowered = bool(notice)
        if notice:
            self._log.warning("standing lowered", notice=notice)
        else:
            self._log.info("standing good again")

    def _tell_rejected(self, rejected: str) -> None:
        """Log a group that a replay rejected, with where to see it position by position."""
        if rejected and rejected != self._rejected:
            digest, _, detail = rejected.partition(": ")
            show = f"rollcall verify --explain {digest} --orchestrator {self._seller.config.orchestrator}"
            self._log.warning("group not paid", digest=digest, detail=detail, see=show)
        self._rejected = rejected

    def _may_lease(self) -> bool:
        """Return whether the run has a fresh permit on chain, after a pause where it has not.

        The orchestrator is not asked: it may be the one that ought to have stopped.
        """
        found = self._permit.hindrance()
        reason = found.reason if found else ""
        if reason != self._hindered_by:
            self._hindered_by = reason
            self._log.info("leasing stopped" if reason else "leasing again", reason=reason)
        if found is None:
            return True
        if found.is_over:
            self._ended = End.RUN_OVER
        else:
            self._pause(self._seller.config.poll_seconds, found.reason)
        return False

    def _take(self) -> tuple[Lease, ...]:
        """Take the checked leases at the front that share one policy."""
        first = self._backlog[0].lease if self._backlog else None
        taken, late = [], []
        while (
            self._backlog and first and self._backlog[0].lease.policy_digest == first.policy_digest
        ):
            signed = self._backlog.popleft()
            check_lease(
                signed, info=self._info, domain=self._seller.domain, worker=self._seller.identity
            )
            if signed.lease.deadline > self._seller.routes.clock.now():
                self._promise(signed)
                taken.append(signed.lease)
            else:
                late.append(signed.lease)
        if late:
            remedy = "ask for fewer at a time: lower groups_per_call"
            self._log.warning("leases too late to begin", count=len(late), remedy=remedy)
            self._give_back(tuple(late))
        return tuple(taken)

    def _promise(self, signed: SignedLease) -> None:
        """Note what is worked for; two groups for one nonce would have one receipt between them."""
        nonce = signed.lease.nonce
        if nonce in self._promised:
            raise Malformed(f"nonce {nonce} is leased again before its group was delivered")
        self._promised[nonce] = signed

    def _reason_to_leave(self) -> End | None:
        seller = self._seller
        if self._ended is not None:
            return self._ended
        if seller.stop.is_set():
            return End.STOPPED
        now = time.monotonic()
        if now - self._looked_at < seller.config.reconsider_seconds:
            return None
        self._looked_at = now
        best = choose(seller.routes.runs(give_up=self._is_leaving), seller.ability)
        return End.OUTBID if best and best.spec.rate > self._info.spec.rate else None

    def _rest(self, error: MarketError) -> None:
        """Leave a run that is over; wait for one that is halted, out of money, yet to see us or weary of us."""
        seller = self._seller
        info = seller.routes.run(self._info.run_id, give_up=self._is_leaving)
        if info.status in OVER:
            self._ended = End.RUN_OVER
            return
        self._log.info("run rests", reason=error.message)
        self._pause(error.retry_after_seconds or seller.config.poll_seconds, error.message)

    def _pause(self, seconds: float, waits_for: str) -> None:
        self._seller.counters.state("waits_for", waits_for)
        self._seller.counters.write()
        self._seller.stop.wait(seconds)

    def _give_back(self, leases: tuple[Lease, ...]) -> None:
        """Return leases, as a courtesy: those that cannot be returned expire by themselves."""
        if not leases:
            return
        gone = time.monotonic() + self._seller.config.drain_seconds
        try:
            self._seller.routes.return_leases(
                self._info.run_id,
                tuple(lease.lease_id for lease in leases),
                give_up=lambda: time.monotonic() > gone,
            )
            self._log.info("leases returned", count=len(leases))
        except (MarketError, Unreachable) as error:
            self._log.warning("leases not returned", count=len(leases), reason=str(error))

    # what became of finished groups, told from another thread

    def _told(self, delivery: Delivery) -> None:
        counters = self._seller.counters
        log = self._log.bind(nonce=delivery.nonce)
        lease = self._promised.pop(delivery.nonce)
        if not delivery.receipt:
            if delivery.code == "lost":
                counters.add("groups_lost")
            else:
                counters.add_to("refused", delivery.code)
            log.warning("group not sold", code=delivery.code, reason=delivery.reason)
            if delivery.code == Excluded.code:
                self._ended = End.EXCLUDED
            return
        receipt = Receipt.from_json(delivery.receipt)
        work = Work.from_json(delivery.work)
        try:
            self._seller.receipts.keep(KeptReceipt(receipt=receipt, work=work, lease=lease))
        except NotWritten as error:  # work without evidence is not worth doing
            self._fault, self._ended = error, End.INTERRUPTED
        counters.add_to("bytes", "submission", delivery.num_bytes)
        if receipt.rejection:
            counters.add_to("rejected", receipt.rejection)
            log.warning("group rejected", rejection=receipt.rejection, detail=receipt.detail)
            return
        counters.add("groups")
        counters.add("tokens", delivery.num_tokens)
