"""Sign and send finished groups from a process of its own, so that the engine keeps its interpreter.

An engine on a small model enters the interpreter thousands of times a second, and each time waits for
whatever thread holds it: a thread that signs and sends for 15 % of the time slowed vLLM by 10 to 32 %
on two cores, a second process that was always busy by nothing measurable.

The child imports no engine and no chain. It ignores the signals that stop a worker, because the
parent decides when it may end, and it ends by itself where the parent was killed.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.synchronize import Event

import structlog

from client.connection import Connection
from client.retry import RetryConfig, Unreachable
from client.worker import WorkerRoutes
from protocol.commitment import check_receipt, commit
from protocol.errors import MarketError
from protocol.messages import RunInfo
from protocol.rollout import Lease, Rollout
from protocol.signing import Domain

NUM_SENDERS = 4
"""Groups on their way at once: hides the network's round trip, not the orchestrator's work."""
PARENT_POLL_SECONDS = 1.0

Finished = tuple[Lease, tuple[Rollout, ...]]


@dataclass(frozen=True, slots=True)
class Postage:
    """What the child needs to sign and send for one run."""

    url: str
    key: bytes
    info: RunInfo
    domain: Domain
    engine: str
    retry: RetryConfig
    drain_seconds: float


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of one group. `receipt` is empty where there is none, then `code` says why; else
    `work` is what was signed and it answers, both in JSON.
    """

    nonce: int
    num_tokens: int
    num_bytes: int
    receipt: bytes = b""
    work: bytes = b""
    code: str = ""
    reason: str = ""


class Outbox:
    """Delivers groups in the background, and tells of each by `told`, from another thread."""

    def __init__(self, postage: Postage, told: Callable[[Delivery], None]) -> None:
        self._told = told
        self._postage = postage
        self._closing = multiprocessing.get_context("spawn").Event()
        self._pool = self._open()

    def start(self) -> None:
        """Wait until the child is up, so that the first groups do not queue behind its imports."""
        self._pool.submit(os.getpid).result()

    def put(self, groups: Sequence[Finished]) -> None:
        """Hand over one job's finished groups."""
        nonces = tuple(lease.nonce for lease, _ in groups)
        try:
            job = self._pool.submit(_deliver_all, tuple(groups))
        except BrokenProcessPool:  # the child was killed; what it held is told as lost
            structlog.get_logger().warning("sender ended", remedy="another is started")
            self._pool = self._open()
            job = self._pool.submit(_deliver_all, tuple(groups))
        job.add_done_callback(lambda done: self._tell(done, nonces))

    def close(self) -> None:
        """Wait until each group is delivered or lost: to its deadline or the drain's end."""
        self._closing.set()
        self._pool.shutdown(wait=True)

    def _open(self) -> ProcessPoolExecutor:
        spawning = multiprocessing.get_context("spawn")
        arguments = (self._postage, self._closing)
        return ProcessPoolExecutor(1, spawning, initializer=_start, initargs=arguments)

    def _tell(self, done: "Future[tuple[Delivery, ...]]", nonces: tuple[int, ...]) -> None:
        if (error := done.exception()) is None:
            deliveries = done.result()
        else:  # the child was killed: what it held was not sent, or its receipt is lost
            deliveries = tuple(
                Delivery(nonce, 0, 0, code="lost", reason=str(error)) for nonce in nonces
            )
        for delivery in deliveries:
            self._told(delivery)


class SendingChild:
    """The child's side."""

    def __init__(self, postage: Postage, closing: Event) -> None:
        self._postage = postage
        self._closing = closing
        self._closed_at: float | None = None
        chain_id = postage.domain.chain_id
        connection = Connection(
            postage.url, postage.key, chain_id=chain_id, retry=postage.retry, tells=False
        )
        self._routes = WorkerRoutes(connection)
        self._threads = ThreadPoolExecutor(NUM_SENDERS, thread_name_prefix="sender")

    def deliver_all(self, groups: Sequence[Finished]) -> tuple[Delivery, ...]:
        return tuple(self._threads.map(lambda group: self._deliver(*group), groups))

    def _deliver(self, lease: Lease, rollouts: tuple[Rollout, ...]) -> Delivery:
        """Sign and send one group; try until its lease ends, or the drain does after a stop."""
        postage = self._postage
        spec = postage.info.spec
        commitment = commit(
            lease,
            rollouts,
            engine=postage.engine,
            spec=spec,
            domain=postage.domain,
            key=postage.key,
            now=int(self._routes.clock.now()),
        )
        sizes = (lease.nonce, commitment.num_tokens, len(commitment.body))
        try:
            receipt = self._routes.submit(
                postage.info.run_id, commitment.body, give_up=lambda: self._is_lost(lease)
            )
            check_receipt(receipt, lease, commitment.work_digest, spec=spec, domain=postage.domain)
        except Unreachable as error:
            return Delivery(*sizes, code="lost", reason=str(error))
        except MarketError as error:
            return Delivery(*sizes, code=error.code, reason=error.message)
        return Delivery(*sizes, receipt=receipt.to_json(), work=commitment.work.to_json())

    def _is_lost(self, lease: Lease) -> bool:
        if self._routes.clock.now() > lease.deadline:
            return True
        if self._closed_at is None and self._closing.is_set():
            self._closed_at = time.monotonic()
        since = self._closed_at
        return since is not None and time.monotonic() - since > self._postage.drain_seconds


class _Child:
    """The one sender of a child process: an initializer can leave it nowhere else."""

    sender: SendingChild


def _start(postage: Postage, closing: Event) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    _Child.sender = SendingChild(postage, closing)


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_POLL_SECONDS)
    os._exit(1)


def _deliver_all(groups: tuple[Finished, ...]) -> tuple[Delivery, ...]:
    return _Child.sender.deliver_all(groups)
