"""Verifiers: what they are handed, how they judged, and who has lost its vote."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.store import keys
from orchestrator.store.queue import Queue
from protocol.messages import MOST_CLOSED
from protocol.verdict import Seal

HANDED_SECONDS = keys.HANDED_SECONDS


@dataclass(frozen=True, slots=True)
class VerifierRecord:
    """How a verifier has judged."""

    num_accepted: int
    num_rejected: int
    num_undecided: int
    num_odd: int
    canaries_failed: int
    failed_on: str
    """The digest that cost its vote; empty where it has one."""

    @classmethod
    def of(cls, fields: Mapping[bytes, bytes]) -> "VerifierRecord":
        """Read the hash."""

        def number(name: bytes) -> int:
            return int(fields.get(name, 0))

        return cls(
            num_accepted=number(b"accepted"),
            num_rejected=number(b"rejected"),
            num_undecided=number(b"undecided"),
            num_odd=number(b"odd"),
            canaries_failed=number(b"canaries_failed"),
            failed_on=fields.get(b"failed_on", b"").decode(),
        )


@dataclass(frozen=True, slots=True)
class VerifierStore:
    queue: Queue

    async def take_audits(
        self,
        run_id: int,
        verifier: str,
        count: int,
        *,
        verifiers: tuple[str, ...],
        seconds: float,
        now: float,
    ) -> tuple[bytes, ...]:
        """Hand up to `count` replays to a verifier, for so many seconds; return their groups' digests."""
        digests = await self.queue.script(
            "take_audits",
            run_id,
            *(verifier, count, now, seconds, " ".join(verifiers)),
            *(keys.ASKED_SECONDS, keys.HANDED_SECONDS),
        )
        return tuple(bytes.fromhex(digest.decode()) for digest in digests)

    async def closed(self, run_id: int, verifier: str) -> dict[bytes, dict[str, Seal]]:
        """Return the closed votes that lack this verifier's verdict: by digest, each verifier's seal."""
        prefix = keys.run_prefix(run_id)
        key, last = f"{prefix}unopened:{verifier}", MOST_CLOSED - 1
        digests = await self.queue.call("ZREVRANGE", key, 0, last)
        found = await self.queue.pipeline(
            [("HGETALL", f"{prefix}seals:{digest.decode()}") for digest in digests]
        )
        return {
            bytes.fromhex(digest.decode()): {
                who.decode(): Seal.from_json(seal) for who, seal in seals.items()
            }
            for digest, seals in zip(digests, found, strict=True)
        }

    async def num_unopened(self, run_id: int, verifier: str) -> int:
        key = f"{keys.run_prefix(run_id)}unopened:{verifier}"
        return int(await self.queue.call("ZCARD", key))

    async def record(self, run_id: int, verifier: str) -> VerifierRecord:
        """Return how a verifier has judged."""
        return VerifierRecord.of(
            await self.queue.hash(f"{keys.run_prefix(run_id)}verifier:{verifier}")
        )

    async def splits(self, run_id: int) -> dict[str, dict[str, int]]:
        """Return by verifier and other verifier on how many groups the two left no quorum."""
        found: dict[str, dict[str, int]] = defaultdict(dict)
        for pair, count in (await self.queue.hash(keys.run_prefix(run_id) + "splits")).items():
            one, other = pair.decode().split()
            found[one][other] = found[other][one] = int(count)
        return found

    async def voteless(self, run_id: int) -> frozenset[str]:
        """Return the verifiers that lost their vote to a canary."""
        found = await self.queue.call("SMEMBERS", keys.run_prefix(run_id) + "voteless")
        return frozenset(verifier.decode() for verifier in found)
