"""A desk for trainers to call at: the orchestrator's trainer routes over real HTTP, from memory.

It hands out prepared batches and checks what a trainer sends as strictly as the orchestrator must:
sign-in texts, tokens, digests, signatures, order. `fault` lets a test lose an answer or refuse one.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from protocol import signin, signing
from protocol.canonical import content_digest
from protocol.errors import MarketError, NotFound, PolicyOutOfOrder, StepOutOfOrder, TokenExpired
from protocol.messages import (
    Batch,
    BatchRequest,
    ErrorBody,
    PolicyPublication,
    RunInfo,
    Session,
    SessionRequest,
)
from protocol.policies import patch
from protocol.policies.lineage import NO_LINEAGE, StepRecord, read_record
from protocol.policies.manifest import (
    Blob,
    HostTensor,
    Manifest,
    SignedManifest,
    entries,
    policy_digest,
)

Fault = Callable[[str, str, bool], Response | None]
"""(method, path, whether it was done already) → an answer in place of the real one."""


def no_fault(method: str, path: str, done: bool) -> Response | None:
    del method, path, done
    return None


@dataclass(slots=True)
class Desk:
    """What the desk holds; tests read it."""

    info: RunInfo
    batches: list[Batch]
    blobs: dict[bytes, bytes]
    policies: list[SignedManifest] = field(default_factory=list)
    acked: list[int] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    nonces: set[str] = field(default_factory=set)
    fault: Fault = no_fault
    url: str = ""

    def answer(self, request: Request, body: bytes) -> Response:
        method, path = request.method, request.url.path.removeprefix("/v1")
        try:
            early = self.fault(method, path, False)
            if early is not None:
                return early
            response = self._route(request, method, path, body)
            return self.fault(method, path, True) or response
        except MarketError as error:
            return refusal(error)

    def _route(self, request: Request, method: str, path: str, body: bytes) -> Response:
        parts = path.strip("/").split("/")
        if method != "GET" and path != "/session":
            self._require_token(request)
        if method == "GET":
            return self._get(parts)
        match method, parts:
            case "POST", ["session"]:
                return self._session(request, SessionRequest.from_json(body))
            case "POST", ["runs", _, "batches"]:
                return self._batch(BatchRequest.from_json(body).step)
            case "POST", ["runs", _, "batches", step, "ack"]:
                return self._ack(int(step))
            case "POST", ["runs", _, "policies"]:
                return self._publish(PolicyPublication.from_json(body).signed)
            case "PUT", ["blobs", digest]:
                assert content_digest(body) == bytes.fromhex(digest[2:])
                self.blobs[content_digest(body)] = body
                return Response(status_code=204)
        raise NotFound(path)

    def _get(self, parts: list[str]) -> Response:
        match parts:
            case ["runs", _]:
                return Response(self.info.to_json())
            case ["runs", _, "policies", version] if int(version) < len(self.policies):
                return Response(self.policies[int(version)].to_json())
            case ["blobs", digest] if bytes.fromhex(digest[2:]) in self.blobs:
                return Response(self.blobs[bytes.fromhex(digest[2:])])
        raise NotFound("/".join(parts))

    def _session(self, request: Request, asked: SessionRequest) -> Response:
        text = signin.parse(asked.message)
        assert text.domain == request.headers["host"]
        assert text.chain_id == self.info.chain_id
        assert text.nonce not in self.nonces
        signing.require_signer(
            signing.personal_digest(asked.message), asked.signature, text.address, "the sign-in"
        )
        self.nonces.add(text.nonce)
        self.tokens.add(text.nonce)
        session = Session(token=text.nonce, address=text.address, expires_at=1 << 40)
        return Response(session.to_json())

    def _require_token(self, request: Request) -> None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or token not in self.tokens:
            raise TokenExpired("sign in again")

    def _batch(self, step: int) -> Response:
        self.asked.append(step)
        if step != len(self.acked):
            raise StepOutOfOrder(f"step {step} asked where {len(self.acked)} is next")
        if step >= len(self.batches):
            return Response(status_code=204, headers={"Retry-After": "0.05"})
        return Response(self.batches[step].to_json())

    def _ack(self, step: int) -> Response:
        if step != len(self.acked):
            raise StepOutOfOrder(f"step {step} acknowledged where {len(self.acked)} is open")
        self.acked.append(step)
        return Response(status_code=204)

    def _publish(self, signed: SignedManifest) -> Response:
        manifest = signed.manifest
        domain = signing.Domain(self.info.chain_id, self.info.ledger)
        signing.require_signer(
            domain.digest(manifest), signed.signature, self.info.spec.trainer, "the manifest"
        )
        if manifest.version != len(self.policies):
            raise PolicyOutOfOrder(f"version {manifest.version} after {len(self.policies)}")
        assert manifest.policy_digest == policy_digest(manifest.tensors)
        self._check_lineage(manifest)
        for chunk in (*manifest.anchor, *(c for p in manifest.patches for c in p.chunks)):
            assert len(self.blobs[chunk.digest]) == chunk.size
        self.policies.append(signed)
        return Response(status_code=204)

    def record(self, version: int) -> StepRecord:
        """What the trainer signed of the step that made this version."""
        return self._record(self.policies[version].manifest)

    def _record(self, manifest: Manifest) -> StepRecord:
        return read_record(
            self.blobs[manifest.lineage],
            digest=manifest.lineage,
            run_id=self.info.run_id,
            version=manifest.version,
        )

    def _check_lineage(self, manifest: Manifest) -> None:
        if manifest.version == 0:
            assert manifest.lineage == NO_LINEAGE
            return
        record = self._record(manifest)
        assert record.previous == self.policies[-1].manifest.lineage
        entries = self.batches[manifest.version - 1].groups
        assert all(g.is_of(entry) for g, entry in zip(record.groups, entries, strict=True))

    def weights(self, version: int) -> dict[str, bytes]:
        """What a worker would hold of this version, by every published way to it."""
        manifest = self.policies[version].manifest
        ways = [
            patch.apply(
                self._from_anchor(entry.base_version),
                self._joined(entry.chunks),
                manifest.tensors,
                max_bytes=1 << 26,
            )
            for entry in manifest.patches
        ]
        ways.append(self._from_anchor(version))
        for way in ways:
            assert policy_digest(entries(way)) == manifest.policy_digest
        return {name: tensor.bits.tobytes() for name, tensor in ways[0].items()}

    def _from_anchor(self, version: int) -> dict[str, HostTensor]:
        """What a late joiner holds: the anchor, and where it is older the one patch from it."""
        manifest = self.policies[version].manifest
        anchor = patch.from_anchor(self._joined(manifest.anchor))
        if manifest.anchor_version == version:
            return anchor
        bases = {entry.base_version: entry for entry in manifest.patches}
        data = self._joined(bases[manifest.anchor_version].chunks)
        return patch.apply(anchor, data, manifest.tensors, max_bytes=1 << 26)

    def _joined(self, chunks: tuple[Blob, ...]) -> bytes:
        return patch.join([self.blobs[chunk.digest] for chunk in chunks], chunks)


def refusal(error: MarketError) -> Response:
    body = ErrorBody(code=error.code, message=error.message)
    return Response(body.to_json(), status_code=error.status)


@contextlib.contextmanager
def serving(desk: Desk) -> Iterator[Desk]:
    """Serve the desk on a loopback port of the system's choice."""

    async def endpoint(request: Request) -> Response:
        return await run_in_threadpool(desk.answer, request, await request.body())

    methods = ["GET", "POST", "PUT"]
    app = Starlette(routes=[Route("/{path:path}", endpoint, methods=methods)])
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    desk.url = f"http://127.0.0.1:{port}"
    try:
        yield desk
    finally:
        server.should_exit = True
        thread.join(10)
