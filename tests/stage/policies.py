"""A trainer's side of policies, and an HTTP server that can serve them badly. Real bytes, real sockets."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

from protocol.canonical import content_digest
from protocol.messages import ErrorBody, Session, SessionRequest
from protocol.policies.manifest import (
    Blob,
    HostTensor,
    Manifest,
    PatchEntry,
    SignedManifest,
    Weights,
    entries,
    policy_digest,
)
from protocol.policies.patch import anchor_bytes, encode
from protocol.run import AuditPolicy, RunSpec
from protocol.signing import Domain, address_of, sign
from tests.stage.bounds import thresholds

TRAINER = bytes([1]) * 32
ORCHESTRATOR = bytes([2]) * 32
DOMAIN = Domain(31337, "0x5FbDB2315678afecb367f032d93F642f64180aa3")
RUN = 1
SHAPES = {"embed": (64, 16), "head": (16, 64), "norm": (16,)}


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


def spec_for(weights: Weights, **changes: object) -> RunSpec:
    model_digest = policy_digest(entries(weights))
    values: dict[str, object] = {
        "name": "policies",
        "environment": "arithmetic",
        "environment_digest": bytes(32),
        "num_tasks": 1 << 20,
        "held_out_start": 1 << 40,
        "num_held_out": 0,
        "model_digest": model_digest,
        "model_config_digest": bytes(32),
        "tokenizer_digest": bytes(32),
        "num_parameters": sum(tensor.bits.size for tensor in weights.values()),
        "vocabulary_size": 64,
        "eos_token_id": 2,
        "group_size": 4,
        "groups_per_batch": 4,
        "max_staleness": 2,
        "max_prompt_tokens": 16,
        "max_tokens": 16,
        "rate": 10,
        "lease_seconds": 60,
        "epoch_seconds": 60,
        "max_worker_leases": 64,
        "audit": AuditPolicy(),
        "thresholds": thresholds(model_digest, match=0.9, margin=0.05, gap=0.1),
        "orchestrator": address_of(ORCHESTRATOR),
        "trainer": address_of(TRAINER),
    }
    return RunSpec.model_validate({**values, **changes})


@dataclass
class Shelf:
    """Everything a trainer has published: blobs by digest, signed manifests by version."""

    spec: RunSpec
    key: bytes = TRAINER
    weights: dict[int, Weights] = field(default_factory=dict)
    manifests: dict[int, SignedManifest] = field(default_factory=dict)
    blobs: dict[bytes, bytes] = field(default_factory=dict)
    chunk_bytes: int = 1_000

    def publish(
        self, version: int, weights: Weights, *, bases: tuple[int, ...] = (), anchor: bool = False
    ) -> Manifest:
        patches = tuple(
            PatchEntry(base_version=base, chunks=self.put(encode(self.weights[base], weights)))
            for base in bases
        )
        newest = self.manifests[version - 1].manifest if version else None
        tensors = entries(weights)
        manifest = Manifest(
            run_id=RUN,
            version=version,
            policy_digest=policy_digest(tensors),
            tensors=tensors,
            patches=patches,
            anchor_version=version if anchor or newest is None else newest.anchor_version,
            anchor=self.put(anchor_bytes(weights)) if anchor or newest is None else newest.anchor,
            created_at=1_800_000_000,
        )
        self.weights[version] = weights
        self.sign(manifest)
        return manifest

    def sign(self, manifest: Manifest, *, served_as: int | None = None) -> None:
        version = manifest.version if served_as is None else served_as
        self.manifests[version] = SignedManifest(
            manifest=manifest, signature=sign(self.key, DOMAIN.digest(manifest))
        )

    def put(self, data: bytes) -> tuple[Blob, ...]:
        parts = [data[i : i + self.chunk_bytes] for i in range(0, len(data), self.chunk_bytes)]
        self.blobs.update({content_digest(part): part for part in parts})
        return tuple(Blob(digest=content_digest(part), size=len(part)) for part in parts)


def shelf_of(num_versions: int, *, anchor_every: int = 100, skips: tuple[int, ...] = ()) -> Shelf:
    """Publish versions 0 … num_versions − 1, each with a patch from the one before."""
    weights: Weights = first_weights()
    shelf = Shelf(spec_for(weights))
    shelf.publish(0, weights)
    for version in range(1, num_versions):
        weights = stepped(weights, version)
        bases = tuple(version - back for back in (1, *skips) if version >= back)
        shelf.publish(version, weights, bases=bases, anchor=version % anchor_every == 0)
    return shelf


@dataclass
class Server:
    """An HTTP server over a shelf, with the faults a network or a liar has."""

    shelf: Shelf
    url: str = ""
    requests: list[str] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    cut_after: dict[bytes, int] = field(default_factory=dict)
    """Blobs whose next download breaks off after so many bytes."""
    busy: int = 0
    """How many requests to answer with 503 first."""
    dead_tokens: set[str] = field(default_factory=set)
    sessions: int = 0

    def blob(self, digest: bytes) -> bytes | None:
        return self.shelf.blobs.get(digest)


@contextmanager
def serving(shelf: Shelf) -> Iterator[Server]:
    server = Server(shelf)
    http = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(server))
    server.url = f"http://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


def _handler_of(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            server.requests.append(self.path)
            if self._is_busy():
                return
            if found := re.fullmatch(r"/v1/runs/1/policies/(\d+)", self.path):
                manifest = server.shelf.manifests.get(int(found[1]))
                self._json(200, manifest.to_json()) if manifest else self._missing()
            elif found := re.fullmatch(r"/v1/blobs/0x([0-9a-f]{64})", self.path):
                self._blob(bytes.fromhex(found[1]))
            else:
                self._missing()

        def do_POST(self) -> None:
            server.requests.append(self.path)
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self._is_busy():
                return
            if self.path == "/v1/session":
                server.sessions += 1
                address = SessionRequest.from_json(body).message.split("\n")[1]
                session = Session(
                    token=f"token-{server.sessions}", address=address, expires_at=1 << 40
                )
                self._json(200, session.to_json())
            elif self.headers.get("Authorization", "")[7:] in server.dead_tokens:
                self._refuse(401, "token_expired")
            else:
                self.send_response(204)
                self.send_header("Retry-After", "0.25")
                self.end_headers()

        def _is_busy(self) -> bool:
            if server.busy <= 0:
                return False
            server.busy -= 1
            self._refuse(503, "busy")
            return True

        def _blob(self, digest: bytes) -> None:
            data = server.blob(digest)
            if data is None:
                self._missing()
                return
            start = 0
            if asked := self.headers.get("Range"):
                server.ranges.append(asked)
                start = int(asked.removeprefix("bytes=").removesuffix("-"))
            self.send_response(206 if asked else 200)
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            end = server.cut_after.pop(digest, len(data))
            self.wfile.write(data[start:end])
            if end < len(data):
                self.close_connection = True

        def _missing(self) -> None:
            self._refuse(404, "not_found")

        def _refuse(self, status: int, code: str) -> None:
            self._json(status, ErrorBody(code=code, message=code).to_json())

        def _json(self, status: int, data: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return Handler
