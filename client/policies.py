"""Bring the host's weights to a named policy version, or leave them as they are.

Versions are nodes and patches are edges. A search from the target backwards finds the cheapest way in
bytes; it ends at a version already here or at an anchor, which is an edge from nothing. A part that
cannot be read, applied or verified is struck out and the next cheapest way is tried, so patch, skip
patch and anchor are one search and not three cases. Only weights with every tensor's promised digest
are kept, and a policy replaces nothing until it is whole.
Left out: relays, and adapters of LoRA runs. Source: `protocol/wire.md` section 9.
"""

import heapq
import math
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Protocol

import structlog

from client.public import PublicRoutes
from client.retry import GiveUp
from protocol.architectures import why_unfit
from protocol.errors import Malformed, MarketError, Refused
from protocol.policies.manifest import (
    Blob,
    HostTensor,
    Manifest,
    SignedManifest,
    TensorEntry,
    Weights,
)
from protocol.policies.patch import PatchMismatch, anchor_bytes, apply, from_anchor, verify
from protocol.policies.publication import check_manifest
from protocol.run import RunSpec
from protocol.signing import Domain

ITEM_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
MAX_TOKENIZER_BYTES = 64 << 20
MAX_CONFIG_BYTES = 1 << 20
HEADER_BYTES = 1 << 20
"""Most bytes that an anchor's or a patch's framing adds to its tensors."""
MAX_VERSIONS_SEARCHED = 64
"""Most manifests read for one way; skip patches double, so 64 versions back take about 6."""
NOTHING = -1
"""The node an anchor starts from."""


class PolicyUnreachable(Exception):
    """No patch, skip patch or anchor leads to the version; the old policy is still in place."""


@dataclass(frozen=True, slots=True)
class FetchedPolicy:
    """Verified weights of one version. Nobody writes to them."""

    version: int
    digest: bytes
    weights: Weights


@dataclass(frozen=True, slots=True)
class Edge:
    """One edge of a way: the chunks that lead from `base` to the manifest's version."""

    base: int
    manifest: Manifest
    chunks: tuple[Blob, ...]
    kind: str

    @property
    def num_bytes(self) -> int:
        return sum(chunk.size for chunk in self.chunks)


class PolicySource(Protocol):
    """Where manifests and blobs come from; `PublicRoutes` is one."""

    def manifest(
        self, run_id: int, version: int, *, give_up: GiveUp | None = None
    ) -> SignedManifest: ...

    def join(
        self, chunks: tuple[Blob, ...], *, kind: str, give_up: GiveUp | None = None
    ) -> bytes: ...


class PolicyCache:
    """The last few policies of one run on this host. One thread at a time may call `reach`."""

    def __init__(
        self, source: PolicySource, *, run_id: int, spec: RunSpec, domain: Domain, keep: int = 2
    ) -> None:
        self._source = source
        self._run_id = run_id
        self._spec = spec
        self._domain = domain
        self._keep = keep
        self._held: OrderedDict[int, FetchedPolicy] = OrderedDict()
        self._log = structlog.get_logger()

    def held(self) -> tuple[int, ...]:
        """Return the versions that are here, the last used last."""
        return tuple(self._held)

    def reach(self, version: int, digest: bytes, *, give_up: GiveUp | None = None) -> FetchedPolicy:
        """Return the policy with this digest; raise `PolicyUnreachable` and change nothing.

        `digest` is the leased one: a manifest that promises another one is of no use.
        """
        target = self._get(version)
        if target is None or target.digest != digest:
            target = self._bring(version, digest, give_up)
        return target

    def version(self, version: int, *, give_up: GiveUp | None = None) -> FetchedPolicy:
        """Return a version by its number, with any policy that its trainer signed under it."""
        digest = self._manifest(version, give_up).policy_digest
        return self.reach(version, digest, give_up=give_up)

    def older(
        self, version: int, *, most: int, give_up: GiveUp | None = None
    ) -> Iterator[tuple[int, Weights]]:
        """Yield up to `most` versions below one with their weights, newest first, as far as they are served."""
        for below in range(version - 1, max(-1, version - 1 - most), -1):
            try:
                yield below, self.version(below, give_up=give_up).weights
            except (PolicyUnreachable, MarketError):
                return

    def _bring(self, version: int, digest: bytes, give_up: GiveUp | None) -> FetchedPolicy:
        refused: set[tuple[int, int]] = set()
        reason: Exception | None = None
        try:
            manifest = self._manifest(version, give_up)
            if manifest.policy_digest != digest:
                raise PatchMismatch(
                    f"the manifest of version {version} promises 0x{manifest.policy_digest.hex()}, "
                    f"the lease 0x{digest.hex()}"
                )
            for way in self._ways(manifest, refused, give_up):
                try:
                    return self._follow(way, refused, give_up)
                except MarketError as error:
                    self._log.warning("policy part refused", version=version, reason=str(error))
                    reason = error
        except MarketError as error:
            reason = error
        raise PolicyUnreachable(
            f"version {version} of run {self._run_id} cannot be reached: {reason or 'no way to it'}"
        ) from reason

    def _ways(
        self, target: Manifest, refused: set[tuple[int, int]], give_up: GiveUp | None
    ) -> Iterator[tuple[Edge, ...]]:
        """Yield the cheapest way that avoids all parts refused so far, until there is none."""
        manifests = {target.version: target}
        while (way := self._cheapest(target.version, manifests, refused, give_up)) is not None:
            yield way

    def _cheapest(
        self,
        target: int,
        manifests: dict[int, Manifest],
        refused: set[tuple[int, int]],
        give_up: GiveUp | None,
    ) -> tuple[Edge, ...] | None:
        """Search by Dijkstra from the target backwards; cost is bytes to download."""
        order = count()  # settles equal costs: steps themselves have no order
        frontier: list[tuple[int, int, int, tuple[Edge, ...]]] = [(0, next(order), target, ())]
        settled: set[int] = set()
        while frontier and len(settled) < MAX_VERSIONS_SEARCHED:
            cost, _, version, way = heapq.heappop(frontier)
            if way and (version == NOTHING or version in self._held):
                return way
            if version in settled:
                continue
            settled.add(version)
            for step in self._steps_to(version, manifests, give_up):
                if (step.base, version) not in refused and step.base not in settled:
                    entry = (cost + step.num_bytes, next(order), step.base, (step, *way))
                    heapq.heappush(frontier, entry)
        return None

    def _steps_to(
        self, version: int, manifests: dict[int, Manifest], give_up: GiveUp | None
    ) -> list[Edge]:
        if version not in manifests:
            try:
                manifests[version] = self._manifest(version, give_up)
            except MarketError as error:
                self._log.warning("manifest refused", version=version, reason=str(error))
                return []
        return steps_to(manifests[version])

    def _follow(
        self, way: tuple[Edge, ...], refused: set[tuple[int, int]], give_up: GiveUp | None
    ) -> FetchedPolicy:
        """Apply one way; keep each whole policy on it, and strike out the step that fails."""
        start = way[0].base
        weights: Weights = {} if start == NOTHING else self._held[start].weights
        for step in way:
            try:
                weights = self._take(step, weights, give_up)
            except MarketError:
                refused.add((step.base, step.manifest.version))
                raise
            policy = FetchedPolicy(step.manifest.version, step.manifest.policy_digest, weights)
            self._put(policy)
        return policy

    def _take(self, step: Edge, weights: Weights, give_up: GiveUp | None) -> dict[str, HostTensor]:
        limit = num_bytes(step.manifest.tensors) + HEADER_BYTES
        if step.num_bytes > limit:
            raise Malformed(f"a {step.kind} of {step.num_bytes} bytes for {limit} of tensors")
        data = self._source.join(step.chunks, kind=step.kind, give_up=give_up)
        if step.base != NOTHING:
            return apply(weights, data, step.manifest.tensors, max_bytes=limit)
        found = from_anchor(data)
        verify(found, step.manifest.tensors)
        return found

    def _manifest(self, version: int, give_up: GiveUp | None) -> Manifest:
        signed = self._source.manifest(self._run_id, version, give_up=give_up)
        check_manifest(
            signed, run_id=self._run_id, version=version, spec=self._spec, domain=self._domain
        )
        return signed.manifest

    def _get(self, version: int) -> FetchedPolicy | None:
        if version in self._held:
            self._held.move_to_end(version)
        return self._held.get(version)

    def _put(self, policy: FetchedPolicy) -> None:
        self._held[policy.version] = policy
        self._held.move_to_end(policy.version)
        while len(self._held) > self._keep:
            self._held.popitem(last=False)


def steps_to(manifest: Manifest) -> list[Edge]:
    """Return every single step that leads to a version: its patches, and its anchor if it has one."""
    steps = [
        Edge(
            entry.base_version,
            manifest,
            entry.chunks,
            "patch" if entry.base_version == manifest.version - 1 else "skip_patch",
        )
        for entry in manifest.patches
    ]
    if manifest.anchor_version == manifest.version:
        steps.append(Edge(NOTHING, manifest, manifest.anchor, "anchor"))
    return steps


def num_bytes(tensors: tuple[TensorEntry, ...]) -> int:
    """Return the bytes of the tensors themselves."""
    return sum(math.prod(entry.shape) * ITEM_BYTES[entry.dtype] for entry in tensors)


def bring_model_folder(
    orchestrator: PublicRoutes,
    spec: RunSpec,
    weights: Weights,
    folder: Path,
    *,
    give_up: GiveUp | None = None,
) -> None:
    """Write the folder that an engine opens, with the config.json that the run agreed on.

    Raises `Refused` if that model has no room for the run's longest rollout.
    """
    config_json = orchestrator.blob(
        spec.model_config_digest, max_bytes=MAX_CONFIG_BYTES, kind="config", give_up=give_up
    )
    if reason := why_unfit(config_json, spec):
        raise Refused(reason)
    write_model_folder(folder, config_json, weights)


def bring_tokenizer(
    orchestrator: PublicRoutes, spec: RunSpec, folder: Path, *, give_up: GiveUp | None = None
) -> None:
    """Write the tokenizer.json that the run agreed on, for callers that prompt the model themselves."""
    data = orchestrator.blob(
        spec.tokenizer_digest, max_bytes=MAX_TOKENIZER_BYTES, kind="tokenizer", give_up=give_up
    )
    (folder / "tokenizer.json").write_bytes(data)


def write_model_folder(folder: Path, config_json: bytes, weights: Weights) -> Path:
    """Write the folder that an engine opens: config.json and model.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in (("config.json", config_json), ("model.safetensors", anchor_bytes(weights))):
        part = folder / f"{name}.part"
        part.write_bytes(data)
        part.replace(folder / name)
    return folder
