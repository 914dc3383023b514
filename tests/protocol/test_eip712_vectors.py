"""Every signed struct of `protocol/wire.md` section 3, held to vectors that any language can read.

`tests/vectors/eip712.json` gives for each the message as it travels, the words that EIP-712 hashes,
the digest and the signature. eth-account stands for the second implementation.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data

from protocol import signing
from protocol.epoch import EpochHeader, FraudReport, RetractEpoch
from protocol.policies.manifest import Manifest
from protocol.rollout import Lease, Receipt, Work
from protocol.verdict import Seal, Verdict
from protocol.wire import Wire

ROOT = Path(__file__).parent.parent.parent
FILE: dict[str, Any] = json.loads((ROOT / "tests/vectors/eip712.json").read_text())
KEY = bytes.fromhex(FILE["key"][2:])
DOMAIN = signing.Domain(FILE["domain"]["chainId"], FILE["domain"]["verifyingContract"])
VECTORS: dict[str, dict[str, Any]] = {vector["struct"]: vector for vector in FILE["vectors"]}
ON_THE_WIRE: dict[str, type[Wire]] = {
    kind.__name__: kind for kind in (Lease, Work, Receipt, Verdict, Seal, Manifest)
}
ON_CHAIN_ONLY = {kind.__name__: kind for kind in (EpochHeader, FraudReport, RetractEpoch)}


def members(vector: dict[str, Any]) -> list[dict[str, str]]:
    """Split `Work(uint256 runId,…)` into what typed-data JSON wants."""
    inner = vector["type"].partition("(")[2].rstrip(")")
    return [dict(zip(("type", "name"), member.split(), strict=True)) for member in inner.split(",")]


def words(vector: dict[str, Any]) -> dict[str, Any]:
    """Return the struct's words with bytes in place of hex."""
    kinds = {member["name"]: member["type"] for member in members(vector)}
    return {
        name: bytes.fromhex(value[2:]) if kinds[name] == "bytes32" else value
        for name, value in vector["words"].items()
    }


def message(vector: dict[str, Any]) -> signing.Signable:
    name = vector["struct"]
    if name in ON_CHAIN_ONLY:
        return ON_CHAIN_ONLY[name](*words(vector).values())
    read = ON_THE_WIRE[name].from_json(json.dumps(vector["message"]))
    assert isinstance(read, (Lease, Work, Receipt, Verdict, Seal, Manifest))
    return read


@pytest.mark.parametrize("name", [*ON_THE_WIRE, *ON_CHAIN_ONLY])
def test_a_message_hashes_and_signs_as_its_vector(name: str) -> None:
    vector = VECTORS[name]
    digest = DOMAIN.digest(message(vector))
    assert "0x" + digest.hex() == vector["digest"]
    assert "0x" + signing.sign(KEY, digest).hex() == vector["signature"]
    assert signing.recover(digest, bytes.fromhex(vector["signature"][2:])) == FILE["signer"]


@pytest.mark.parametrize("name", [*ON_THE_WIRE, *ON_CHAIN_ONLY])
def test_another_implementation_gets_the_same_from_the_words_alone(name: str) -> None:
    vector = VECTORS[name]
    signable = encode_typed_data(
        domain_data=FILE["domain"],
        message_types={name: members(vector)},
        message_data=words(vector),
    )
    signed = Account.sign_message(signable, KEY)
    assert "0x" + bytes(signed.message_hash).hex() == vector["digest"]
    assert "0x" + bytes(signed.signature).hex() == vector["signature"]


def test_the_specification_lists_exactly_these_structs() -> None:
    text = (ROOT / "protocol/wire.md").read_text()
    section = text.partition("## 3.")[2].partition("3.2 ")[0]
    listed = [part.partition("`")[0] for part in section.split("| `")[1:]]
    assert listed == [vector["type"] for vector in FILE["vectors"]]
