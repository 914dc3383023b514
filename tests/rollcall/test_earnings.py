"""The independent audit finds what a lying settlement would hide."""

from collections.abc import Callable

import pytest
from eth_account import Account as Wallet
from eth_account.messages import encode_typed_data

from protocol.canonical import keccak256
from protocol.messages import Account, Contribution, EpochFile
from protocol.rollout import Work
from protocol.signing import Domain, address_of, sign
from rollcall.earnings import WORK_MEMBERS, Inconsistent, Tariff, earned, read_epoch

KEY, HOT = bytes([7]) * 32, bytes([8]) * 32
WORKER = address_of(KEY)
LEDGER = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
TARIFF = Tariff(chain_id=31337, ledger=LEDGER, run_id=1, rate=10)


def contribution(nonce: int, *, units: int = 5, key: bytes = KEY) -> Contribution:
    work = Work(
        run_id=1,
        worker=WORKER,
        nonce=nonce,
        payload_digest=bytes([nonce]) * 32,
        policy_version=2,
        submitted_at=1_800_000_000,
        tokens=5,
        gflops=1,
    )
    digest = Domain(31337, LEDGER).digest(work)
    fields = work.model_dump()
    del fields["run_id"]
    return Contribution(**fields, units=units, signature=sign(key, digest))


def epoch(number: int, items: tuple[Contribution, ...], total: int, last: int) -> EpochFile:
    return EpochFile(
        run_id=1,
        epoch=number,
        generation=0,
        prev_account_root=bytes(32),
        secret=bytes(32),
        contributions=items,
        accounts=(Account(worker=WORKER, earned=total, last_nonce=last),),
    )


def test_honest_epochs_sum_to_what_they_publish() -> None:
    files = [
        epoch(0, (contribution(1), contribution(2)), 10, 2),
        epoch(1, (contribution(4),), 15, 4),
    ]
    total = earned(files, TARIFF, {})[WORKER]
    assert (total.groups, total.units, total.amount) == (3, 15, 150)


def test_a_hot_key_works_for_its_owner_only() -> None:
    files = [epoch(0, (contribution(1, key=HOT),), 5, 1)]
    assert earned(files, TARIFF, {address_of(HOT): WORKER})[WORKER].units == 5
    with pytest.raises(Inconsistent, match="not its hot key"):
        earned(files, TARIFF, {})


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        (lambda: [epoch(0, (contribution(1),), 6, 1)], "its work sums to"),
        (lambda: [epoch(0, (contribution(1), contribution(1)), 10, 1)], "pays nonce 1"),
        (
            lambda: [
                epoch(0, (contribution(2),), 5, 2),
                epoch(1, (contribution(1),), 10, 2),
            ],
            "pays nonce 1",
        ),
        (
            lambda: [
                epoch(0, (contribution(1).model_copy(update={"tokens": 9, "units": 9}),), 9, 1)
            ],
            "is signed by",
        ),
    ],
)
def test_a_lie_is_found(lie: Callable[[], list[EpochFile]], words: str) -> None:
    with pytest.raises(Inconsistent, match=words):
        earned(lie(), TARIFF, {})


def test_a_file_other_than_the_chain_committed_to_is_refused() -> None:
    data = epoch(0, (contribution(1),), 5, 1).canonical()
    assert read_epoch(data, data_hash=keccak256(data)).epoch == 0
    with pytest.raises(Inconsistent, match="the chain says"):
        read_epoch(data, data_hash=bytes(32))


def test_the_audit_reads_signatures_as_a_wallet_makes_them() -> None:
    message = encode_typed_data(
        domain_data={
            "name": "Rollcall",
            "version": "1",
            "chainId": 31337,
            "verifyingContract": LEDGER,
        },
        message_types={"Work": WORK_MEMBERS},
        message_data={
            "runId": 1,
            "worker": WORKER,
            "nonce": 1,
            "payloadDigest": bytes([1]) * 32,
            "policyVersion": 2,
            "submittedAt": 1_800_000_000,
            "tokens": 5,
            "gflops": 1,
        },
    )
    signature = bytes(Wallet.sign_message(message, KEY).signature)
    assert signature == contribution(1).signature
