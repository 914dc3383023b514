"""Small policies of a place's run, published to its app and read through a front that may lie."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from client.cache import ContentCache
from client.connection import Connection
from client.counters import Counters
from client.policies import PolicyCache
from client.retry import RetryConfig
from client.worker import WorkerRoutes
from protocol.policies.manifest import (
    Blob,
    HostTensor,
    Manifest,
    PatchEntry,
    SignedManifest,
    Weights,
    entries,
)
from protocol.policies.patch import anchor_bytes, encode
from protocol.run import RunSpec
from protocol.signing import Domain, sign
from tests.stage.front import Answered, Front, facing
from tests.stage.ground import Ground
from tests.stage.place import Place, opened
from tests.stage.terms import digest_of, person

TRAINER = bytes(person("trainer").key)
READER = bytes(person("alice").key)
SHAPES = {"embed": (64, 16), "head": (16, 64), "norm": (16,)}
CHUNK_BYTES = 1_000
FAST = RetryConfig(first_seconds=0.01, most_seconds=0.05)


def first_weights() -> dict[str, HostTensor]:
    draw = np.random.default_rng(0)
    return {
        name: HostTensor(
            "bfloat16", shape, draw.integers(0, 1 << 15, np.prod(shape), dtype=np.uint16)
        )
        for name, shape in SHAPES.items()
    }


def stepped(weights: Weights, seed: int) -> dict[str, HostTensor]:
    """Move a few elements by one bit pattern, as an optimizer step does."""
    draw = np.random.default_rng(seed)
    moved = {}
    for name, tensor in weights.items():
        bits = tensor.bits.copy()
        chosen = draw.choice(bits.size, size=max(1, bits.size // 50), replace=False)
        bits[chosen] += 1
        moved[name] = HostTensor(tensor.dtype, tensor.shape, bits)
    return moved


def same(left: Weights, right: Weights) -> bool:
    return entries(left) == entries(right)


@dataclass
class Policies:
    """What a run's trainer has published, and the front through which others read it."""

    place: Place
    front: Front
    folder: Path
    weights: dict[int, Weights] = field(default_factory=dict)
    manifests: dict[int, SignedManifest] = field(default_factory=dict)
    kinds: list[str] = field(default_factory=list)
    """What was read in whole by `cache`, in order."""

    @property
    def run_id(self) -> int:
        return self.place.run_id

    @property
    def spec(self) -> RunSpec:
        return self.place.spec

    @property
    def domain(self) -> Domain:
        return self.place.services.chain.domain

    # ------------------------------------------------------------ publishing

    def grow(
        self, num_versions: int, *, anchor_every: int = 100, skips: tuple[int, ...] = ()
    ) -> "Policies":
        """Publish versions 0 … num_versions − 1, each with a patch from the one before."""
        weights: Weights = first_weights()
        self.publish(0, weights)
        for version in range(1, num_versions):
            weights = stepped(weights, version)
            bases = tuple(version - back for back in (1, *skips) if version >= back)
            self.publish(version, weights, bases=bases, anchor=version % anchor_every == 0)
        return self

    def publish(
        self, version: int, weights: Weights, *, bases: tuple[int, ...] = (), anchor: bool = False
    ) -> None:
        self.manifests[version] = self.made(version, weights, bases=bases, anchor=anchor)
        self.weights[version] = weights
        answer = self.place.take_policy(self.manifests[version])
        assert answer.status_code == 204, answer.text

    def made(
        self, version: int, weights: Weights, *, bases: tuple[int, ...] = (), anchor: bool = False
    ) -> SignedManifest:
        """Return a policy whose blobs are up and which is not published."""
        newest = self.manifests[version - 1].manifest if version else None
        tensors = entries(weights)
        return self.place.manifest(
            version,
            policy_digest=digest_of(weights),
            tensors=tensors,
            patches=tuple(
                PatchEntry(base_version=base, chunks=self.put(encode(self.weights[base], weights)))
                for base in bases
            ),
            anchor_version=version if anchor or newest is None else newest.anchor_version,
            anchor=self.put(anchor_bytes(weights)) if anchor or newest is None else newest.anchor,
        )

    def put(self, data: bytes) -> tuple[Blob, ...]:
        parts = [data[i : i + CHUNK_BYTES] for i in range(0, len(data), CHUNK_BYTES)]
        return tuple(self.place.upload(part) for part in parts)

    # ------------------------------------------------------------ lying and reading

    def serve(
        self, manifest: Manifest, *, version: int | None = None, key: bytes = TRAINER
    ) -> None:
        """Have the front serve a manifest of somebody's making, under its version or another."""
        signed = SignedManifest(
            manifest=manifest, signature=sign(key, self.domain.digest(manifest))
        )
        path = self.place.path(f"policies/{manifest.version if version is None else version}")
        self.front.lies[path] = Answered(200, signed.to_json())

    def blob(self, digest: bytes) -> bytes:
        """Return what is really under a digest."""
        found: bytes = self.place.get(f"/v1/blobs/0x{digest.hex()}").content
        return found

    def cache(self, *, spec: RunSpec | None = None, keep: int = 2) -> PolicyCache:
        """Return a worker's own copy of the policies, with nothing in it."""
        routes = routes_to(self.front.url, self.folder, told=self._note, is_cached=False)
        return PolicyCache(
            routes, run_id=self.run_id, spec=spec or self.spec, domain=self.domain, keep=keep
        )

    def _note(self, kind: str, received: int, size: int) -> None:
        if received == size:
            self.kinds.append(kind)

    def digest(self, version: int) -> bytes:
        return self.manifests[version].manifest.policy_digest


def routes_to(
    url: str,
    folder: Path,
    *,
    told: Callable[[str, int, int], None] | None = None,
    is_cached: bool = True,
) -> WorkerRoutes:
    """Connect somebody who reads, and retries fast."""
    counters = Counters(folder, "worker")
    connection = Connection(url, READER, chain_id=31337, counters=counters, retry=FAST)
    cache = ContentCache(folder / "cache", max_bytes=1 << 20) if is_cached else None
    return WorkerRoutes(connection, cache, counters, fetched=told)


@contextmanager
def policies_of(ground: Ground, redis_url: str, folder: Path) -> Iterator[Policies]:
    """Open a run on the first weights, none of them published."""
    model_digest = digest_of(first_weights())
    with (
        opened(
            ground, redis_url, folder / "blobs", is_published=False, model_digest=model_digest
        ) as place,
        facing(place) as front,
    ):
        yield Policies(place, front, folder)
