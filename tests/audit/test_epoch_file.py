"""What an epoch's file must show before it is signed, and each way it can lie."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from audit.epoch import EpochPlace, EpochRefused, check_file
from audit.fraud import Facts
from audit.published import Openable, Published
from protocol.canonical import keccak256
from protocol.epoch import AccountLeaf, account_root, account_tree, header_of
from protocol.messages import Account, Contribution, EpochFile
from protocol.rollout import Work
from protocol.signing import address_of, sign
from tests.stage.live import key_of
from tests.stage.terms import DOMAIN, make_spec

ALICE, BOB = key_of("alice"), key_of("bob")
SPEC = make_spec()
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
