"""`AttesterGate` in Python: what an attester signs about a person, and the evidence it becomes.

What was checked stays with the attester; the chain sees a kind of claim and a nullifier, which is
the same for one person however many accounts it has.
"""

from dataclasses import astuple, dataclass

from eth_abi.abi import encode
from eth_account.signers.local import LocalAccount

from ledger.deployment import Deployment, _create, _created
from ledger.node import Node
from ledger.sender import Sender
from protocol.canonical import keccak256
from protocol.epoch import abi_word, struct_hash

CLAIM_TYPE = "Claim(uint256 runId,address worker,bytes32 kind,bytes32 nullifier,uint64 expiresAt)"
DOMAIN_TYPE = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"


@dataclass(frozen=True, slots=True)
class Claim:
    """That `worker` is what `kind` says, for one run, until `expires_at` in chain seconds.

    Example:
        evidence = Claim(1, worker, kind, nullifier, expires_at).evidence(attester, chain_id, gate)
        ledger.join_run(1, evidence)
    """

    run_id: int
    worker: str
    kind: bytes
    nullifier: bytes
    expires_at: int

    def digest(self, chain_id: int, gate: str) -> bytes:
        """Return what the attester signs, for one gate on one chain; also what it revokes."""
        words = (
            *(keccak256(text) for text in (DOMAIN_TYPE.encode(), b"RollcallGate", b"1")),
            *(abi_word("uint256", chain_id), abi_word("address", gate)),
        )
        separator = keccak256(b"".join(words))
        return keccak256(b"\x19\x01" + separator + struct_hash(CLAIM_TYPE, astuple(self)))

    def evidence(self, attester: LocalAccount, chain_id: int, gate: str) -> bytes:
        """Return what the worker joins with."""
        signature = bytes(attester.unsafe_sign_hash(self.digest(chain_id, gate)).signature)
        words = (self.nullifier, self.expires_at, signature)
        return encode(["bytes32", "uint64", "bytes"], words)


def deploy_gate(
    node: Node,
    account: LocalAccount,
    deployment: Deployment,
    *,
    attester: str,
    kind: bytes,
    is_one_per_person: bool,
) -> str:
    """Deploy an `AttesterGate` for this ledger's runs and return its address."""
    words = (deployment.ledger, attester, kind, is_one_per_person)
    return _created(_create(Sender(node, account), "AttesterGate", *words))
