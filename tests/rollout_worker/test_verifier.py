"""A verifier in a live market: honest work passes, a cheat is found and slashed, epochs are checked."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from audit.epoch import EpochRefused, EpochPlace, check_file
from audit.fraud import Facts
from audit.published import Openable, Published
from protocol.canonical import keccak256
from protocol.epoch import AccountLeaf, account_root, account_tree, header_of
from protocol.messages import Account, Contribution, EpochFile, EpochStage, GroupState
from protocol.rollout import Receipt, Work
from protocol.signing import address_of, sign
from protocol.verdict import Outcome, Rejection
from rollcall.__main__ import app
from rollout_worker.main import open_seller
from rollout_worker.main import serve as serve_work
from rollout_worker.session import Seller
from rollout_worker.verify.main import open_verifier
from rollout_worker.verify.main import serve as serve_verifier
from rollout_worker.verify.verdicts import VerdictBook
from rollout_worker.wallet import Wallet
from tests.stage.live import (
    LiveMarket,
    key_of,
    live_market,
    nudged,
)
from tests.stage.policies import DOMAIN, first_weights, spec_for
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
        digest = next(v.work_digest for v in verdicts if v.outcome is outcome)
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


# what an epoch's file must show, and each way it can lie

ALICE, BOB = key_of("alice"), key_of("bob")
SPEC = spec_for(first_weights())
SECRET = keccak256(b"an epoch's secret")
SETTLED = (AccountLeaf(address_of(BOB), 100, 9),)
BEFORE = account_tree(SETTLED)


def contribution(
    key: bytes,
    nonce: int,
    *,
    tokens: int = 40,
    worker: str = "",
    units: int | None = None,
    payload: int | None = None,
) -> Contribution:
    worker = worker or address_of(key)
    work = Work(
        run_id=1,
        worker=worker,
        nonce=nonce,
        payload_digest=keccak256(f"{worker} {payload or nonce}".encode()),
        policy_version=0,
        submitted_at=1_800_000_000,
        tokens=tokens,
        gflops=SPEC.gflops(tokens),
    )
    return Contribution(
        worker=worker,
        nonce=nonce,
        payload_digest=work.payload_digest,
        policy_version=0,
        submitted_at=work.submitted_at,
        tokens=tokens,
        gflops=work.gflops,
        units=tokens if units is None else units,
        signature=sign(key, DOMAIN.digest(work)),
    )


@dataclass
class Draft:
    """An epoch as a settler could propose it."""

    contributions: list[Contribution]
    accounts: dict[str, tuple[int, int]]
    secret: bytes = SECRET
    place: tuple[int, int, int] = (1, 1, 0)
    root_before: bytes = BEFORE.root
    now: int = 1_800_000_000
    not_owed: tuple[int, ...] = ()

    def file(self) -> EpochFile:
        ordered = sorted(self.accounts.items(), key=lambda entry: int(entry[0], 16))
        run_id, epoch, generation = self.place
        return EpochFile(
            run_id=run_id,
            epoch=epoch,
            generation=generation,
            prev_account_root=self.root_before,
            secret=self.secret,
            contributions=tuple(self.contributions),
            accounts=tuple(
                Account(worker=worker, earned=earned, last_nonce=nonce)
                for worker, (earned, nonce) in ordered
            ),
        )

    def check(
        self,
        keys: dict[str, tuple[str, int]] | None = None,
        *,
        file: EpochFile | None = None,
    ) -> None:
        known = keys or {}

        def spoke_for(signer: str, worker: str, dated: int) -> bool:
            owner, until = known.get(signer, (signer, 2**64 - 1))
            return owner == worker and dated < until

        published = Published.of(file or self.file())
        check_file(
            published,
            published.header(keccak256(published.file.canonical())),
            EpochPlace(1, 1, 0, keccak256(SECRET), BEFORE.root),
            Facts(
                domain=DOMAIN,
                posted_at=self.now,
                num_parameters=SPEC.num_parameters,
                is_owed=lambda at: at not in self.not_owed,
                spoke_for=spoke_for,
            ),
            before=Openable.whole(SETTLED, BEFORE),
        )


def honest() -> Draft:
    work = [contribution(ALICE, 1), contribution(ALICE, 2), contribution(BOB, 10)]
    work.sort(key=lambda item: (int(item.worker, 16), item.nonce))
    return Draft(work, {address_of(ALICE): (80, 2), address_of(BOB): (140, 10)})


def test_an_honest_file_passes_and_its_header_counts_it() -> None:
    draft = honest()
    draft.check()
    file = draft.file()
    data = file.canonical()
    header = header_of(file, data)
    assert (header.total, header.tokens, header.work_count) == (120, 120, 3)
    assert header.data_hash == keccak256(data)
    assert header.account_root == account_root(
        [AccountLeaf(a.worker, a.earned, a.last_nonce) for a in file.accounts]
    )


def test_a_hot_key_s_signature_counts_for_its_owner_only() -> None:
    hot = key_of("hot key")
    item = contribution(hot, 1, worker=address_of(ALICE))
    draft = Draft([item], {address_of(ALICE): (40, 1), address_of(BOB): (100, 9)})
    draft.check({address_of(hot): (address_of(ALICE), 2**64 - 1)})
    with pytest.raises(EpochRefused, match="is signed by"):
        draft.check()


def test_a_hot_key_withdrawn_after_its_work_keeps_no_epoch_from_being_signed() -> None:
    hot = key_of("hot key")
    item = contribution(hot, 1, worker=address_of(ALICE))
    draft = Draft([item], {address_of(ALICE): (40, 1), address_of(BOB): (100, 9)})
    draft.check({address_of(hot): (address_of(ALICE), item.submitted_at + 1)})
    # Dated when the key had ended, it is a false leaf that the ledger would void the epoch for.
    with pytest.raises(EpochRefused, match="is signed by"):
        draft.check({address_of(hot): (address_of(ALICE), item.submitted_at)})


def pay_a_forgery(draft: Draft) -> None:
    stranger = contribution(key_of("stranger"), 3, worker=address_of(ALICE))
    place = draft.contributions.index(
        max(
            (c for c in draft.contributions if c.worker == address_of(ALICE)), key=lambda c: c.nonce
        )
    )
    draft.contributions.insert(place + 1, stranger)
    draft.accounts[address_of(ALICE)] = (120, 3)


def pay_twice(draft: Draft) -> None:
    draft.contributions.insert(1, draft.contributions[0])


def pay_settled_work(draft: Draft) -> None:
    old = contribution(BOB, 9)
    place = next(i for i, c in enumerate(draft.contributions) if c.worker == address_of(BOB))
    draft.contributions.insert(place, old)
    draft.accounts[address_of(BOB)] = (180, 10)


def pay_more_units(draft: Draft) -> None:
    key = ALICE if draft.contributions[0].worker == address_of(ALICE) else BOB
    nonce = draft.contributions[0].nonce
    draft.contributions[0] = contribution(key, nonce, units=41)


def credit_a_friend(draft: Draft) -> None:
    draft.accounts[address_of(key_of("friend"))] = (1, 1)


def forget_an_account(draft: Draft) -> None:
    draft.contributions = [c for c in draft.contributions if c.worker != address_of(BOB)]
    del draft.accounts[address_of(BOB)]


def date_work_ahead(draft: Draft) -> None:
    draft.now -= 1


def pay_for_a_halt(draft: Draft) -> None:
    draft.not_owed = (1_800_000_000,)


def pay_one_group_under_two_nonces(draft: Draft) -> None:
    place = next(i for i, c in enumerate(draft.contributions) if c.worker == address_of(BOB))
    draft.contributions.insert(place + 1, contribution(BOB, 11, payload=10))
    draft.accounts[address_of(BOB)] = (180, 11)


def be_of_another_generation(draft: Draft) -> None:
    draft.place = (1, 1, 1)


def forget_what_came_before(draft: Draft) -> None:
    draft.root_before = bytes(32)


def swap_the_secret(draft: Draft) -> None:
    draft.secret = keccak256(b"a secret with kinder seeds")


@pytest.mark.parametrize(
    ("lie", "found"),
    [
        (pay_a_forgery, "is signed by"),
        (pay_twice, "stands before"),
        (pay_one_group_under_two_nonces, "repeats the work of leaf"),
        (pay_settled_work, "has nonce 9, 9 was paid before"),
        (pay_more_units, "pays 41 units for 40 tokens"),
        (credit_a_friend, "is 1 units to nonce 1, not missing"),
        (forget_an_account, "is missing, not 100 units to nonce 9"),
        (swap_the_secret, "not the one that was committed"),
        (be_of_another_generation, r"is of \(run, epoch, generation\) \(1, 1, 1\)"),
        (forget_what_came_before, "does not go on from the account root before"),
        (date_work_ahead, "is dated 1800000000, after"),
        (pay_for_a_halt, "owed nothing"),
    ],
)
def test_a_lie_in_an_epoch_is_named_and_not_signed(
    lie: Callable[[Draft], None], found: str
) -> None:
    """Each draft hashes to a good header: only the checks keep a verifier from signing it."""
    draft = honest()
    lie(draft)
    if lie is not pay_twice:  # the tree itself refuses a repeated leaf
        file = draft.file()
        header_of(file, file.canonical())
    with pytest.raises(EpochRefused, match=found):
        draft.check()


def test_accounts_out_of_order_are_refused_before_a_tree_is_built_of_them() -> None:
    draft = honest()
    file = draft.file()
    swapped = file.model_copy(update={"accounts": file.accounts[::-1]})
    with pytest.raises(ValueError, match="must ascend"):
        header_of(swapped, swapped.canonical())
    with pytest.raises(EpochRefused, match="accounts 0 and 1 do not ascend"):
        draft.check(file=swapped)


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
