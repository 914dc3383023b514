"""A market to test in: a real EVM with the ledger, a real Redis, a blob folder, the real app.

Nothing is replaced: the parties below sign with their own keys and speak HTTP to the app in process.
The clock is the chain's, and a test moves it. What a place stands on is `ground.py`'s.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import zstandard
from eth_account.signers.local import LocalAccount
from starlette.testclient import TestClient

from orchestrator import epochs, permits, replays, slashes
from orchestrator.app import create_app
from orchestrator.chain import Chain
from orchestrator.config import OrchestratorConfig
from orchestrator.services import Services
from orchestrator.store.blobs import Blobs
from orchestrator.store.keys import run_prefix
from orchestrator.store.store import Store
from protocol.canonical import content_digest
from protocol.errors import NotFound
from protocol.messages import (
    AuditRequest,
    AuditTask,
    AuditTasks,
    Batch,
    BatchRequest,
    EpochInfo,
    EpochSignature,
    GroupState,
    LeaseRequest,
    Leases,
    PolicyPublication,
    RunRegistration,
    Session,
    SessionRequest,
    SubmissionStatus,
)
from protocol.policies import patch
from protocol.policies.lineage import NO_LINEAGE, StepRecord, TrainedGroup
from protocol.policies.manifest import Blob, Manifest, SignedManifest, entries, policy_digest
from protocol.rollout import Lease, Receipt, Rollout, SignedLease, Submission, work_of
from protocol.run import RunSpec
from protocol.signin import STATEMENT, SignIn
from protocol.signing import personal_digest, sign
from protocol.verdict import Outcome, Seal, Verdict
from tests.stage.evidence import evidence
from tests.stage.ground import ENGINE, Ground
from tests.stage.terms import EOS, MODEL, make_spec, weights

HOST = "market.test"
Found = Mapping[str, Any] | None
"""How strong a verdict's evidence is: arguments of `evidence.evidence`, such as its `NAMED`."""


@dataclass
class Party:
    """Somebody with a key and a session."""

    place: "Place"
    account: LocalAccount
    token: str = ""

    @property
    def address(self) -> str:
        return str(self.account.address)

    @property
    def key(self) -> bytes:
        return bytes(self.account.key)

    def post(self, path: str, content: bytes = b"", **headers: str) -> httpx.Response:
        return self.place.request("POST", path, content, self._headers(headers))

    def put(self, path: str, content: bytes) -> httpx.Response:
        return self.place.request("PUT", path, content, self._headers({}))

    def sign_in(self, nonce: str | None = None, **changes: Any) -> httpx.Response:
        """Sign in; `changes` are fields of the text."""
        self.place.num_nonces += 1
        issued = datetime.fromtimestamp(self.place.ground.clock.now, UTC)
        text = SignIn(
            domain=HOST,
            address=self.address,
            uri=f"http://{HOST}",
            chain_id=self.place.ground.deployment.chain_id,
            nonce=nonce or f"run{self.place.run_id}nonce{self.place.num_nonces:06d}",
            issued_at=issued.strftime("%Y-%m-%dT%H:%M:%SZ"),
        )
        message = replace(text, **changes).text()
        assert STATEMENT in message
        request = SessionRequest(message=message, signature=self.sign(personal_digest(message)))
        response = self.place.request("POST", "/v1/session", request.to_json())
        if response.status_code == 200:
            self.token = Session.from_json(response.content).token
        return response

    def sign(self, digest: bytes) -> bytes:
        return sign(self.key, digest)

    def lease(self, count: int = 1) -> httpx.Response:
        request = LeaseRequest(count=count)
        return self.post(self.place.path("leases"), request.to_json())

    def leases(self, count: int = 1) -> tuple[SignedLease, ...]:
        response = self.lease(count)
        assert response.status_code == 200, response.text
        return Leases.from_json(response.content).leases

    def submission(self, lease: Lease, rollouts: Any = None, **changes: Any) -> Submission:
        """Return a signed group; `changes` are fields set before signing."""
        fields = {
            "lease_id": lease.lease_id,
            "engine": ENGINE,
            "prompt": lease.prompt,
            "rollouts": tuple(rollouts or self.place.rollouts(lease)),
            "submitted_at": self.place.ground.clock.now,
            "signature": bytes(65),
        }
        unsigned = Submission.model_validate(fields | changes)
        return unsigned.model_copy(update={"signature": self.sign(self.digest(lease, unsigned))})

    def digest(self, lease: Lease, submission: Submission) -> bytes:
        gflops = self.place.spec.gflops(submission.num_tokens())
        work = work_of(lease, submission, gflops=gflops)
        return self.place.services.chain.domain.digest(work)

    def submit(self, submission: Submission | bytes) -> httpx.Response:
        data = submission if isinstance(submission, bytes) else pack(submission)
        return self.post(self.place.path("submissions"), data)

    def deliver(self, lease: Lease, rollouts: Any = None) -> Receipt:
        """Submit a good group and return its receipt."""
        response = self.submit(self.submission(lease, rollouts))
        assert response.status_code == 200, response.text
        return Receipt.from_json(response.content)

    def audits(self, count: int = 16) -> tuple[AuditTask, ...]:
        response = self.post(self.place.path("audits"), AuditRequest(count=count).to_json())
        if response.status_code == 204:
            return ()
        assert response.status_code == 200, response.text
        return AuditTasks.from_json(response.content).tasks

    def verdict(
        self, work_digest: bytes, outcome: Outcome, found: Found = None, **changes: Any
    ) -> Verdict:
        """Sign what a replay of the drawn rollouts found (`evidence.py`); `changes` are the verdict's fields."""
        rollouts, num_tokens = self.place.drawn(work_digest)
        if outcome is Outcome.UNDECIDED:
            rollouts, num_tokens = (), 0
        thresholds = self.place.spec.thresholds
        fields = {
            "run_id": self.place.run_id,
            "work_digest": work_digest,
            "verifier": self.address,
            "outcome": outcome,
            "detail": "",
            "rollouts": rollouts,
            "mismatches": (),
            "decided_at": self.place.ground.clock.now,
            "signature": bytes(65),
            **evidence(outcome, num_tokens, thresholds, **(found or {})),
        }
        unsigned = Verdict.model_validate(fields | changes)
        digest = self.place.services.chain.domain.digest(unsigned)
        return unsigned.model_copy(update={"signature": self.sign(digest)})

    def sealed(self, verdict: Verdict) -> Seal:
        unsigned = Seal.of(verdict)
        signature = self.sign(self.place.services.chain.domain.digest(unsigned))
        return unsigned.model_copy(update={"signature": signature})

    def seal(self, verdict: Verdict) -> httpx.Response:
        """Promise a verdict, and take no more replays."""
        request = AuditRequest(count=0, seals=(self.sealed(verdict),))
        return self.post(self.place.path("audits"), request.to_json())

    def tell(self, verdict: Verdict) -> httpx.Response:
        path = self.place.path(f"audits/0x{verdict.work_digest.hex()}/verdict")
        return self.post(path, verdict.to_json())

    def judge(
        self, work_digest: bytes, outcome: Outcome, found: Found = None, **changes: Any
    ) -> httpx.Response:
        """Seal a verdict, and have all who sealed one on this group tell it where the vote is closed by that.

        Returns the answer to this verdict; to its seal where that was refused, or the vote is not closed.
        """
        verdict = self.verdict(work_digest, outcome, found, **changes)
        if outcome is Outcome.UNDECIDED:
            return self.tell(verdict)
        sealed = self.place.sealed.setdefault(work_digest, {})
        _, before = sealed.get(self.address, (self, verdict))
        verdict = before if before.outcome is outcome else verdict
        answer = self.seal(verdict)
        if not answer.is_success:
            return answer
        sealed[self.address] = (self, verdict)
        for party, told in list(sealed.values()):
            response = party.tell(told)
            if party is self and response.json().get("code") != "vote_open":
                answer = response
        return answer

    def decide(
        self, work_digest: bytes, outcome: Outcome, found: Found = None, **changes: Any
    ) -> str:
        """Take what there is to replay, as a verifier must before it judges, and judge this group; return its state."""
        self.audits(count=256)
        response = self.judge(work_digest, outcome, found, **changes)
        assert response.is_success, response.text
        return self.place.state(work_digest).value

    def batch(self, step: int) -> httpx.Response:
        return self.post(self.place.path("batches"), BatchRequest(step=step).to_json())

    def _headers(self, more: dict[str, str]) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}"} | more if self.token else more


@dataclass
class Place:
    """One run on the ground, served by one orchestrator."""

    ground: Ground
    spec: RunSpec
    run_id: int
    services: Services
    client: TestClient
    num_nonces: int = 0
    parties: dict[str, Party] = field(default_factory=dict)
    sealed: dict[bytes, dict[str, tuple[Party, Verdict]]] = field(default_factory=dict)
    """By group and verifier, in the order in which they were sealed."""

    def path(self, rest: str) -> str:
        return f"/v1/runs/{self.run_id}/{rest}"

    def request(
        self, method: str, path: str, content: bytes = b"", headers: dict[str, str] | None = None
    ) -> Any:
        return self.client.request(
            method, path, content=content, headers={"host": HOST} | (headers or {})
        )

    def get(self, path: str, **headers: str) -> Any:
        return self.request("GET", path, headers=headers)

    def party(self, name: str) -> Party:
        """Return somebody who is signed in."""
        if name not in self.parties:
            self.parties[name] = Party(self, self.ground.people[name])
            response = self.parties[name].sign_in()
            assert response.status_code == 200, response.text
        return self.parties[name]

    def call(self, function: Any, *arguments: Any) -> Any:
        """Run a coroutine function in the application's loop."""
        assert self.client.portal is not None
        return self.client.portal.call(function, *arguments)

    def tick(self, seconds: float = 0) -> None:
        """Let time pass, then let the background work take its next steps."""
        self.wait(int(seconds))
        run = self.services.runs[self.run_id]
        self.call(self.services.look, run)
        self.call(permits.tick, self.services, run)
        self.call(epochs.tick, self.services, run)
        self.call(slashes.tick, self.services, run)

    def wait(self, seconds: int) -> None:
        """Move the clock. Every transaction moves the chain by a second: first catch up with it."""
        clock = self.ground.clock
        clock.now = max(clock.now, self.ground.by("stranger").block_time()) + seconds

    def forgive(self, name: str) -> None:
        """Forget how many of a worker's groups were rejected: others' tests were that many workers."""
        key = f"{run_prefix(self.run_id)}worker:{self.ground.address(name)}"
        self.call(self.services.store.queue.call, "HDEL", key, "num_excess")

    def register(self) -> Any:
        body = RunRegistration(run_id=self.run_id, spec=self.spec)
        return self.request("POST", "/v1/runs", body.to_json())

    def upload(self, data: bytes) -> Blob:
        digest = content_digest(data)
        response = self.party("trainer").put(f"/v1/blobs/0x{digest.hex()}", data)
        assert response.status_code == 204, response.text
        return Blob(digest=digest, size=len(data))

    def manifest(self, version: int, **changes: Any) -> SignedManifest:
        """Return a signed policy; `changes` are fields of Manifest, set before it is signed."""
        tensors = entries(weights(version))
        fields = {
            "run_id": self.run_id,
            "version": version,
            "policy_digest": policy_digest(tensors),
            "tensors": tensors,
            "patches": (),
            "anchor_version": version,
            "created_at": self.ground.clock.now,
            **changes,
        }
        if "anchor" not in changes:
            fields["anchor"] = (self.upload(patch.anchor_bytes(weights(version))),)
        if "lineage" not in changes:
            fields["lineage"] = self.lineage(version)
        return self.signed(Manifest.model_validate(fields))

    def signed(self, manifest: Manifest) -> SignedManifest:
        digest = self.services.chain.domain.digest(manifest)
        return SignedManifest(manifest=manifest, signature=self.party("trainer").sign(digest))

    def lineage(self, version: int, **changes: Any) -> bytes:
        """Upload the record of the step that makes `version`; `changes` are its fields."""
        if version == 0:
            return NO_LINEAGE
        before, batch = self.known("lineage", version - 1), self.known("batches", version - 1)
        entries = Batch.from_json(batch).groups if batch else ()
        fields = {
            "run_id": self.run_id,
            "version": version,
            "previous": before or NO_LINEAGE,
            "divides_by_deviation": False,
            "groups": tuple(TrainedGroup.of(e, [3] * len(e.rewards)) for e in entries),
        }
        return self.upload(StepRecord.model_validate(fields | changes).canonical()).digest

    def known(self, key: str, field: int | str) -> bytes | None:
        """Return what the queue has of the run under a hash's field."""
        prefix = run_prefix(self.run_id)
        found = self.call(self.services.store.queue.call, "HGET", prefix + key, field)
        return None if found is None else bytes(found)

    def publish(self, version: int, **changes: Any) -> Any:
        return self.take_policy(self.manifest(version, **changes))

    def take_policy(self, signed: SignedManifest) -> Any:
        body = PolicyPublication(signed=signed)
        return self.party("trainer").post(self.path("policies"), body.to_json())

    def open(self, *, is_published: bool = True) -> None:
        """Register the run, publish version 0 unless its trainer will, and open the first epoch."""
        response = self.register()
        assert response.status_code == 200, response.text
        if is_published:
            self.upload((MODEL / "tokenizer.json").read_bytes())
            assert self.publish(0).status_code == 204
        self.tick()

    def status(self, work_digest: bytes) -> SubmissionStatus:
        response = self.get(self.path(f"submissions/0x{work_digest.hex()}"))
        assert response.status_code == 200, response.text
        return SubmissionStatus.from_json(response.content)

    def state(self, work_digest: bytes) -> GroupState:
        """Return where a submission stands as the orchestrator knows it: the public may not know yet."""
        run = self.services.runs[self.run_id]
        return self.call(replays.group_of, self.services, run, work_digest).state

    def drawn(self, work_digest: bytes) -> tuple[tuple[int, ...], int]:
        """Return which rollouts a replay is of, and how many tokens; of unknown work, a single one."""
        run = self.services.runs[self.run_id]
        try:
            group = self.call(replays.group_of, self.services, run, work_digest)
        except NotFound:
            return (0,), 1
        rollouts = replays.drawn_rollouts(self.services, run, group, work_digest)
        return rollouts, sum(group.lengths[i] for i in rollouts)

    def epoch(self, number: int) -> EpochInfo:
        response = self.get(self.path(f"epochs/{number}"))
        assert response.status_code == 200, response.text
        return EpochInfo.from_json(response.content)

    def sign_epoch(self, number: int, verifier: str = "v0") -> Any:
        signature = self.party(verifier).sign(self.epoch(number).header_digest)
        body = EpochSignature(signature=signature)
        return self.party(verifier).post(self.path(f"epochs/{number}/signatures"), body.to_json())

    def rollouts(self, lease: Lease, right: tuple[bool, ...] = (True, False)) -> list[Rollout]:
        """Return one completion per seed: the worked solution, or garbage, each ended by EOS."""
        tokenizer = self.services.runs[self.run_id].require_tokenizer()
        made = self.services.runs[self.run_id].environment
        solution = made.problem(lease.index).solution
        texts = [solution if right[i % len(right)] else "#0" for i in range(lease.group_size)]
        ids = [[*tokenizer.encode(text).ids, EOS] for text in texts]
        return [Rollout.of(tokens, [-0.5] * len(tokens)) for tokens in ids]

    def take_batch(self, step: int) -> Batch | None:
        response = self.party("trainer").batch(step)
        if response.status_code == 204:
            return None
        assert response.status_code == 200, response.text
        return Batch.from_json(response.content)


def pack(submission: Submission) -> bytes:
    return zstandard.compress(submission.canonical())


@contextmanager
def opened(
    ground: Ground,
    redis_url: str,
    folder: Path,
    *,
    num_verifiers: int = 1,
    threshold: int = 1,
    config: dict[str, Any] | None = None,
    params: dict[str, Any] | None = None,
    is_published: bool = True,
    redis_password: str = "",
    **changes: Any,
) -> Iterator[Place]:
    """Yield a place whose run is served and open; `changes` are fields of RunSpec, `params` of RunParams."""
    spec = make_spec(**changes)
    run_id = ground.create_run(
        spec, num_verifiers=num_verifiers, threshold=threshold, **(params or {})
    )
    services = open_market(ground, redis_url, folder, config or {}, redis_password)
    with TestClient(create_app(services), base_url=f"http://{HOST}") as client:
        place = Place(ground, spec, run_id, services, client)
        place.wait(0)
        place.open(is_published=is_published)
        yield place


def open_market(
    ground: Ground,
    redis_url: str,
    folder: Path,
    config: dict[str, Any],
    redis_password: str = "",
) -> Services:
    """Return an orchestrator's services on the ground's chain and clock."""
    settings = OrchestratorConfig.model_validate(
        {"redis_url": redis_url, "blob_url": f"file://{folder}"} | config
    )
    return Services(
        settings,
        bytes(ground.people["orchestrator"].key),
        store=Store(redis_url, redis_password),
        blobs=Blobs(settings.blob_url),
        chain=Chain(ground.by("orchestrator"), clock=ground.clock),
        clock=ground.clock,
    )
