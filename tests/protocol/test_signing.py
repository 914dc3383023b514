"""Our EIP-712 hashing against eth-account's, and signatures that are accepted in one form only."""

import pytest
from coincurve import PrivateKey, PublicKey
from eth_account import Account
from eth_account.messages import encode_defunct, encode_typed_data

from protocol import signing
from protocol.canonical import keccak256
from protocol.epoch import WORK_TYPE
from protocol.errors import BadSignature
from protocol.rollout import Work
from protocol.wire import checksum_address

DOMAIN = signing.Domain(chain_id=31337, ledger="0x5FbDB2315678afecb367f032d93F642f64180aa3")
KEY = bytes(range(1, 33))
WORK = Work(
    run_id=3,
    worker=signing.address_of(KEY),
    nonce=7,
    payload_digest=bytes(range(32)),
    policy_version=12,
    submitted_at=1_800_000_000,
    tokens=160,
    gflops=1,
)


def test_work_hashes_and_recovers_as_eth_account_does() -> None:
    fields = WORK_TYPE[len("Work(") : -1].split(",")
    members = [dict(zip(("type", "name"), field.split(), strict=True)) for field in fields]
    message = dict(zip((m["name"] for m in members), WORK.__dict__.values(), strict=True))
    signable = encode_typed_data(
        domain_data={
            "name": "Rollcall",
            "version": "1",
            "chainId": DOMAIN.chain_id,
            "verifyingContract": DOMAIN.ledger,
        },
        message_types={"Work": members},
        message_data=message,
    )
    signed = Account.sign_message(signable, KEY)
    assert bytes(signed.message_hash) == DOMAIN.digest(WORK)
    assert bytes(signed.signature) == signing.sign(KEY, DOMAIN.digest(WORK))
    assert signing.recover(DOMAIN.digest(WORK), bytes(signed.signature)) == WORK.worker


def test_personal_messages_are_those_wallets_sign() -> None:
    text = "sign in ✓\nline two"
    signed = Account.sign_message(encode_defunct(text=text), KEY)
    assert bytes(signed.message_hash) == signing.personal_digest(text)


def test_another_domain_is_another_digest() -> None:
    other = signing.Domain(chain_id=1, ledger=DOMAIN.ledger)
    assert other.digest(WORK) != DOMAIN.digest(WORK)


def test_a_signature_has_one_form() -> None:
    digest = DOMAIN.digest(WORK)
    signature = signing.sign(KEY, digest)
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    high_s = (order - int.from_bytes(signature[32:64], "big")).to_bytes(32, "big")
    flipped = signature[:32] + high_s + bytes([55 - signature[64]])
    recovered = coincurve_recover(flipped, digest)
    assert recovered == WORK.worker  # the curve alone would accept the twin
    for bad in (flipped, signature[:64], signature + b"\0", bytes(65), signature[:64] + b"\0"):
        with pytest.raises(BadSignature):
            signing.recover(digest, bad)


def coincurve_recover(signature: bytes, digest: bytes) -> str:
    raw = signature[:64] + bytes([signature[64] - 27])
    public = PublicKey.from_signature_and_message(raw, digest, hasher=None)
    return checksum_address("0x" + keccak256(public.format(compressed=False)[1:])[12:].hex())


def test_a_foreign_signature_names_both_accounts() -> None:
    digest = DOMAIN.digest(WORK)
    other = PrivateKey(bytes([9]) * 32)
    signature = signing.sign(other.secret, digest)
    with pytest.raises(BadSignature, match=WORK.worker):
        signing.require_signer(digest, signature, WORK.worker, "the submission")
