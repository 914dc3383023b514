"""Workers and verifiers without an engine, for tests about money: real keys, leases, chain and files.

A worker sells the worked solution of each task; a verifier accepts whatever it is asked to replay, and
signs epochs by the verifier program's own rules. Only what a model would do is left out.
"""

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from audit.omissions import KeptReceipt
from client.connection import Later
from protocol.commitment import check_lease, check_receipt, commit
from protocol.constants import MAX_SUBMISSION_BYTES, MAX_SUBMISSION_INFLATED_BYTES
from protocol.environments.registry import environment
from protocol.errors import MarketError
from protocol.messages import AuditRequest, AuditTask, LeaseRequest, Leases, RunInfo
from protocol.rollout import Lease, Rollout, SignedLease, read_submission
from protocol.signing import sign
from protocol.verdict import NOTHING_MEASURED, Outcome, ReplayStats, Seal, Verdict
from rollout_worker.main import books_of, open_seller
from rollout_worker.pay.bookkeeping import Bookkeeper
from rollout_worker.session import Seller
from rollout_worker.verify.epochs import EpochSigner, Verifier
from rollout_worker.verify.opening import open_verifier
from rollout_worker.verify.verdicts import VerdictBook
from rollout_worker.wallet import Wallet
from tests.stage.live import MODEL, LiveMarket, key_of

ENGINE = "transformers-cpu"


@dataclass(frozen=True, slots=True)
class LightWorker:
    """One worker at work for the market's run."""

    seller: Seller
    wallet: Wallet
    info: RunInfo
    books: Bookkeeper

    @property
    def address(self) -> str:
        return self.seller.identity

    def sell(self, count: int) -> int:
        """Sell groups and keep their receipts; return their units."""
        units = 0
        for signed in leased(self.seller, self.info, count):
            group = solutions(self.info, signed.lease)
            kept = sold(self.seller, self.info, signed, group, engine=ENGINE)
            assert not kept.receipt.rejection, kept.receipt
            units += kept.work.tokens
        return units


def leased(seller: Seller, info: RunInfo, count: int) -> tuple[SignedLease, ...]:
    """Lease, waiting while work is paced; raises what the orchestrator refuses."""
    request = LeaseRequest(count=count)
    while isinstance(answer := seller.routes.lease(info.run_id, request), Later):
        time.sleep(0.1)
    assert isinstance(answer, Leases)
    for signed in answer.leases:
        check_lease(signed, info=info, domain=seller.domain, worker=seller.identity)
    return answer.leases


def sold(
    seller: Seller, info: RunInfo, signed: SignedLease, group: Sequence[Rollout], *, engine: str
) -> KeptReceipt:
    """Send a group under a lease, and keep its receipt as the program would."""
    commitment = commit(
        signed.lease,
        tuple(group),
        engine=engine,
        spec=info.spec,
        domain=seller.domain,
        key=seller.key,
        now=int(time.time()),
    )
    receipt = seller.routes.submit(info.run_id, commitment.body)
    check_receipt(
        *(receipt, signed.lease, commitment.work_digest), spec=info.spec, domain=seller.domain
    )
    kept = KeptReceipt(receipt=receipt, work=commitment.work, lease=signed)
    seller.receipts.keep(kept)
    return kept


def solutions(info: RunInfo, lease: Lease) -> tuple[Rollout, ...]:
    """Return one completion per seed: the right answer and a wrong one in turns."""
    tokenizer = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    problems = environment(info.spec.environment, info.spec.environment_config)
    texts = [problems.problem(lease.index).solution, "#0"]
    ids = [tokenizer.encode(texts[i % 2]).ids for i in range(lease.group_size)]
    ended = [[*tokens, info.spec.eos_token_ids[0]] for tokens in ids]
    return tuple(Rollout.of(tokens, [-0.5] * len(tokens)) for tokens in ended)


@contextmanager
def selling(live: LiveMarket, name: str, **changes: object) -> Iterator[LightWorker]:
    """Register, stake and join as a worker, and keep its books."""
    config = live.worker(name, books_seconds=0.2, **changes)
    with open_seller(config, key_of(name), threading.Event()) as (seller, wallet):
        info = seller.routes.run(live.run_id)
        wallet.check_run(info)
        wallet.join(info)
        with books_of(seller, wallet, live.run_id) as books:
            yield LightWorker(seller, wallet, info, books)


def unseen(verifier: Verifier, task: AuditTask) -> ReplayStats:
    """Return figures over the rollouts of a task that nobody replayed: all is as it should be."""
    body = verifier.routes.blob(task.body, max_bytes=MAX_SUBMISSION_BYTES, kind="submission")
    rollouts = read_submission(body, MAX_SUBMISSION_INFLATED_BYTES).rollouts
    num_tokens = sum(len(rollouts[i].token_ids()) for i in task.rollouts)
    counts = {"num_tokens": num_tokens, "num_matched": num_tokens}
    return NOTHING_MEASURED.model_copy(update=counts)


def accepted(seen: ReplayStats) -> dict[str, object]:
    return {"outcome": Outcome.ACCEPTED, "rejection": "", "detail": "", "stats": seen}


class Voter:
    """A verifier's votes in one run without a replay: each is sealed, and sent once its vote is closed."""

    def __init__(self, verifier: Verifier, run_id: int) -> None:
        self._verifier = verifier
        self._run_id = run_id
        self._verdicts: dict[bytes, Verdict] = {}

    def vote(self, says: Callable[[ReplayStats], dict[str, object]]) -> None:
        """Judge every task that is offered, and send the verdicts that are due."""
        seals: tuple[Seal, ...] = ()
        while True:
            request = AuditRequest(count=64, seals=seals)
            answer = self._verifier.routes.audits(self._run_id, request)
            if isinstance(answer, Later):
                return
            for closed in answer.closed:
                self._verifier.routes.verdict(self._run_id, self._verdicts[closed.work_digest])
            seals = tuple(
                self._sealed(task, says(unseen(self._verifier, task))) for task in answer.tasks
            )
            if not seals:
                return

    def _sealed(self, task: AuditTask, found: dict[str, object]) -> Seal:
        if task.work_digest not in self._verdicts:
            unsigned = Verdict.model_validate(
                {
                    "run_id": self._run_id,
                    "work_digest": task.work_digest,
                    "verifier": self._verifier.identity,
                    "rollouts": task.rollouts,
                    "mismatches": (),
                    "salt": secrets.token_bytes(32),
                    "decided_at": int(time.time()),
                    "signature": bytes(65),
                    **found,
                }
            )
            signed = unsigned.model_copy(update={"signature": self._signature(unsigned)})
            self._verdicts[task.work_digest] = signed
        seal = Seal.of(self._verdicts[task.work_digest])
        return seal.model_copy(update={"signature": self._signature(seal)})

    def _signature(self, message: Verdict | Seal) -> bytes:
        return sign(self._verifier.key, self._verifier.domain.digest(message))


class Quorum:
    """Verifiers that accept all work at once and sign honest epochs, each while told to."""

    def __init__(self, live: LiveMarket, verifiers: Sequence[Verifier], folder: Path) -> None:
        self._voters = [Voter(verifier, live.run_id) for verifier in verifiers]
        info = verifiers[0].routes.run(live.run_id)
        self._signers = [
            EpochSigner(verifier, info, VerdictBook(folder / f"{n}.jsonl"))
            for n, verifier in enumerate(verifiers)
        ]
        self.accepts = True
        self.signs = True
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _serve(self) -> None:
        while not self._stop.wait(0.1):
            for voter, signer in zip(self._voters, self._signers, strict=True):
                try:
                    if self.accepts:
                        voter.vote(accepted)
                    if self.signs:
                        signer.step()
                except MarketError:
                    continue  # short of stake, or asked too early: again in the next round


@contextmanager
def verifying(live: LiveMarket, *names: str) -> Iterator[Quorum]:
    """Run these verifiers: all of them registered and staked."""
    with ExitStack() as stack:
        verifiers = [
            stack.enter_context(open_verifier(live.verifier(n), key_of(n), threading.Event()))
            for n in names
        ]
        quorum = Quorum(live, verifiers, live.folder / "verdicts")
        quorum.start()
        stack.callback(quorum.stop)
        yield quorum
