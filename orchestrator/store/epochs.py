"""Epochs: frozen, signed, posted, taken back, credited; each a step that may be repeated."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgpack

from orchestrator.store import keys
from orchestrator.store.queue import Queue
from orchestrator.store.records import Epoch
from protocol.messages import Account, Contribution

ACCOUNTS_AT_ONCE = 1 << 12
"""Accounts are those of all that ever worked: 200,000 at once kept everybody waiting for 13 s."""


@dataclass(frozen=True, slots=True)
class EpochStore:
    queue: Queue

    async def epoch(self, run_id: int, number: int) -> Epoch | None:
        """Return an epoch's record, or None before it is frozen."""
        raw = await self.queue.call("HGET", keys.run_prefix(run_id) + "epochs", number)
        return Epoch.from_json(raw) if raw is not None else None

    async def num_credited(self, run_id: int) -> int:
        """Return how many epochs' accounts are what workers have earned."""
        return int(await self.queue.call("HGET", keys.run_prefix(run_id) + "state", "final") or 0)

    async def freeze(self, record: Epoch, work: Mapping[bytes, Contribution]) -> bool:
        """Write an epoch's record and bind its work to it, by digest and in order of nonce; return False
        where any of it was revoked, or another copy was faster.
        """
        rows = [[d.hex(), item.worker, item.nonce, item.units] for d, item in work.items()]
        arguments = (record.epoch, record.to_json(), _packed(rows))
        return bool(await self.queue.script("freeze_epoch", record.run_id, *arguments))

    async def mark_posted(self, record: Epoch, event: str) -> None:
        """Set an epoch's work aside: it is committed on chain, and not final."""
        arguments = (record.epoch, record.to_json(), keys.NUM_EVENTS_KEPT, event)
        await self.queue.script("settle_epoch", record.run_id, *arguments)

    async def restore(self, record: Epoch, kept: Epoch | None, event: str) -> None:
        """Make an epoch's work unsettled again; `kept` is what its record becomes, None to forget it."""
        json = kept.to_json() if kept is not None else b""
        arguments = (record.epoch, json, keys.NUM_EVENTS_KEPT, event)
        await self.queue.script("restore_epoch", record.run_id, *arguments)

    async def credit(self, record: Epoch, accounts: Iterable[Account], event: str) -> None:
        """Tell workers what they have earned, from the accounts of a final epoch; several steps."""
        rows = [[a.worker, a.earned, a.last_nonce] for a in accounts]
        for start in range(0, len(rows), ACCOUNTS_AT_ONCE):
            page = _packed(rows[start : start + ACCOUNTS_AT_ONCE])
            await self.queue.script("credit_accounts", record.run_id, page)
        arguments = (record.epoch, record.to_json(), keys.NUM_EVENTS_KEPT, event)
        await self.queue.script("credit_epoch", record.run_id, *arguments)

    async def sign(self, record: Epoch, verifier: str, signature: bytes) -> None:
        """Keep a verifier's signature of an epoch's header."""
        await self.queue.call("HSET", _signed(record), verifier, signature)

    async def signatures(self, record: Epoch) -> dict[bytes, bytes]:
        return await self.queue.hash(_signed(record))


def _signed(record: Epoch) -> str:
    # Signatures of a header that was rewritten must not count for the new one.
    prefix = keys.run_prefix(record.run_id)
    return f"{prefix}signed:{record.epoch}:{record.header_digest.hex()}"


def _packed(rows: list[list[Any]]) -> bytes:
    # One argument however many rows there are: Redis takes a million arguments at most.
    return bytes(msgpack.packb(rows, use_bin_type=False))
