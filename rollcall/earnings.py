"""Recompute what every worker earned, from the published epoch files and nothing else.

Shares only the message types with settlement: signatures are recovered by eth-account from the
typed-data JSON a wallet would show, digests come from eth-utils, sums are counted here. Leaves and
roots are not rebuilt (`audit.py` does that); money is.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_utils import keccak

from protocol.messages import Contribution, EpochFile

WORK_MEMBERS = [
    {"name": "runId", "type": "uint256"},
    {"name": "worker", "type": "address"},
    {"name": "nonce", "type": "uint64"},
    {"name": "payloadDigest", "type": "bytes32"},
    {"name": "policyVersion", "type": "uint64"},
    {"name": "submittedAt", "type": "uint64"},
    {"name": "tokens", "type": "uint64"},
    {"name": "gflops", "type": "uint64"},
]


@dataclass(frozen=True, slots=True)
class Tariff:
    """Which chain and ledger signatures are for, and what a unit costs."""

    chain_id: int
    ledger: str
    run_id: int
    rate: int


@dataclass(frozen=True, slots=True)
class Earned:
    """One worker's total over all files: groups, units, and money in the token's smallest unit."""

    groups: int
    units: int
    amount: int


class Inconsistent(Exception):
    """A published epoch contradicts itself, its hash on chain, or a signature in it."""


def read_epoch(data: bytes, *, data_hash: bytes) -> EpochFile:
    """Read one epoch file; raise `Inconsistent` unless its bytes are those the chain committed to."""
    if keccak(data) != data_hash:
        raise Inconsistent(
            f"epoch file hashes to 0x{keccak(data).hex()}, the chain says 0x{data_hash.hex()}"
        )
    return EpochFile.from_canonical(data)


def earned(
    files: Iterable[EpochFile], tariff: Tariff, owner_of: Mapping[str, str]
) -> dict[str, Earned]:
    """Sum every signed contribution by worker, oldest epoch first.

    `owner_of` maps a hot key to the identity it signs for; a worker's own key needs no entry.
    Raises `Inconsistent` for a foreign signature, a nonce paid twice, or a published account that
    is not the sum of its contributions.
    """
    totals: dict[str, Earned] = {}
    last_nonce: dict[str, int] = {}
    for file in files:
        for item in file.contributions:
            _require_signed(item, tariff, owner_of)
            if item.nonce <= last_nonce.get(item.worker, 0):
                raise Inconsistent(
                    f"epoch {file.epoch} pays nonce {item.nonce} of {item.worker} again: "
                    f"{last_nonce[item.worker]} was paid already"
                )
            last_nonce[item.worker] = item.nonce
            before = totals.get(item.worker, Earned(0, 0, 0))
            units = before.units + item.units
            totals[item.worker] = Earned(before.groups + 1, units, units * tariff.rate)
        published = {account.worker: account.earned for account in file.accounts}
        counted = {worker: total.units for worker, total in totals.items()}
        if published != counted:
            raise Inconsistent(
                f"epoch {file.epoch} publishes earnings {published}, its work sums to {counted}"
            )
    return totals


def _require_signed(item: Contribution, tariff: Tariff, owner_of: Mapping[str, str]) -> None:
    message = encode_typed_data(
        domain_data={
            "name": "Rollcall",
            "version": "1",
            "chainId": tariff.chain_id,
            "verifyingContract": tariff.ledger,
        },
        message_types={"Work": WORK_MEMBERS},
        message_data={
            "runId": tariff.run_id,
            "worker": item.worker,
            "nonce": item.nonce,
            "payloadDigest": item.payload_digest,
            "policyVersion": item.policy_version,
            "submittedAt": item.submitted_at,
            "tokens": item.tokens,
            "gflops": item.gflops,
        },
    )
    signer = str(Account.recover_message(message, signature=item.signature))
    if signer != item.worker and owner_of.get(signer) != item.worker:
        raise Inconsistent(
            f"nonce {item.nonce} of {item.worker} is signed by {signer}, who is not its hot key"
        )
