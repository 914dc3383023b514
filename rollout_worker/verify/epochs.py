"""Sign an epoch, after recomputing it from its file, the chain and what the market shows.

The rules are `audit/epoch.py`'s and `audit/draws.py`'s; this file fetches what they judge. A refused file is looked at again, ever
less often: it may be the node that lags, or the market, and whoever never looked again would not sign.
"""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from audit.chain_facts import facts_now
from audit.epoch import EpochPlace, EpochRefused, check_file, check_group, read_file
from audit.fraud import Facts
from audit.paid import PaidIndex
from audit.published import Openable, unknown
from client.counters import Counters
from client.public import MAX_EPOCH_BYTES
from client.verifier import VerifierRoutes
from ledger.state import EpochState, RunState
from protocol.canonical import keccak256
from protocol.constants import MAX_SUBMISSION_BYTES
from protocol.epoch import AccountLeaf
from protocol.errors import MarketError
from protocol.messages import Contribution, EpochFile, EpochInfo, EpochStage, RunInfo
from protocol.rollout import read_submission
from protocol.signing import Domain, address_of, sign
from protocol.verdict import Outcome
from rollout_worker.config import VerifierConfig
from rollout_worker.verify.draws import DrawCheck
from rollout_worker.verify.kept import KeptFiles
from rollout_worker.verify.verdicts import VerdictBook
from rollout_worker.wallet import Wallet

FIRST_WAIT_SECONDS = 2.0
"""Until a refused file is looked at again: about a block. Doubled each time."""
LONGEST_WAIT_SECONDS = 60.0
"""What a file that stays refused costs at most: one check a minute."""


@dataclass(frozen=True, slots=True)
class Verifier:
    """Who verifies, for as long as the process lives."""

    config: VerifierConfig
    key: bytes
    identity: str
    domain: Domain
    routes: VerifierRoutes
    wallet: Wallet
    kept: KeptFiles
    counters: Counters
    stop: threading.Event


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a file was not signed, and when to look again."""

    reason: str
    wait_seconds: float
    again_at: float


class EpochSigner:
    """Signs the epochs of one run, each once. `clock` gives seconds, from any start."""

    def __init__(
        self,
        verifier: Verifier,
        info: RunInfo,
        book: VerdictBook,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._verifier = verifier
        self._info = info
        self._run_id = info.run_id
        self._book = book
        self._clock = clock
        paid = PaidIndex(verifier.config.data_dir / f"paid-{info.run_id}.sqlite")
        self._draws = DrawCheck(
            verifier.routes, verifier.wallet.ledger, info, verifier.domain, book, paid=paid
        )
        self._refused: dict[bytes, Refusal] = {}
        self._log = structlog.get_logger().bind(run=info.run_id)

    def step(self) -> None:
        """Check and sign the next epoch to be posted, if it is proposed and not signed yet."""
        verifier = self._verifier
        now = verifier.wallet.ledger.block_time()
        state = verifier.wallet.ledger.run(self._run_id)
        epoch = state.num_posted
        if epoch >= state.num_opened:
            return
        info = verifier.routes.epoch(self._run_id, epoch, give_up=verifier.stop.is_set)
        mine = {verifier.identity, address_of(verifier.key)}
        if info.stage is not EpochStage.SIGNING or mine & set(info.signers):
            return
        refusal = self._refused.get(info.file)
        if refusal is not None and self._clock() < refusal.again_at:
            return
        try:
            digest = self._check_epoch(info, state, now)
        except (EpochRefused, MarketError) as error:
            self._refuse(info, str(error))
            return
        verifier.routes.sign_epoch(
            self._run_id, epoch, sign(verifier.key, digest), give_up=verifier.stop.is_set
        )
        verifier.counters.add("epochs_signed")
        self._refused.clear()
        self._log.info("epoch signed", epoch=epoch)

    def _refuse(self, info: EpochInfo, reason: str) -> None:
        """Remember when to look again; tell a reason once."""
        before = self._refused.get(info.file)
        wait = min(2 * before.wait_seconds, LONGEST_WAIT_SECONDS) if before else FIRST_WAIT_SECONDS
        self._refused[info.file] = Refusal(reason, wait, self._clock() + wait)
        if before is None or before.reason != reason:
            self._verifier.counters.add("epochs_refused")
            self._log.error("epoch not signed", epoch=info.epoch, reason=reason)

    def _check_epoch(self, info: EpochInfo, state: RunState, now: int) -> bytes:
        """Return the digest to sign, recomputed from the file and the chain; or raise.

        `now` is the time of a block before `state` was read.
        """
        domain, ledger = self._verifier.domain, self._verifier.wallet.ledger
        before = ledger.epoch(self._run_id, info.epoch - 1) if info.epoch else None
        place = EpochPlace(
            *(self._run_id, info.epoch, state.generation),
            secret_hash=ledger.epoch(self._run_id, info.epoch).secret_hash,
            root_before=before.account_root if before else bytes(32),
        )
        data = self._file(info.file)
        published, facts = read_file(data), facts_now(ledger, self._run_id, state, now=now)
        header = published.header(keccak256(data))
        accounts = self._accounts(info.epoch - 1, before)
        contributions = check_file(published, header, place, facts, before=accounts)
        self._check_standing(published.file, contributions, facts)
        digest = domain.digest(header)
        if digest != info.header_digest:
            raise EpochRefused("the proposed header does not follow from its file")
        self._draws.check(published.file, contributions, state)
        self._verifier.kept.keep(data)
        return digest

    def _accounts(self, epoch: int, state: EpochState | None) -> Openable[AccountLeaf]:
        """Return every account before, from the file whose root is on chain."""
        if state is None:
            return unknown(0)
        found = read_file(self._file(self._verifier.routes.epoch(self._run_id, epoch).file))
        if found.account_tree.root != state.account_root:
            raise EpochRefused(f"the file of epoch {epoch} has not the account root on chain")
        return Openable.whole(found.accounts, found.account_tree)

    def _check_standing(
        self, file: EpochFile, contributions: dict[bytes, Contribution], facts: Facts
    ) -> None:
        """Hold contributions against this verifier's verdicts, and a sample against the market."""
        for digest, item in contributions.items():
            own = self._book.get(digest)
            if own is not None and own.outcome is Outcome.REJECTED:
                raise EpochRefused(f"nonce {item.nonce} of {item.worker} is work I condemned")
        routes, most = self._verifier.routes, self._info.spec.most_submission_bytes
        count = min(len(contributions), self._verifier.config.status_checks_per_epoch)
        secrets = {file.epoch: file.secret}
        for digest in random.SystemRandom().sample(sorted(contributions), count):
            status = routes.submission(self._run_id, digest)
            body = routes.blob(status.body, max_bytes=MAX_SUBMISSION_BYTES, kind="submission")
            of = status.lease.lease.epoch
            if of < file.epoch and of not in secrets:
                secrets[of] = self._revealed(of)
            check_group(
                *(contributions[digest], status, read_submission(body, most)),
                secret=secrets.get(of),
                info=self._info,
                domain=facts.domain,
                spoke_for=facts.spoke_for,
            )

    def _revealed(self, epoch: int) -> bytes:
        info = self._verifier.routes.epoch(self._run_id, epoch)
        secret = EpochFile.from_canonical(self._file(info.file)).secret
        chain = self._verifier.wallet.ledger.epoch(self._run_id, epoch)
        if keccak256(secret) != chain.secret_hash:
            raise EpochRefused(f"the file of epoch {epoch} reveals another secret than committed")
        return secret

    def _file(self, digest: bytes) -> bytes:
        return self._verifier.routes.blob(digest, max_bytes=MAX_EPOCH_BYTES, kind="epoch")
