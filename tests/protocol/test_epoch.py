"""The leaves and header of `protocol/epoch.py`, against eth-abi and eth-account as oracles."""

from dataclasses import fields, replace
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_account.messages import encode_typed_data

from protocol.canonical import keccak256
from protocol.epoch import (
    ACCOUNT_TYPE,
    EPOCH_HEADER_TYPE,
    FRAUD_REPORT_TYPE,
    WORK_LEAF_TYPE,
    AccountLeaf,
    EpochHeader,
    FraudReport,
    WorkLeaf,
    account_root,
    work_root,
)

WORD = keccak256(b"word")
ALICE = "0x" + "0a" * 20
BOB = "0x" + "0b" * 20
LEAF = WorkLeaf(1, ALICE, 7, WORD, 3, 1_800_000_000, 512, 4, WORD, 512, 512, 1024, 1024, 8)
HEADER = EpochHeader(1, 2, 3, WORD, WORD, WORD, 4, 5, 6, 7, 8, WORD)
REPORT = FraudReport(1, BOB, WORD, keccak256(b"evidence"), 10**18, 1_800_000_000)


def oracle(type_string: str, value: object) -> bytes:
    kinds = [member.split()[0] for member in type_string.split("(")[1][:-1].split(",")]
    values = [getattr(value, field.name) for field in fields(value)]  # type: ignore[arg-type]
    return keccak256(encode(["bytes32", *kinds], [keccak256(type_string.encode()), *values]))


def test_leaves_hash_as_abi_encode_does() -> None:
    account = AccountLeaf(ALICE, 2**128 - 1, 2**64 - 1)
    assert LEAF.digest() == oracle(WORK_LEAF_TYPE, LEAF)
    assert account.digest() == oracle(ACCOUNT_TYPE, account)


@pytest.mark.parametrize(
    ("type_string", "value"), [(EPOCH_HEADER_TYPE, HEADER), (FRAUD_REPORT_TYPE, REPORT)]
)
def test_signed_structs_hash_as_eip_712_does(
    type_string: str, value: EpochHeader | FraudReport
) -> None:
    name, members = type_string[:-1].split("(")
    kinds = [dict(zip(("type", "name"), m.split(), strict=True)) for m in members.split(",")]
    values = [getattr(value, field.name) for field in fields(value)]
    message = dict(zip([kind["name"] for kind in kinds], values, strict=True))
    signable = encode_typed_data(
        full_message={
            "types": {"EIP712Domain": [{"name": "name", "type": "string"}], name: kinds},
            "primaryType": name,
            "domain": {"name": "Rollcall"},
            "message": message,
        }
    )
    assert value.struct_hash() == signable.body == oracle(type_string, value)


@pytest.mark.parametrize("field", [field.name for field in fields(WorkLeaf)])
def test_every_field_of_a_work_leaf_is_under_its_hash(field: str) -> None:
    changed: Any = LEAF.nonce + 99
    if isinstance(getattr(LEAF, field), str):
        changed = BOB
    elif isinstance(getattr(LEAF, field), bytes):
        changed = keccak256(b"other")
    assert replace(LEAF, **{field: changed}).digest() != LEAF.digest()


def test_roots_refuse_leaves_out_of_order_or_twice() -> None:
    first, second = AccountLeaf(ALICE, 1, 1), AccountLeaf(BOB, 1, 1)
    assert account_root([first, second]) != account_root([first])
    for bad in ([second, first], [first, first]):
        with pytest.raises(ValueError, match="ascend strictly by worker"):
            account_root(bad)
    later = replace(LEAF, nonce=8)
    assert work_root([LEAF, later])
    for worse in ([later, LEAF], [LEAF, LEAF]):
        with pytest.raises(ValueError, match="ascend strictly by"):
            work_root(worse)


def test_addresses_sort_by_value_and_not_by_checksum_letters() -> None:
    lower, upper = AccountLeaf("0x" + "0b" * 20, 1, 1), AccountLeaf("0x" + "0C" * 20, 1, 1)
    assert account_root([lower, upper])


@pytest.mark.parametrize(
    ("field", "value"),
    [("epoch", 2**32), ("total", -1), ("tokens", 2**64), ("work_root", b"\0" * 31)],
)
def test_a_value_solidity_could_not_hold_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError):
        replace(HEADER, **{field: value}).struct_hash()
    with pytest.raises(TypeError):
        replace(HEADER, data_hash="0x00").struct_hash()  # type: ignore[arg-type]
