"""A run for a trainer to train: the real app on a port, honest groups in it, and what the trainer made of them.

Every run of a training has the same chain behind it, so that the same groups come in the same order: what two
trainers make of them can be compared bit by bit.
"""

import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from orchestrator.store.keys import run_prefix
from protocol.messages import Batch
from protocol.policies import patch
from protocol.policies.lineage import StepRecord, read_record
from protocol.policies.manifest import Blob, HostTensor, SignedManifest
from protocol.rollout import Rollout
from protocol.run import AuditPolicy
from tests.stage import work
from tests.stage.front import Answered, Asked, Fault, Front, facing, no_fault
from tests.stage.ground import Ground
from tests.stage.place import Place, opened
from tests.stage.terms import digest_of
from tests.stage.world import Running

Telling = Callable[[Rollout, int], Rollout]
"""(what was sampled, its reward) → what the worker says was."""
Opening = Callable[..., AbstractContextManager["Training"]]
"""What opens a run with groups for so many steps, one after another."""


@dataclass
class Training:
    """One run at its orchestrator; its workers sell once a first policy is out."""

    place: Place
    front: Front
    num_steps: int
    telling: Telling = lambda rollout, _reward: rollout
    fault: Fault = no_fault
    is_sold: bool = False
    selling: Any = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return self.front.url

    @property
    def run_id(self) -> int:
        return self.place.run_id

    @property
    def acked(self) -> list[int]:
        """Return the steps that the orchestrator knows to be durable."""
        store = self.place.services.store.batches
        return list(range(self.place.call(store.acknowledged, self.run_id) + 1))

    @property
    def policies(self) -> list[SignedManifest]:
        found: list[SignedManifest] = []
        while (answer := self.place.get(self.place.path(f"policies/{len(found)}"))).is_success:
            found.append(SignedManifest.from_json(answer.content))
        return found

    def between(self, asked: Asked, answered: Answered | None) -> Answered | None:
        """Have the groups sold before the first batch is asked for, then let `fault` strike."""
        if asked.path.endswith("/batches"):
            with self.selling:
                if not self.is_sold:
                    self._sell()
                    self.is_sold = True
        return self.fault(asked, answered)

    def _sell(self) -> None:
        worker, batches = self.place.party("alice"), self.place.services.store.batches
        wanted = self.num_steps * self.place.spec.groups_per_batch
        while len(self.place.call(batches.ready, self.run_id)) < wanted:
            [signed] = worker.leases()
            lease = signed.lease
            sampled, scores = work.completions(lease.index, lease.prompt, lease.group_size)
            told = [self.telling(*pair) for pair in zip(sampled, scores, strict=True)]
            assert not worker.deliver(lease, told).rejection

    def lose_sessions(self) -> None:
        """Make the orchestrator one that knows nobody's token."""
        self.place.services.session_secret = secrets.token_bytes(32)

    def offer_again(self, step: int, *, groups_of: int) -> None:
        """Make the orchestrator one that gives a step the groups of an earlier one."""
        raw = self.place.known("batches", groups_of)
        assert raw is not None
        batch = Batch(run_id=self.run_id, step=step, groups=Batch.from_json(raw).groups)
        call = self.place.services.store.queue.call
        self.place.call(call, "HSET", run_prefix(self.run_id) + "batches", step, batch.to_json())

    # ------------------------------------------------------------ what was published

    def record(self, version: int) -> StepRecord:
        """Return what the trainer signed of the step that made this version."""
        digest = self.policies[version].manifest.lineage
        data = self.blob(digest)
        return read_record(data, digest=digest, run_id=self.run_id, version=version)

    def weights(self, version: int) -> dict[str, bytes]:
        """Return what a worker would hold of this version, by every published way to it."""
        manifest = self.policies[version].manifest
        ways = [
            self._patched(self._from_anchor(entry.base_version), entry.chunks, version)
            for entry in manifest.patches
        ]
        ways.append(self._from_anchor(version))
        assert {digest_of(way) for way in ways} == {manifest.policy_digest}
        return {name: tensor.bits.tobytes() for name, tensor in ways[0].items()}

    def _from_anchor(self, version: int) -> dict[str, HostTensor]:
        """Return what a late joiner holds: the anchor, and if it is older the one patch from it."""
        manifest = self.policies[version].manifest
        anchor = patch.from_anchor(self._joined(manifest.anchor))
        if manifest.anchor_version == version:
            return anchor
        [chunks] = (p.chunks for p in manifest.patches if p.base_version == manifest.anchor_version)
        return self._patched(anchor, chunks, version)

    def _patched(
        self, base: dict[str, HostTensor], chunks: tuple[Blob, ...], version: int
    ) -> dict[str, HostTensor]:
        tensors = self.policies[version].manifest.tensors
        return patch.apply(base, self._joined(chunks), tensors, max_bytes=1 << 26)

    def _joined(self, chunks: tuple[Blob, ...]) -> bytes:
        return b"".join(self.blob(chunk.digest) for chunk in chunks)

    def blob(self, digest: bytes) -> bytes:
        found: bytes = self.place.get(f"/v1/blobs/0x{digest.hex()}").content
        return found


@contextmanager
def training(
    redis_url: str, folder: Path, num_steps: int, *, telling: Telling | None = None, **changes: Any
) -> Iterator[Training]:
    """Open a run with groups for so many steps, all sampled by version 0; `changes` are fields of RunSpec."""
    with redis.Redis.from_url(redis_url) as queue:
        queue.flushdb()
    terms = work.terms(
        audit=AuditPolicy(num_probation_groups=0, rate_millionths=0),
        max_staleness=8,
        max_stake_multiple_millionths=0,
        lease_seconds=86_400,
    )
    with (
        opened(
            *(Ground.build(Running()), redis_url, folder),
            is_published=False,
            **terms | changes,
        ) as place,
        facing(place) as front,
    ):
        found = Training(place, front, num_steps)
        found.telling = telling or found.telling
        front.fault = found.between
        yield found
