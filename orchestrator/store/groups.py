"""Submissions: what judging one needs, its record, and the work that waits to be settled."""

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.store import keys
from orchestrator.store.queue import Queue, require_no_wait
from orchestrator.store.records import GroupRecord
from protocol.checks.drops import DropRule
from protocol.messages import Contribution
from protocol.rollout import Lease, SignedLease
from protocol.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Begun:
    """What the store knows about a submission that arrives."""

    signed: bytes | None
    """Its lease, as it was signed."""
    lease: Lease | None
    used: str | None
    """The digest of the submission that the lease has."""
    receipt: bytes
    """That one's receipt."""
    num_accepted: int
    """The worker's accepted groups with lower nonces, since its last pause."""
    is_excluded: bool
    excluded_for: str
    newest_version: int
    drop_debt: int
    is_open: bool
    """Whether the lease was neither used nor returned, and did not expire."""
    in_time: str
    """The digest of the submission that the lease is held open for."""


@dataclass(frozen=True, slots=True)
class Earned:
    """A worker's accepted work that no posted epoch has, and its first undecided nonce, at one moment."""

    digests: tuple[bytes, ...]
    first_undecided: int | None


@dataclass(frozen=True, slots=True)
class GroupStore:
    queue: Queue

    async def begin(
        self,
        run_id: int,
        lease_id: bytes,
        worker: str,
        *,
        payer: str,
        rate: float,
        burst: int,
        now: float,
    ) -> Begun:
        """Spend one request of the payer and return what the worker's submission is judged by."""
        answer = await self.queue.script(
            "begin",
            run_id,
            *(lease_id.hex(), worker, rate, burst, now),
            also=(keys.bucket(payer),),
        )
        require_no_wait(answer[0], payer)
        _, signed, used, receipt, num_accepted, excluded, newest, reason, debt, *state = answer
        return Begun(
            signed=signed,
            lease=SignedLease.from_json(signed).lease if signed is not None else None,
            used=used.decode() if used is not None else None,
            receipt=receipt,
            num_accepted=int(num_accepted or 0),
            is_excluded=excluded == b"1",
            excluded_for=reason.decode(),
            newest_version=int(newest or 0),
            drop_debt=int(debt),
            is_open=bool(state[0]),
            in_time=state[1].decode(),
        )

    async def submit(
        self,
        run_id: int,
        digest: bytes,
        group: GroupRecord,
        *,
        copy_key: bytes | None,
        num_votes: int,
        drops: DropRule,
        secret_epoch: int | None,
        now: float,
        event: str,
    ) -> tuple[str, bytes]:
        """Record a submission, once per lease; return the outcome and its detail (`lua/submit.lua`).

        `secret_epoch` is whose secret drew it, None where the draw needs none.
        """
        outcome, detail = await self.queue.script(
            "submit",
            run_id,
            *(group.lease_id.hex(), group.worker, group.nonce),
            *(digest.hex(), group.state.value),
            *(copy_key.hex() if copy_key is not None else "", keys.SEEN_SECONDS, now),
            *(num_votes, keys.NUM_EVENTS_KEPT, event, group.packed()),
            *(drops.per_drop, drops.most, drops.per_group, keys.UNUSED_SECONDS),
            "" if secret_epoch is None else secret_epoch,
        )
        return outcome.decode(), detail

    async def group(self, run_id: int, digest: bytes) -> GroupRecord | None:
        fields = await self.queue.hash(f"{keys.run_prefix(run_id)}group:{digest.hex()}")
        return GroupRecord.of(fields) if fields else None

    async def known(self, run_id: int, digests: Sequence[bytes]) -> set[bytes]:
        """Return those of the digests that have a record."""
        prefix = keys.run_prefix(run_id)
        found = await self.queue.pipeline([("EXISTS", f"{prefix}group:{d.hex()}") for d in digests])
        return {digest for digest, is_known in zip(digests, found, strict=True) if is_known}

    async def worker(self, run_id: int, digest: bytes) -> str:
        """Return whose a known group is."""
        key = f"{keys.run_prefix(run_id)}group:{digest.hex()}"
        return str((await self.queue.call("HGET", key, "worker")).decode())

    async def verdicts(self, run_id: int, digest: bytes) -> tuple[Verdict, ...]:
        """Return all verdicts on a group, in order of time."""
        raw = await self.queue.hash(f"{keys.run_prefix(run_id)}verdicts:{digest.hex()}")
        return tuple(sorted(map(Verdict.from_json, raw.values()), key=lambda v: v.decided_at))

    async def verdict_of(self, run_id: int, digest: bytes, verifier: str) -> Verdict:
        key = f"{keys.run_prefix(run_id)}verdicts:{digest.hex()}"
        return Verdict.from_json(await self.queue.call("HGET", key, verifier))

    async def earned(self, run_id: int, worker: str) -> Earned:
        """Return a worker's unsettled work in order of nonce.

        One look at both: work decided or leased between two would be left behind for ever.
        """
        prefix = keys.run_prefix(run_id)
        digests, first = await self.queue.pipeline(
            [
                ("ZRANGE", f"{prefix}earned:{worker}", 0, -1),
                ("ZRANGE", f"{prefix}undecided:{worker}", 0, 0),
            ]
        )
        known = tuple(bytes.fromhex(digest.decode()) for digest in digests)
        return Earned(known, int(first[0]) if first else None)

    async def has_undecided(self, run_id: int, worker: str) -> bool:
        return bool(await self.queue.call("ZCARD", f"{keys.run_prefix(run_id)}undecided:{worker}"))

    async def contributions(
        self, run_id: int, digests: Sequence[bytes]
    ) -> tuple[tuple[Contribution, int], ...]:
        """Return each group's contribution, and the epoch whose secret drew whether it is replayed."""
        prefix = keys.run_prefix(run_id)
        rows = await self.queue.pipeline(
            [
                ("HMGET", f"{prefix}group:{digest.hex()}", "contribution", "draw_epoch")
                for digest in digests
            ]
        )
        return tuple((Contribution.from_json(row), int(epoch or 0)) for row, epoch in rows)
