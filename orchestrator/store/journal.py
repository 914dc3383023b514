"""What was promised, kept among the blobs: for the day on which Redis was set back or emptied.

A submission taken, a batch handed out, a version published, the spec of a run: each lies here under a
name before anybody is told of it. Redis stays the record; this is read where it forgot (`restoring.py`).
"""

from dataclasses import dataclass
from enum import StrEnum

import msgpack

from orchestrator.store.blobs import Blobs, path_of
from orchestrator.store.records import GroupRecord
from protocol.rollout import SignedLease

ROOT = "journal"


class Kind(StrEnum):
    """What is kept of a run, and by which name."""

    SPEC = "spec"
    """Its RunSpec; a single one."""
    LIFE = "lives"
    """Each life of Redis that granted leases: the server's id."""
    POLICY = "policies"
    """Signed manifests by version."""
    BATCH = "batches"
    """By step."""
    GROUP = "groups"
    """`TakenGroup` by digest."""


@dataclass(frozen=True, slots=True)
class TakenGroup:
    """A submission as it was taken: enough to take it again."""

    signed: bytes
    """Its SignedLease, as JSON."""
    group: GroupRecord
    copy_key: bytes | None
    num_votes: int
    event: str

    @property
    def lease(self) -> SignedLease:
        return SignedLease.from_json(self.signed)

    def packed(self) -> bytes:
        values = (self.signed, self.group.packed(), self.copy_key, self.num_votes, self.event)
        return bytes(msgpack.packb(values, use_bin_type=True))

    @classmethod
    def of(cls, data: bytes) -> "TakenGroup":
        signed, packed, copy_key, num_votes, event = msgpack.unpackb(data, raw=False)
        flat = msgpack.unpackb(packed, raw=True)
        texts = [v if isinstance(v, bytes) else str(v).encode() for v in flat]
        fields = dict(zip(texts[::2], texts[1::2], strict=True))
        return cls(signed, GroupRecord.of(fields), copy_key, num_votes, event)


@dataclass(frozen=True, slots=True)
class Journal:
    blobs: Blobs

    async def keep(self, run_id: int, kind: Kind, name: str, data: bytes) -> None:
        await self.blobs.keep({_path(run_id, kind, name): data})

    async def take(self, run_id: int, digest: bytes, taken: TakenGroup, body: bytes) -> None:
        """Keep a submission with its body."""
        name = _path(run_id, Kind.GROUP, digest.hex())
        await self.blobs.keep({path_of(taken.group.body): body, name: taken.packed()})

    async def names(self, run_id: int, kind: Kind) -> list[str]:
        """Return the names of all that is kept of a kind, in order."""
        folder = f"{ROOT}/{run_id}/{kind}"
        return [path.removeprefix(f"{folder}/") for path in await self.blobs.names(folder)]

    async def read(self, run_id: int, kind: Kind, name: str) -> bytes:
        return await self.blobs.kept(_path(run_id, kind, name))

    async def drop(self, run_id: int, kind: Kind, *names: str) -> None:
        await self.blobs.drop([_path(run_id, kind, name) for name in names])

    async def keep_spec(self, run_id: int, spec: bytes) -> None:
        await self.blobs.keep({f"{ROOT}/{Kind.SPEC}/{run_id}": spec})

    async def specs(self) -> dict[int, bytes]:
        """Return the spec of every run that was ever registered here, as JSON."""
        paths = await self.blobs.names(f"{ROOT}/{Kind.SPEC}")
        return {int(path.rpartition("/")[2]): await self.blobs.kept(path) for path in paths}


def numbered(number: int) -> str:
    """Return a name that stands in order of its number."""
    return f"{number:010d}"


def _path(run_id: int, kind: Kind, name: str) -> str:
    return f"{ROOT}/{run_id}/{kind}/{name}"
