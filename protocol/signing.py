"""EIP-712: what each signed message hashes to, and who signed it.

One domain for the whole market, ("Rollcall", "1", chain id, RunLedger): the ledger recovers the same
signatures. Structs are flat: a digest stands for anything long. The hashing is written out
because the general encoder costs a millisecond per message, which is most of what the orchestrator
may spend on a submission; `tests/protocol/test_signing.py` holds it against eth-account's.
Sources: EIP-712, EIP-2 (low s).
"""

from dataclasses import dataclass
from functools import lru_cache

from coincurve import PrivateKey, PublicKey

from protocol.canonical import encode, keccak256
from protocol.constants import DOMAIN_NAME, DOMAIN_VERSION
from protocol.epoch import (
    WORK_TYPE,
    EpochHeader,
    FraudReport,
    RetractEpoch,
    Word,
    abi_word,
    struct_hash,
)
from protocol.errors import BadSignature
from protocol.policies.manifest import Manifest
from protocol.rollout import Lease, Receipt, Work
from protocol.verdict import Seal, Verdict
from protocol.wire import checksum_address

DOMAIN_TYPE = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
LEASE_TYPE = (
    "Lease(bytes32 leaseId,uint256 runId,address worker,uint64 nonce,uint32 epoch,"
    "uint64 policyVersion,bytes32 policyDigest,uint256 rate,uint64 deadline,bytes32 termsDigest)"
)
RECEIPT_TYPE = (
    "Receipt(uint256 runId,address worker,uint64 nonce,bytes32 workDigest,uint64 receivedAt,"
    "bytes32 rejectionDigest)"
)
VERDICT_TYPE = (
    "Verdict(uint256 runId,bytes32 workDigest,address verifier,bytes32 outcomeDigest,"
    "bytes32 evidenceDigest,uint64 decidedAt)"
)
SEAL_TYPE = "Seal(uint256 runId,bytes32 workDigest,address verifier,bytes32 evidenceDigest)"
MANIFEST_TYPE = (
    "Manifest(uint256 runId,uint64 version,bytes32 policyDigest,bytes32 bodyDigest,"
    "uint64 createdAt)"
)
HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0

Signable = (
    Lease | Work | Receipt | Verdict | Seal | Manifest | EpochHeader | FraudReport | RetractEpoch
)


@dataclass(frozen=True, slots=True)
class Domain:
    """Which market a signature is for.

    Example: Domain(chain_id=31337, ledger="0x5FbDB2315678afecb367f032d93F642f64180aa3")
    """

    chain_id: int
    ledger: str

    def digest(self, message: Signable) -> bytes:
        """Return the 32 bytes that are signed for `message`."""
        return keccak256(b"\x19\x01" + separator(self) + hash_struct(message))


@lru_cache(maxsize=64)
def separator(domain: Domain) -> bytes:
    return keccak256(
        keccak256(DOMAIN_TYPE.encode())
        + keccak256(DOMAIN_NAME.encode())
        + keccak256(DOMAIN_VERSION.encode())
        + abi_word("uint256", domain.chain_id)
        + abi_word("address", domain.ledger)
    )


def hash_struct(message: Signable) -> bytes:  # noqa: PLR0911 - one per message
    """Return EIP-712's hashStruct of a message, without the domain."""
    match message:
        case Work():
            return struct_hash(WORK_TYPE, tuple(message.__dict__.values()))
        case Lease():
            return struct_hash(LEASE_TYPE, _lease_words(message))
        case Receipt():
            return struct_hash(RECEIPT_TYPE, _receipt_words(message))
        case Verdict():
            return struct_hash(VERDICT_TYPE, _verdict_words(message))
        case Seal():
            return struct_hash(SEAL_TYPE, tuple(message.__dict__.values())[:-1])
        case Manifest():
            return struct_hash(MANIFEST_TYPE, _manifest_words(message))
        case EpochHeader() | FraudReport() | RetractEpoch():
            return message.struct_hash()


def _receipt_words(receipt: Receipt) -> tuple[Word, ...]:
    return (
        receipt.run_id,
        receipt.worker,
        receipt.nonce,
        receipt.work_digest,
        receipt.received_at,
        keccak256(receipt.rejection.encode()),
    )


def _verdict_words(verdict: Verdict) -> tuple[Word, ...]:
    return (
        verdict.run_id,
        verdict.work_digest,
        verdict.verifier,
        keccak256(encode([verdict.outcome.value, verdict.rejection])),
        verdict.evidence_digest(),
        verdict.decided_at,
    )


def _manifest_words(manifest: Manifest) -> tuple[Word, ...]:
    return (
        manifest.run_id,
        manifest.version,
        manifest.policy_digest,
        manifest.canonical_digest(),
        manifest.created_at,
    )


def _lease_words(lease: Lease) -> tuple[Word, ...]:
    terms = keccak256(
        encode(
            [
                lease.environment,
                lease.index,
                list(lease.prompt),
                lease.temperature_millionths,
                lease.max_tokens,
                list(lease.seeds),
            ]
        )
    )
    return (
        lease.lease_id,
        lease.run_id,
        lease.worker,
        lease.nonce,
        lease.epoch,
        lease.policy_version,
        lease.policy_digest,
        lease.rate,
        lease.deadline,
        terms,
    )


def address_of(key: bytes) -> str:
    """Return the account of a 32-byte private key."""
    return _address(_private_key(key).public_key)


def sign(key: bytes, digest: bytes) -> bytes:
    """Return the 65-byte r, s, v (27 or 28) signature of a 32-byte digest."""
    signature = _private_key(key).sign_recoverable(digest, hasher=None)
    return signature[:64] + bytes([signature[64] + 27])


@lru_cache(maxsize=8)
def _private_key(key: bytes) -> PrivateKey:
    """Keep key objects: making one computes its public key, which costs more than a signature."""
    return PrivateKey(key)


def recover(digest: bytes, signature: bytes) -> str:
    """Return the account that signed `digest`; raise `BadSignature` if there is none.

    High-s and v other than 27 or 28 are refused, so a signature has one form.
    """
    if len(signature) != 65 or signature[64] not in (27, 28):
        raise BadSignature("a signature is 65 bytes r, s, v with v 27 or 28")
    if int.from_bytes(signature[32:64], "big") > HALF_ORDER:
        raise BadSignature("the signature has a high s: use the low-s form (EIP-2)")
    try:
        public = PublicKey.from_signature_and_message(
            signature[:64] + bytes([signature[64] - 27]), digest, hasher=None
        )
    except ValueError as error:
        raise BadSignature("the signature is not a point on secp256k1") from error
    return _address(public)


def require_signer(digest: bytes, signature: bytes, expected: str, what: str) -> None:
    """Raise `BadSignature` unless `expected` signed `digest`."""
    found = recover(digest, signature)
    if found != expected:
        raise BadSignature(
            f"{what} is signed by {found}, not by {expected}: sign the exact digest for this chain "
            "and ledger with that account's key"
        )


def personal_digest(message: str) -> bytes:
    """Return what a wallet signs for a text (EIP-191, version 0x45), as EIP-4361 uses it."""
    data = message.encode()
    return keccak256(b"\x19Ethereum Signed Message:\n" + str(len(data)).encode() + data)


def _address(public: PublicKey) -> str:
    return checksum_address("0x" + keccak256(public.format(compressed=False)[1:])[12:].hex())
