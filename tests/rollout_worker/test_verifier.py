"""A verifier in a live market: honest work passes, a cheat is found and slashed."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from protocol.messages import EpochFile, EpochStage, GroupState
from protocol.rollout import Receipt
from protocol.signing import address_of
from protocol.verdict import Outcome, Rejection
from rollcall.__main__ import app
from rollout_worker.main import open_seller
from rollout_worker.main import serve as serve_work
from rollout_worker.session import Seller
from rollout_worker.verify.main import serve as serve_verifier
from rollout_worker.verify.opening import open_verifier
from rollout_worker.verify.verdicts import VerdictBook
from rollout_worker.wallet import Wallet
from tests.stage.live import LiveMarket, key_of, live_market, nudged
from tests.stage.waiting import wait_until


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveMarket]:
    folder = tmp_path_factory.mktemp("market")
    with live_market(
        folder, workers=("honest", "cheat"), verifier="verifier", epoch_seconds=4
    ) as routes:
        yield routes


@contextmanager
def working(live: LiveMarket, name: str, *, bits: int = 0) -> Iterator[tuple[Seller, Wallet]]:
    stop = threading.Event()
    engine = {"name": "transformers", "quantise_bits": bits}
    config = live.worker(name, engine=engine)
    with open_seller(config, key_of(name), stop) as (seller, wallet):
        thread = threading.Thread(target=serve_work, args=(seller, wallet))
        thread.start()
        try:
            yield seller, wallet
        finally:
            stop.set()
            thread.join()


@contextmanager
def verifying(live: LiveMarket) -> Iterator[Callable[[], dict[str, int]]]:
    """Run a verifier; give a look at how many of its verdicts were counted, by outcome."""
    stop = threading.Event()
    with open_verifier(live.verifier("verifier"), key_of("verifier"), stop) as verifier:
        thread = threading.Thread(target=serve_verifier, args=(verifier,))
        thread.start()
        try:
            yield lambda: dict(verifier.counters.snapshot().get("verdicts", {}))
        finally:
            stop.set()
            thread.join()


def test_honest_work_of_two_policies_is_accepted_settled_and_claimed(live: LiveMarket) -> None:
    with verifying(live) as verdicts:
        with working(live, "honest") as (seller, wallet):
            wait_until(lambda: verdicts().get("accepted", 0) >= 4)
            live.publisher.publish(1, nudged(live.publisher.kept[0]))
            place = f"{live.run_id}/1"
            wait_until(lambda: place in seller.counters.snapshot()["versions"])
        sold = len(receipts(seller))
        wait_until(lambda: verdicts()["accepted"] >= sold)
        assert set(verdicts()) == {"accepted"}
        with open_seller(live.worker("honest"), key_of("honest"), threading.Event()) as opened:
            file = final_file(live, opened[0])
            seller, wallet = opened
            before = wallet.ledger.balance(seller.identity)
            paid = live.claim(file, seller.identity, by="honest")
    units = sum(item.units for item in file.contributions if item.worker == seller.identity)
    assert paid == units * live.spec.rate > 0
    assert live.ledger("honest").balance(seller.identity) == before + paid


def final_file(live: LiveMarket, seller: Seller) -> EpochFile:
    """Wait until the first epoch that paid is final, signed by the verifier; return its file."""
    wait_until(lambda: seller.routes.epoch(live.run_id, 0).stage is EpochStage.FINAL)
    info = seller.routes.epoch(live.run_id, 0)
    assert info.signers == (address_of(key_of("verifier")),)
    data = seller.routes.blob(info.file, max_bytes=1 << 24, kind="epoch")
    return EpochFile.from_canonical(data)


def test_a_cheat_with_four_bit_weights_is_named_excluded_and_slashed(
    live: LiveMarket,
) -> None:
    """With no verifier running its groups are taken and wait: admission alone sees nothing."""
    with working(live, "cheat", bits=4) as (seller, wallet):
        wait_until(lambda: seller.counters.snapshot().get("groups", 0) >= 4)
        assert "rejected" not in seller.counters.snapshot()
        with verifying(live) as verdicts:
            wait_until(lambda: verdicts().get("rejected", 0) >= 1)
            [standing] = seller.routes.worker(seller.identity).runs
            assert standing.is_excluded
            assert standing.accepted_tokens == 0
            wait_until(lambda: wallet.ledger.stake_of(seller.identity) == 0)
        receipt = first_receipt(seller)
        status = seller.routes.submission(live.run_id, receipt.work_digest)
    assert status.state is GroupState.REJECTED
    own = VerdictBook(live.folder / "verifier" / f"verdicts-{live.run_id}.jsonl")
    condemned = [
        v for receipt in receipts(seller) if (v := own.get(receipt.work_digest)) is not None
    ]
    rejected = [v for v in condemned if v.outcome is Outcome.REJECTED]
    assert rejected
    assert all("honest work" in v.detail for v in rejected)
    assert any(v.mismatches for v in rejected)
    assert {v.rejection for v in rejected} <= {reason.value for reason in Rejection}
    assert "int4" in {v.hypothesis for v in rejected}


def test_anybody_reproduces_both_verdicts_from_public_data(live: LiveMarket) -> None:
    """Runs after those two: an honest group's verdict and the cheat's, by the command a worker would use."""
    own = VerdictBook(live.folder / "verifier" / f"verdicts-{live.run_id}.jsonl")
    verdicts = [v for digest in own.digests() if (v := own.get(digest)) is not None]
    for outcome, marks in ((Outcome.ACCEPTED, "reproduced"), (Outcome.REJECTED, "positions as")):
        # A cheat's group may be found by its claims alone: one of those with tokens that no seed makes win.
        digest = next(
            v.work_digest
            for v in verdicts
            if v.outcome is outcome and (v.mismatches or outcome is Outcome.ACCEPTED)
        )
        shown = CliRunner().invoke(app, [*explaining(live, digest), "--rpc", live.rpc_url])
        assert shown.exit_code == 0, shown.output
        assert f"this replay: {outcome.value}" in shown.output
        assert marks in " ".join(shown.output.split())
        told = CliRunner().invoke(app, [*explaining(live, digest), "--json", "--all-positions"])
        found = json.loads(told.stdout)
        assert [v["is_reproduced"] for v in found["verdicts"]] == [True]
        assert found["hypothesis"] == ("int4" if outcome is Outcome.REJECTED else "")
        assert len(found["positions"]) == found["stats"]["num_tokens"]
        wrong = [p for p in found["positions"] if p["margin"]]
        assert len(wrong) == found["stats"]["num_tokens"] - found["stats"]["num_matched"]


def explaining(live: LiveMarket, digest: bytes) -> list[str]:
    deployment = str(live.folder / "deployment.json")
    return [
        *("verify", "--explain", f"0x{digest.hex()}", "--orchestrator", live.url),
        *("--deployment", deployment),
    ]


def test_a_condemned_worker_ends_by_itself(live: LiveMarket) -> None:
    """Runs after the cheat was excluded: its program finds no run left and returns."""
    stop = threading.Event()
    engine = {"name": "transformers"}
    chain = {**live.worker("cheat").chain.model_dump(), "stake": 0}
    config = live.worker("cheat", engine=engine, chain=chain)
    with open_seller(config, key_of("cheat"), stop) as (seller, wallet):
        serve_work(seller, wallet)
    assert not stop.is_set()


def receipts(seller: Seller) -> list[Receipt]:
    return [kept.receipt for kept in seller.receipts.all()]


def first_receipt(seller: Seller) -> Receipt:
    return receipts(seller)[0]


def test_a_verdict_book_survives_a_line_cut_short(live: LiveMarket, tmp_path: Path) -> None:
    source = live.folder / "verifier" / f"verdicts-{live.run_id}.jsonl"
    lines = source.read_bytes().splitlines(keepends=True)
    cut = tmp_path / "verdicts.jsonl"
    cut.write_bytes(lines[0] + lines[1][:50])
    whole = VerdictBook(source)
    digests = whole.digests()[:2]
    book = VerdictBook(cut)
    assert book.get(digests[0]) == whole.get(digests[0])
    assert book.get(digests[1]) is None
    second = whole.get(digests[1])
    assert second is not None
    book.keep(second)
    assert VerdictBook(cut).get(digests[1]) == second
