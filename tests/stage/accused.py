"""Workers that sold real groups, and verifiers that accuse them on chain: for tests about appeals."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from audit.omissions import KeptReceipt
from ledger.state import SlashState
from protocol.canonical import keccak256
from protocol.epoch import FraudReport
from protocol.messages import RunInfo
from protocol.rollout import Rollout, SignedLease
from protocol.signing import address_of, sign
from rollout_worker.engines.base import Engine
from rollout_worker.generate import generate_groups
from rollout_worker.main import open_seller
from rollout_worker.pay.appeals import Appeals
from rollout_worker.session import Seller
from rollout_worker.wallet import Wallet
from tests.stage.light import leased, sold
from tests.stage.live import STAKE, LiveMarket, key_of

VERIFIERS = ("v0", "v1", "v2")


def quorum(*names: str) -> tuple[str, ...]:
    """Return verifiers' addresses as a run lists them."""
    return tuple(sorted((address_of(key_of(name)) for name in names), key=str.lower))


@dataclass(frozen=True, slots=True)
class Accused:
    """One worker, who sells group by group and may be accused of any."""

    live: LiveMarket
    seller: Seller
    wallet: Wallet
    info: RunInfo

    def lease(self) -> SignedLease:
        return leased(self.seller, self.info, 1)[0]

    def sell(self, engine: Engine, signed: SignedLease | None = None) -> KeptReceipt:
        """Sample a group under a lease, send it, and keep its receipt with that lease."""
        signed = signed or self.lease()
        eos_token_ids = self.info.spec.eos_token_ids
        [group] = generate_groups(engine, [signed.lease], eos_token_ids=eos_token_ids)
        return self.send(signed, group, engine=engine.name)

    def send(self, signed: SignedLease, group: Sequence[Rollout], *, engine: str) -> KeptReceipt:
        return sold(self.seller, self.info, signed, group, engine=engine)

    def appeals(self) -> Appeals:
        """Return the worker's answers as a fresh process would make them."""
        seller = self.seller
        return Appeals(seller.config, self.wallet, seller.routes, seller.receipts)

    def slash(self, slash_id: bytes) -> SlashState:
        return self.wallet.ledger.slash(slash_id)

    def reasons(self, slash_id: bytes) -> list[bytes]:
        """Return the digests of every appeal that the chain took."""
        events = self.wallet.ledger.events().poll()
        appealed = [e for e in events if e.name == "SlashAppealed"]
        return [e.values["reason"] for e in appealed if e.values["slashId"] == slash_id]


@contextmanager
def accused(live: LiveMarket, name: str) -> Iterator[Accused]:
    with open_seller(live.worker(name), key_of(name), threading.Event()) as (seller, wallet):
        info = seller.routes.run(live.run_id)
        wallet.join(info)
        yield Accused(live, seller, wallet, info)


def stake_verifiers(live: LiveMarket, names: Sequence[str] = VERIFIERS) -> None:
    for name in names:
        Wallet.open(live.verifier(name).chain, key_of(name)).prepare()


def accuse(live: LiveMarket, worker: str, work_digest: bytes) -> bytes:
    """Take a worker's stake by the verifiers' word alone; return the accusation's id."""
    ledger = live.ledger("v0")
    report = FraudReport(
        run_id=live.run_id,
        worker=worker,
        work_digest=work_digest,
        evidence_digest=keccak256(b"we say so"),
        amount=STAKE,
        reported_at=ledger.block_time(),
    )
    domain = Wallet.open(live.verifier("v0").chain, key_of("v0")).domain
    signatures = {
        address_of(key_of(name)): sign(key_of(name), domain.digest(report)) for name in VERIFIERS
    }
    return ledger.propose_slash(report, signatures)
