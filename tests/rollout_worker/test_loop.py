"""A worker in a live market: it sells, follows policies, survives the orchestrator, and leaves tidily."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from structlog.testing import capture_logs

from client.connection import Later
from protocol.commitment import check_lease, check_receipt, commit
from protocol.errors import BadSignature, Malformed
from protocol.messages import GroupState, LeaseRequest, Leases, RunInfo, RunStatus
from protocol.rollout import Receipt, SignedLease
from protocol.signing import require_signer, sign
from rollcall.demo.processes import Command
from rollcall.frame.settings import to_toml
from rollout_worker.choose import Ability, choose, is_over, obstacle
from rollout_worker.main import attempt, open_seller, serve
from rollout_worker.pay.receipts import ReceiptBook
from rollout_worker.session import End, Seller, Shift
from tests.stage.live import LiveMarket, key_of, live_market, nudged
from tests.stage.terms import make_spec, run_info
from tests.stage.waiting import wait_until

ENGINE = "transformers-cpu"
WORKERS = (
    "seller",
    "follower",
    "survivor",
    "leaver",
    "checker",
    "killed",
    "sender-less",
    "careless",
    "engineless",
    "too-long",
    "doubled",
)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveMarket]:
    folder = tmp_path_factory.mktemp("market")
    with live_market(folder, workers=WORKERS, verifier="verifier") as routes:
        yield routes


@contextmanager
def at_work(live: LiveMarket, name: str) -> Iterator[Seller]:
    """Run a whole worker in a thread, and stop it as SIGTERM would."""
    stop = threading.Event()
    with open_seller(live.worker(name), key_of(name), stop) as (seller, wallet):
        thread = threading.Thread(target=serve, args=(seller, wallet))
        thread.start()
        try:
            yield seller
        finally:
            stop.set()
            thread.join()


def groups_of(seller: Seller) -> int:
    return int(seller.counters.snapshot().get("groups", 0))


def receipts_of(seller: Seller) -> list[Receipt]:
    return receipts_of_folder(seller.config.data_dir)


def test_a_worker_sells_groups_and_keeps_signed_receipts(live: LiveMarket) -> None:
    with at_work(live, "seller") as seller:
        wait_until(lambda: groups_of(seller) >= 6)
    totals = seller.counters.snapshot()
    receipts = receipts_of(seller)
    routes = seller.routes
    assert len(receipts) == totals["groups"] == len({receipt.nonce for receipt in receipts})
    tokens = 0
    with open_seller(live.worker("seller"), key_of("seller"), threading.Event()) as (again, _):
        routes = again.routes
        for receipt in receipts:
            digest = seller.domain.digest(receipt)
            require_signer(digest, receipt.signature, live.spec.orchestrator, "the receipt")
            status = routes.submission(live.run_id, receipt.work_digest)
            assert status.state is GroupState.TAKEN
            assert status.lease.lease.worker == seller.identity
        [standing] = routes.worker(seller.identity).runs
        tokens = totals["tokens"]
    assert standing.accepted_groups == len(receipts)
    assert 0 < tokens == totals["generated_tokens"] == standing.accepted_tokens
    assert totals["versions"][f"{live.run_id}/0"]["digest"] == "0x" + live.spec.model_digest.hex()


def test_a_worker_logs_that_its_standing_is_lowered_and_how_to_win_it_back(
    live: LiveMarket,
) -> None:
    most = live.spec.max_worker_leases
    with open_seller(live.worker("careless"), key_of("careless"), threading.Event()) as opened:
        seller, wallet = opened
        wallet.join(seller.routes.run(live.run_id))
        dropped = 0
        while dropped <= live.spec.drops.num_forgiven_crashes * most:
            answer = seller.routes.lease(live.run_id, LeaseRequest(count=most))
            assert isinstance(answer, Leases)
            ids = tuple(signed.lease.lease_id for signed in answer.leases)
            seller.routes.return_leases(live.run_id, ids)
            dropped += len(ids)
    with capture_logs() as said, at_work(live, "careless") as seller:
        wait_until(lambda: groups_of(seller) >= 1)
    [notice] = {entry["notice"] for entry in said if entry["event"] == "standing lowered"}
    assert "leases may be held; finish " in notice


def test_a_published_policy_is_patched_in_without_a_new_engine(live: LiveMarket) -> None:
    with at_work(live, "follower") as seller:
        wait_until(lambda: groups_of(seller) >= 2)
        weights = nudged(live.publisher.kept[0])
        manifest = live.publisher.publish(1, weights)
        place = f"{live.run_id}/1"
        wait_until(lambda: place in seller.counters.snapshot()["versions"])
        used = seller.counters.snapshot()["versions"][place]
    totals = seller.counters.snapshot()
    assert used["digest"] == "0x" + manifest.policy_digest.hex()
    assert 0 < totals["bytes"]["patch"] < totals["bytes"]["anchor"] / 4
    assert "rejected" not in totals


def test_a_worker_outlives_an_orchestrator_that_is_killed(live: LiveMarket) -> None:
    with at_work(live, "survivor") as seller:
        wait_until(lambda: groups_of(seller) >= 4)
        live.kill_orchestrator()
        retries = seller.counters.snapshot().get("retries", 0)
        wait_until(lambda: seller.counters.snapshot().get("retries", 0) > retries + 3)
        before = groups_of(seller)
        live.start_orchestrator()
        wait_until(lambda: groups_of(seller) >= before + 4)
    totals = seller.counters.snapshot()
    assert "groups_lost" not in totals
    assert "refused" not in totals
    assert len(receipts_of(seller)) == totals["groups"]


def test_a_worker_whose_sender_is_killed_sells_on(live: LiveMarket) -> None:
    with at_work(live, "sender-less") as seller:
        wait_until(lambda: groups_of(seller) >= 3)
        for child in psutil.Process().children():
            if "spawn_main" in " ".join(child.cmdline()):
                child.kill()
        sold = groups_of(seller)
        wait_until(lambda: groups_of(seller) >= sold + 6)


def test_a_stopped_worker_has_returned_what_it_did_not_do(live: LiveMarket) -> None:
    with capture_logs() as said, at_work(live, "leaver") as seller:
        wait_until(lambda: groups_of(seller) >= 4)
    returned = sum(entry["count"] for entry in said if entry["event"] == "leases returned")
    with open_seller(live.worker("leaver"), key_of("leaver"), threading.Event()) as (again, _):
        [standing] = again.routes.worker(again.identity).runs
        assert standing.dropped_leases == returned
        granted = again.routes.lease(live.run_id, LeaseRequest(count=1))
        assert isinstance(granted, Leases)
        [fresh] = granted.leases
        assert fresh.lease.nonce == groups_of(seller) + returned + 1, "nonces count leases from 1"
        again.routes.return_leases(live.run_id, (fresh.lease.lease_id,))


def test_a_lease_with_altered_terms_or_another_signer_is_not_worked_on(live: LiveMarket) -> None:
    with open_seller(live.worker("checker"), key_of("checker"), threading.Event()) as opened:
        seller, wallet = opened
        info = seller.routes.run(live.run_id)
        wallet.join(info)
        request = LeaseRequest(count=1)
        granted = seller.routes.lease(live.run_id, request)
        assert isinstance(granted, Leases)
        [signed] = granted.leases
        seller.routes.return_leases(live.run_id, (signed.lease.lease_id,))

    def check(candidate: SignedLease) -> None:
        check_lease(candidate, info=info, domain=seller.domain, worker=seller.identity)

    check(signed)
    cheaper = signed.lease.model_copy(update={"rate": 1})
    with pytest.raises(BadSignature):
        check(SignedLease(lease=cheaper, signature=signed.signature))
    own = sign(key_of("orchestrator"), seller.domain.digest(cheaper))
    with pytest.raises(Malformed, match="rate"):
        check(SignedLease(lease=cheaper, signature=own))
    commitment = commit(
        signed.lease,
        (),
        engine=ENGINE,
        spec=info.spec,
        domain=seller.domain,
        key=key_of("checker"),
        now=0,
    )
    stolen = receipts_of_folder(live.folder / "seller")[0]
    with pytest.raises(Malformed, match="other work"):
        check_receipt(
            stolen, signed.lease, commitment.work_digest, spec=info.spec, domain=seller.domain
        )


def test_a_nonce_is_not_worked_for_twice_at_a_time(
    live: LiveMarket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its second receipt would be the end of the sender's report, and of the receipts after it."""
    config = live.worker("doubled", groups_per_call=3)
    with (
        capture_logs() as said,
        open_seller(config, key_of("doubled"), threading.Event()) as (seller, wallet),
    ):
        real = seller.routes.lease

        def doubled(run_id: int, _: LeaseRequest, **how: Any) -> Leases | Later:
            answer = real(run_id, LeaseRequest(count=2), **how)
            if isinstance(answer, Later) or len(answer.leases) < 2:
                return answer
            return answer.model_copy(update={"leases": (answer.leases[0], *answer.leases)})

        monkeypatch.setattr(seller.routes, "lease", doubled)
        info = seller.routes.run(live.run_id)
        with monkeypatch.context() as off:
            off.setattr(Shift, "_promise", lambda it, s: it._promised.update({s.lease.nonce: s}))
            off.setattr(Shift, "_give_back", lambda *_: None)
            working = threading.Thread(target=attempt, args=(seller, wallet, info))
            working.start()
            wait_until(lambda: groups_of(seller) >= 2)
            seller.stop.set()
            working.join()
        nonces = {receipt.nonce for receipt in receipts_of(seller)}
        assert set(range(1, max(nonces))) - nonces, "with the defence off"
        seller.stop.clear()
        assert attempt(seller, wallet, info) is End.REFUSED
    [refused] = [entry["reason"] for entry in said if entry["event"] == "refused"]
    assert "is leased again before its group was delivered" in refused


def receipts_of_folder(folder: Path) -> list[Receipt]:
    return [kept.receipt for kept in ReceiptBook(folder / "receipts").all()]


def test_a_worker_whose_engine_does_not_open_says_so_and_joins_nothing(live: LiveMarket) -> None:
    config = live.worker("engineless", engine={"name": "transformers", "device": "cuda:99"})
    with (
        capture_logs() as said,
        open_seller(config, key_of("engineless"), threading.Event()) as (seller, wallet),
    ):
        # Straight to the run: with such a device its engine class is not calibrated either.
        assert attempt(seller, wallet, seller.routes.run(live.run_id)) is End.REFUSED
        assert not wallet.ledger.is_joined(live.run_id, seller.identity)
    [refusal] = [entry for entry in said if entry["event"] == "run refused"]
    assert "engine.device=cuda:99 does not open" in refusal["reason"]


def test_a_worker_meets_a_run_longer_than_its_model(
    live: LiveMarket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator whose launch checks nothing gets its run on chain; the worker joins nothing."""
    with monkeypatch.context() as unchecked:
        unchecked.setattr("rollcall.cli.spec.why_unknown", lambda *_, **__: None)
        unchecked.setattr("rollcall.rehearsal.rehearse.rehearse", lambda *_: None)
        longer = live.launch_another(max_tokens=512)
    config = live.worker("too-long", runs=[longer])
    with (
        capture_logs() as said,
        open_seller(config, key_of("too-long"), threading.Event()) as (seller, wallet),
    ):
        assert attempt(seller, wallet, seller.routes.run(longer)) is End.REFUSED
        assert not wallet.ledger.is_joined(longer, seller.identity)
    [refusal] = [entry for entry in said if entry["event"] == "run refused"]
    assert "do not fit the model's 512 positions" in refusal["reason"]


@pytest.mark.slow
def test_a_worker_killed_outright_leaves_no_process_and_sells_on_after_a_restart(
    live: LiveMarket,
) -> None:
    config = live.worker("killed")
    file = live.folder / "killed.toml"
    file.write_text(to_toml(config))
    argv = (sys.executable, "-m", "rollcall", "join", "--config", str(file))
    command = Command("killed", argv, {"ROLLCALL_KEY": "0x" + key_of("killed").hex()})

    def sold() -> int:
        return len(receipts_of_folder(config.data_dir))

    process = live.processes.start(command).process
    wait_until(lambda: sold() >= 8)
    family = psutil.Process(process.pid).children(recursive=True)
    assert family  # the outbox
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(family)
    assert not alive
    before = sold()
    process = live.processes.start(command).process
    wait_until(lambda: sold() >= before + 8)
    process.terminate()
    assert process.wait() == 0
    kept = receipts_of_folder(config.data_dir)
    assert len({receipt.nonce for receipt in kept}) == len(kept)


# which run

TOKEN = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
ABILITY = Ability(ENGINE, token=TOKEN, min_rate=5, wanted="any")


def run_at(rate: int, run_id: int, **changes: object) -> RunInfo:
    return run_info(make_spec(rate=rate), run_id=run_id, **{"token": TOKEN, **changes})


def test_the_best_paid_run_is_chosen_and_the_older_one_where_rates_tie() -> None:
    runs = [run_at(10, 1), run_at(30, 3), run_at(30, 2)]
    chosen = choose(runs, ABILITY)
    assert chosen is not None
    assert chosen.run_id == 2
    barred = choose(runs, ABILITY, barred={2})
    assert barred is not None
    assert barred.run_id == 3


@pytest.mark.parametrize(
    ("run", "why"),
    [
        (run_at(10, 1, status=RunStatus.HALTED), "it is halted"),
        (run_at(10, 1, newest_version=-1), "published nothing"),
        (run_at(10, 1, budget_left_units=0), "budget is spent"),
        (run_at(4, 1), "min_rate is 0.000000000000000005 tokens"),
        (run_at(10**18, 1, token="0x" + "11" * 20), "it pays in token 0x1111"),
    ],
)
def test_a_run_that_cannot_be_served_is_left_with_its_reason(run: RunInfo, why: str) -> None:
    assert why in str(obstacle(run, ABILITY))
    assert choose([run], ABILITY) is None


def test_a_run_that_pays_much_of_another_token_outbids_nobody() -> None:
    """Anybody may make a token and a run that pays a billion of it: nothing, for as long as a worker stays."""
    worthless = run_at(10**18, 1, token="0x" + "11" * 20)
    runs = [worthless, run_at(10, 2)]
    chosen = choose(runs, ABILITY)
    assert chosen is not None
    assert chosen.run_id == 2
    assert max(runs, key=lambda info: info.spec.rate) is worthless, "what comparing all rates chose"


def test_a_run_at_the_very_limits_is_served() -> None:
    run = run_at(5, 1)
    assert obstacle(run, ABILITY) is None


def test_configured_runs_are_over_when_each_is_stopped_or_barred() -> None:
    ability = Ability(ENGINE, token=TOKEN, min_rate=0, wanted=(1, 2))
    stopped = run_at(10, 1, status=RunStatus.STOPPED)
    halted = run_at(10, 2, status=RunStatus.HALTED)
    assert not is_over([stopped, halted], ability)
    assert is_over([stopped, halted], ability, barred={2})
    assert not is_over([stopped], ABILITY)
