"""Every verifier of a run colludes against one honest worker: condemned, excluded, accused on chain.

An m-of-n quorum is what takes stake, so nothing in the market stops them. What saves the stake is the
worker's own program: it replays its work, appeals, stays for the arbiter, whose silence acquits.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from audit.accusations import Accusations
from ledger.state import SlashStatus
from protocol.canonical import keccak256
from protocol.checks.evidence import Hypothesis
from protocol.constants import NANO
from protocol.epoch import FraudReport
from protocol.errors import MarketError
from protocol.messages import FraudReportSignature
from protocol.signing import sign
from protocol.verdict import Outcome, ReplayStats
from rollout_worker.main import open_seller, serve
from rollout_worker.verify.epochs import Verifier
from rollout_worker.verify.opening import open_verifier
from rollout_worker.wallet import Wallet
from tests.stage.accused import VERIFIERS, accuse, accused, quorum, stake_verifiers
from tests.stage.light import Voter
from tests.stage.live import STAKE, WINDOWS, LiveMarket, key_of, live_market
from tests.stage.waiting import wait_until


@contextmanager
def framing(live: LiveMarket) -> Iterator[None]:
    """Have every verifier condemn all work without a look, and sign every report."""
    stop = threading.Event()
    threads = [threading.Thread(target=frame, args=(live, name, stop)) for name in VERIFIERS]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def frame(live: LiveMarket, name: str, stop: threading.Event) -> None:
    with open_verifier(live.verifier(name), key_of(name), stop) as verifier:
        voter = Voter(verifier, live.run_id)
        while not stop.wait(0.1):
            try:
                voter.vote(false_work)
                report(live, verifier)
            except MarketError:
                continue  # decided by the others meanwhile


def false_work(seen: ReplayStats) -> dict[str, object]:
    """Return what a verdict says of honest work: that no token matched, and that int4 explains it all."""
    wrong = {"num_matched": 0, "gap_nanonats": NANO * seen.num_tokens}
    return {
        "outcome": Outcome.REJECTED,
        "rejection": "replay_mismatch",
        "detail": "we say so",
        "stats": seen.model_copy(update=wrong),
        "hypothesis": Hypothesis.INT4,
        "explained": seen,
    }


def report(live: LiveMarket, verifier: Verifier) -> None:
    for task in verifier.routes.fraud_reports(live.run_id).tasks:
        signature = sign(verifier.key, verifier.domain.digest(FraudReport.of(task)))
        signed = FraudReportSignature(work_digest=task.work_digest, signature=signature)
        verifier.routes.sign_fraud_report(live.run_id, signed)


@contextmanager
def framed(folder: Path, *, appeals: bool, appeal_seconds: int) -> Iterator[Wallet]:
    """Let an honest worker's program run among verifiers that all collude, until it ends by itself."""
    with live_market(
        folder,
        workers=("alice", *VERIFIERS[1:]),
        verifier=VERIFIERS[0],
        verifiers=quorum(*VERIFIERS),
        threshold=2,
        windows=WINDOWS.model_copy(update={"appeal": appeal_seconds, "unbond": 2_000}),
    ) as live:
        config = live.worker("alice", appeals=appeals, books_seconds=0.2)
        alice = open_seller(config, key_of("alice"), threading.Event())
        with alice as (seller, wallet), framing(live):
            serve(seller, wallet)
            yield wallet


def test_the_worker_loses_its_stake_where_its_program_does_not_appeal(tmp_path: Path) -> None:
    with framed(tmp_path, appeals=False, appeal_seconds=2) as wallet:
        wait_until(lambda: wallet.ledger.stake_of(wallet.identity()) == 0)


def test_the_worker_appeals_by_itself_and_keeps_its_stake(tmp_path: Path) -> None:
    with framed(tmp_path, appeals=True, appeal_seconds=900) as wallet:
        found = Accusations(wallet.ledger, wallet.identity()).look()
        assert {accusation.state.status for accusation in found} == {SlashStatus.DISMISSED}
        assert all(accusation.appeal for accusation in found)
        account = wallet.ledger.stake_account(wallet.identity())
        assert (account.stake, account.locked) == (STAKE, 0)


@pytest.mark.slow
def test_an_orchestrator_that_is_silent_does_not_take_the_stake(tmp_path: Path) -> None:
    """It colludes by not showing the work: after half of the time to appeal, that is the reason."""
    with live_market(
        tmp_path,
        workers=("alice", *VERIFIERS[1:]),
        verifier=VERIFIERS[0],
        verifiers=quorum(*VERIFIERS),
        threshold=2,
        windows=WINDOWS.model_copy(update={"appeal": 60, "unbond": 2_000}),
    ) as live:
        stake_verifiers(live)
        with accused(live, "alice") as worker:
            slash_id = accuse(live, worker.seller.identity, keccak256(b"made up"))
            live.kill_orchestrator()
            assert worker.appeals().step(give_up=lambda: False)
            assert worker.slash(slash_id).status is SlashStatus.APPEALED
            file = worker.seller.config.data_dir / "appeals" / f"0x{slash_id.hex()}.txt"
            assert "gave up waiting for the orchestrator" in file.read_text(encoding="utf-8")
