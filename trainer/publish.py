"""Make and publish policies: patch, skip patches, anchor, step record, signed manifest; blobs first.

Owns the host copies of recent versions that patches start from. Publishing is idempotent: a published
version is compared by its policy digest and left as it is, so a trainer that was killed between
publishing and its checkpoint can go on.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from client.policies import PolicyCache
from client.trainer import TrainerRoutes
from protocol import signing
from protocol.errors import NotFound
from protocol.policies import patch
from protocol.policies.lineage import NO_LINEAGE, StepRecord, TrainedGroup
from protocol.policies.manifest import (
    Blob,
    Manifest,
    PatchEntry,
    SignedManifest,
    Weights,
    entries,
    policy_digest,
)
from protocol.policies.publication import check_manifest
from protocol.run import RunSpec
from protocol.signing import Domain
from protocol.user_error import UserError


class Diverged(UserError):
    """A version recomputed after a restart is not the one that was published."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Which anchors and patches are published."""

    anchor_every: int
    skip_patches: Sequence[int]

    def anchor_version(self, version: int) -> int:
        return version - version % self.anchor_every

    def bases(self, version: int) -> list[int]:
        """Return the versions to patch from: the last one first, and always the anchor.

        With the anchor's own patch a late joiner needs two downloads, never a chain.
        """
        distances = [1, *self.skip_patches]
        wanted = [version - distance for distance in distances] + [self.anchor_version(version)]
        return [base for base in dict.fromkeys(wanted) if 0 <= base < version]


@dataclass(slots=True)
class Publisher:
    """Signs and publishes one run's policies."""

    client: TrainerRoutes
    domain: Domain
    run_id: int
    spec: RunSpec
    key: bytes
    plan: Plan
    divides_by_deviation: bool = False
    kept: dict[int, Weights] = field(default_factory=dict)

    def publish(
        self, version: int, weights: Weights, groups: Sequence[TrainedGroup] = ()
    ) -> Manifest:
        """Publish `weights` as `version`, unless they are already; return its manifest.

        `groups` are those of the step's batch, with what the loss counted of them. Raises `Diverged` if other weights are published under this version.
        """
        manifest = self._published(version)
        if manifest is None:
            manifest = self._manifest(version, weights, self._lineage(version, groups))
            digest = self.domain.digest(manifest)
            signature = signing.sign(self.key, digest)
            self.client.publish(SignedManifest(manifest=manifest, signature=signature))
        else:
            if manifest.policy_digest != policy_digest(entries(weights)):
                raise Diverged(
                    f"version {version} is published with other weights than this trainer computes: "
                    "restore its checkpoints, its libraries and its processor, or start a new run"
                )
            structlog.get_logger().info("policy was already published", version=version)
        self._keep(version, weights)
        return manifest

    def resume(self, version: int, weights: Weights) -> None:
        """Go on after a checkpoint: its weights, and the anchor that later patches start from."""
        self.kept = {version: weights}
        anchor_version = self.plan.anchor_version(version)
        if anchor_version == version:
            return
        self.kept[anchor_version] = self._fetch(anchor_version)

    def weights(self, version: int) -> Weights:
        """Return a published version's weights: the kept ones, or its anchor with the patch from it."""
        if version not in self.kept:
            self.kept[version] = self._fetch(version)
        return self.kept[version]

    def _fetch(self, version: int) -> Weights:
        """Fetch a version as a worker does; keep nothing of the way to it."""
        store = PolicyCache(
            self.client, run_id=self.run_id, spec=self.spec, domain=self.domain, keep=1
        )
        return store.version(version).weights

    def _lineage(self, version: int, groups: Sequence[TrainedGroup]) -> bytes:
        """Put the record of the step that made `version`; return its digest."""
        if version == 0:
            return NO_LINEAGE
        before = self._published(version - 1)
        if before is None:
            raise Diverged(
                f"version {version} is to be published, version {version - 1} is not: give the "
                "orchestrator its blobs back, in whose journal/ it is, or start a new run"
            )
        record = StepRecord(
            run_id=self.run_id,
            version=version,
            previous=before.lineage,
            divides_by_deviation=self.divides_by_deviation,
            groups=tuple(groups),
        )
        return self.client.put_blob(record.canonical()).digest

    def _manifest(self, version: int, weights: Weights, lineage: bytes) -> Manifest:
        tensors = entries(weights)
        anchor_version = self.plan.anchor_version(version)
        return Manifest(
            run_id=self.run_id,
            version=version,
            policy_digest=policy_digest(tensors),
            tensors=tensors,
            patches=tuple(
                PatchEntry(
                    base_version=base, chunks=self._put(patch.encode(self.kept[base], weights))
                )
                for base in self.plan.bases(version)
                if base in self.kept
            ),
            anchor_version=anchor_version,
            anchor=self._anchor(anchor_version, version, weights),
            lineage=lineage,
            created_at=int(time.time()),
        )

    def _anchor(self, anchor_version: int, version: int, weights: Weights) -> tuple[Blob, ...]:
        # Equal weights give equal files, so putting an older anchor again costs no storage; only the
        # names of its chunks are needed here.
        if anchor_version == version:
            return self._put(patch.anchor_bytes(weights))
        return patch.blobs(patch.split(patch.anchor_bytes(self.kept[anchor_version])))

    def _put(self, data: bytes) -> tuple[Blob, ...]:
        return tuple(self.client.put_blob(chunk) for chunk in patch.split(data))

    def _published(self, version: int) -> Manifest | None:
        """Return this trainer's own manifest of a version, or None if there is none."""
        try:
            signed = self.client.manifest(self.run_id, version)
        except NotFound:
            return None
        check_manifest(
            signed, run_id=self.run_id, version=version, spec=self.spec, domain=self.domain
        )
        return signed.manifest

    def _keep(self, version: int, weights: Weights) -> None:
        self.kept[version] = weights
        needed = {version, self.plan.anchor_version(version)}
        for later in range(version + 1, version + 1 + max((1, *self.plan.skip_patches))):
            needed.update(self.plan.bases(later))
        self.kept = {kept: self.kept[kept] for kept in self.kept if kept in needed}


def patch_bytes(manifest: Manifest) -> Mapping[int, int]:
    """Return the bytes of each patch by the version it starts from."""
    return {
        entry.base_version: sum(chunk.size for chunk in entry.chunks) for entry in manifest.patches
    }
