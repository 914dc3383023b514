"""Leases: reserved with their pace and budget in one step, kept, and freed."""

from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.rules.pacing import Pace
from orchestrator.store import keys
from orchestrator.store.events import event_command
from orchestrator.store.queue import Argument, Queue
from protocol.checks.drops import DropRule
from protocol.rollout import Lease, SignedLease


@dataclass(frozen=True, slots=True)
class Reserved:
    """What was reserved, or why nothing was."""

    outcome: str
    """granted, paced, no_budget, too_many, excluded, paused, revealed, forgetful."""
    first: int
    """The first nonce; of too many leases, how many may be held."""
    count: int
    debt: int = 0
    """What the worker owes for dropped leases."""
    why: str = ""
    """Why a worker is excluded or paused."""
    rejected: str = ""
    """The worker's group that a replay rejected last, and why."""


@dataclass(frozen=True, slots=True)
class LeaseStore:
    queue: Queue

    async def reserve(
        self,
        run_id: int,
        worker: str,
        count: int,
        pace: Pace,
        *,
        version: int,
        deadline: int,
    ) -> Reserved:
        """Reserve up to `count` nonces of a worker; none where the epoch's secret is in a file."""
        outcome, first, granted, detail, *rest = await self.queue.script(
            "grant",
            run_id,
            *(worker, count, deadline, pace.drops.max_leases, pace.most_groups),
            *(pace.units_unposted, pace.units_per_group, pace.share_millionths),
            *(pace.units_unfinal, pace.drops.allowance, version, keys.TALLY_SECONDS),
            *(pace.most_flat, pace.epoch),
        )
        if outcome in {b"excluded", b"paused"}:
            return Reserved(outcome.decode(), 0, 0, why=detail.decode())
        rejected = rest[0].decode() if rest else ""
        return Reserved(outcome.decode(), int(first), int(granted), int(detail), rejected=rejected)

    async def keep(self, run_id: int, leases: Iterable[SignedLease], event: str) -> None:
        """Keep signed leases, and announce them."""
        prefix = keys.run_prefix(run_id)
        commands: list[tuple[Argument, ...]] = []
        for signed in leases:
            lease = signed.lease
            fields = ("worker", lease.worker, "nonce", lease.nonce)
            key = f"{prefix}lease:{lease.lease_id.hex()}"
            commands.append(("HSET", key, *fields, "signed", signed.to_json()))
            commands.append(("EXPIRE", key, keys.UNUSED_SECONDS))
        commands.append(event_command(run_id, "lease", event))
        await self.queue.pipeline(commands)

    async def hold(self, lease: Lease, digest: bytes, *, until: float) -> None:
        """Keep an open lease from expiring before a time, and note which work it is held for."""
        prefix = keys.run_prefix(lease.run_id)
        member = f"{lease.worker}:{lease.nonce}"
        await self.queue.pipeline(
            [
                ("ZADD", prefix + "open", "XX", "GT", until, member),
                ("HSET", f"{prefix}lease:{lease.lease_id.hex()}", "in_time", digest.hex()),
            ]
        )

    async def reopen(self, run_id: int, signed: SignedLease) -> None:
        """Hold a lease open that was granted and forgotten, so that its group can be taken again."""
        lease = signed.lease
        about = (lease.lease_id.hex(), lease.worker, lease.nonce, lease.policy_version)
        await self.queue.script("reopen_lease", run_id, *about, lease.deadline, signed.to_json())

    async def signed(self, run_id: int, lease_id: bytes) -> SignedLease:
        key = f"{keys.run_prefix(run_id)}lease:{lease_id.hex()}"
        return SignedLease.from_json(await self.queue.call("HGET", key, "signed"))

    async def held(self, run_id: int, worker: str, lease_ids: Iterable[bytes]) -> list[int]:
        """Return the nonces of those leases that are the worker's."""
        prefix = keys.run_prefix(run_id)
        reads = [
            ("HMGET", f"{prefix}lease:{lease.hex()}", "worker", "nonce") for lease in lease_ids
        ]
        found = await self.queue.pipeline(reads) if reads else []
        return [int(nonce) for owner, nonce in found if owner == worker.encode()]

    async def has_leased(self, run_id: int, worker: str) -> bool:
        """Return whether a worker ever had a lease."""
        return bool(await self.queue.call("SISMEMBER", f"{keys.run_prefix(run_id)}workers", worker))

    async def num_held(self, run_id: int, worker: str) -> int:
        return int(await self.queue.call("SCARD", f"{keys.run_prefix(run_id)}held:{worker}"))

    async def free(
        self, run_id: int, worker: str, nonces: Iterable[int], blame: DropRule | None
    ) -> int:
        """Free a worker's open leases as dropped, or forgiven where `blame` is None; return how many."""
        freed = await self.queue.script(
            "close_leases", run_id, worker, *_blame_arguments(blame), *nonces
        )
        return len(freed)

    async def free_expired(
        self, run_id: int, blame: DropRule | None, *, latest: float, limit: int, away_seconds: float
    ) -> int:
        """Free leases whose deadline is not after `latest`, forgiven after a pause of `away_seconds`."""
        freed = await self.queue.script(
            "close_leases", run_id, "", *_blame_arguments(blame), latest, limit, away_seconds
        )
        return len(freed)


def _blame_arguments(blame: DropRule | None) -> tuple[Argument, Argument]:
    return (blame.per_drop, blame.most) if blame is not None else ("", 0)
