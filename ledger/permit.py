"""Allow a spender by signature instead of by transaction. Source: EIP-2612."""

from dataclasses import dataclass

from eth_account.signers.local import LocalAccount

from protocol.canonical import keccak256
from protocol.epoch import struct_hash

PERMIT_TYPE = "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"


@dataclass(frozen=True, slots=True)
class Permit:
    """A signed allowance of `value`, good until `deadline` in chain seconds, once."""

    value: int
    deadline: int
    v: int
    r: bytes
    s: bytes

    @classmethod
    def signed(cls, owner: LocalAccount, digest: bytes, value: int, deadline: int) -> "Permit":
        """Sign with the key of the tokens' owner."""
        signature = bytes(owner.unsafe_sign_hash(digest).signature)
        return cls(value, deadline, signature[64], signature[:32], signature[32:64])


def permit_digest(
    domain_separator: bytes,
    *,
    owner: str,
    spender: str,
    value: int,
    nonce: int,
    deadline: int,
) -> bytes:
    """Return what the owner signs, in the token's own domain."""
    message = struct_hash(PERMIT_TYPE, (owner, spender, value, nonce, deadline))
    return keccak256(b"\x19\x01" + domain_separator + message)
