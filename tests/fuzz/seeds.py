"""Make the seeds anew from real messages, after a type on the wire changed: `python -m tests.fuzz.seeds`.

A market of a real app, chain and Redis lives through leases, replays, a step, an epoch and a report. Each
message is kept under the type that the app's own description names for it.
"""

import json
import re
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import jwt
from eth_abi.abi import encode as abi_encode

from ledger.errors import ERROR_STRING, PANIC, _kinds
from protocol import canonical, merkle
from protocol.messages import (
    SELF_CHECK_GROUPS,
    EpochFile,
    ErrorBody,
    Event,
    SelfCheck,
    SessionRequest,
)
from protocol.policies import patch
from protocol.policies.lineage import Records, StepRecord
from protocol.rollout import read_submission
from protocol.signing import personal_digest
from protocol.verdict import NOTHING_MEASURED, Outcome, Verdict
from protocol.wire import Wire
from tests.fuzz import kept
from tests.fuzz.decoders import MOST_INFLATED, NEW, OLD, SECRET, STORED, TYPES
from tests.orchestrator.test_market import sign_report
from tests.stage.evidence import NAMED
from tests.stage.ground import Ground
from tests.stage.place import Place, opened
from tests.stage.queue import CrashingRedis

VECTORS = Path(__file__).parents[1] / "vectors"
Seeds = dict[str, set[bytes]]
MOST_FRAME = 512
SMALL = json.dumps(
    {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "."}, "behavior": "Isolated", "invert": False},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "<unk>": 3}, "merges": [["a", "b"]]},
    }
)  # fmt: skip


def main() -> None:
    """Write what is kept anew; crashes stay as they are."""
    seeds: Seeds = defaultdict(set)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        server = CrashingRedis(root / "redis")
        server.start()
        with opened(Ground.build(), server.url, root / "blobs") as place:
            recorder = Recorder(place)
            place.client.request = recorder.request  # type: ignore[assignment, method-assign]
            _live(place)
            for message in (*recorder.messages, *_rest(place)):
                _note(seeds, message)
        server.crash()
    _vectors(seeds)
    _made(seeds)
    for name, inputs in seeds.items():
        kept.seed(name, inputs)


class Recorder:
    """Passes a client's requests on, and reads both sides' bodies by the app's description."""

    def __init__(self, place: Place) -> None:
        self.messages: list[Wire] = []
        self._request = place.client.request
        paths = place.client.app.openapi()["paths"]  # type: ignore[attr-defined]
        self._routes = [(re.sub(r"{\w+}", "[^/]+", path), what) for path, what in paths.items()]

    def request(self, method: str, path: str, **more: Any) -> Any:
        answer = self._request(method, path, **more)
        path = path.partition("?")[0]
        described = next(
            what[method.lower()] for pattern, what in self._routes if re.fullmatch(pattern, path)
        )
        if answer.status_code >= 400:
            self.messages.append(ErrorBody.from_json(answer.content))
        else:
            self._read(described.get("requestBody"), more.get("content", b""))
            self._read(described["responses"].get(str(answer.status_code)), answer.content)
        return answer

    def _read(self, described: Any, body: bytes) -> None:
        content = (described or {}).get("content", {}).get("application/json", {})
        name = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
        if name in TYPES:
            self.messages.append(TYPES[name].from_json(body))


def _live(place: Place) -> None:
    """Ask every route, in the order of a group's life."""
    alice, bob, verifier = (place.party(name) for name in ("alice", "bob", "v0"))
    received = [alice.deliver(signed.lease) for signed in alice.leases(2)]
    given_back = alice.leases()[0].lease.lease_id
    alice.post(place.path("leases/return"), b'{"lease_ids":["0x%s"]}' % given_back.hex().encode())
    for task in verifier.audits():
        verifier.decide(task.work_digest, Outcome.ACCEPTED)
    assert place.take_batch(0)
    place.party("trainer").post(place.path("batches/0/ack"))
    assert place.publish(1).status_code == 204
    place.tick(seconds=11)
    place.tick()
    assert place.sign_epoch(0).status_code == 204
    cheat = bob.deliver(bob.leases()[0].lease)
    verifier.decide(cheat.work_digest, Outcome.REJECTED, NAMED)
    for route in ("fraud-reports", "verifiers", "canaries", "policies/latest", "epochs/0"):
        place.get(place.path(route))
    place.status(received[0].work_digest)
    place.register()
    place.get("/v1/runs")
    place.get("/v1/runs/999")
    place.get(f"/v1/workers/{alice.address}")
    alice.sign_in()
    sign_report(place, cheat.work_digest)


def _rest(place: Place) -> list[Wire]:
    """Return what travels as blobs and streams, and what this market had no need to say."""
    file = place.get(f"/v1/blobs/0x{place.epoch(0).file.hex()}").content
    records = Records.from_canonical(place.get(place.path("lineage?first=1&last=1")).content)
    return [
        EpochFile.from_canonical(file),
        records,
        *(StepRecord.from_canonical(data) for data in records.records),
        SelfCheck(policy_version=0, stats=(NOTHING_MEASURED,) * SELF_CHECK_GROUPS),
        Event(kind="lease", at=1.5, run_id=1, fields={"worker": "0x", "staleness": 0}),
    ]


def _note(seeds: Seeds, message: Wire) -> None:
    name = type(message).__name__.encode() + b"\n"
    if any(data.startswith(name) for data in seeds["json"]):
        return
    seeds["json"].add(name + message.to_json())
    if isinstance(message, STORED):
        seeds["canonical"].add(name + message.canonical())
    match message:
        case Verdict():
            seeds["verdict"].add(message.to_json())
        case StepRecord():
            seeds["step"].add(message.canonical())
        case EpochFile():
            seeds["epoch"].add(message.canonical())
        case SessionRequest():
            digest = personal_digest(message.message)
            seeds["sign_in"].add(message.message.encode())
            seeds["signature"].add(digest + message.signature)
        case ErrorBody():
            seeds["refusal"].add(message.to_json())
        case Event():
            seeds["stream"].add(b"id: 1-0\r\ndata: " + message.to_json() + b"\n\n")


def _vectors(seeds: Seeds) -> None:
    bodies = json.loads((VECTORS / "bodies.json").read_text())
    for vector in bodies["readable"] + bodies["refused"]:
        frame = bytes.fromhex(vector["frame"][2:])
        if len(frame) <= MOST_FRAME and "as many" not in vector["what"]:
            seeds["submission"].add(frame)
    body = read_submission(bytes.fromhex(bodies["readable"][0]["frame"][2:]), MOST_INFLATED)
    _note(seeds, body)
    for vector in json.loads((VECTORS / "canonical.json").read_text()):
        seeds["value"].add(bytes.fromhex(vector["encoded"]))


def _made(seeds: Seeds) -> None:
    seeds["patch"] |= {patch.encode(OLD, NEW), patch.encode(OLD, OLD)}
    raw = [[name, "raw", NEW[name].bits.tobytes()] for name in ("halves", "words")]
    seeds["patch"].add(canonical.encode([patch.MAGIC, patch.FORMAT, raw]))
    seeds["anchor"] |= {patch.anchor_bytes(NEW), patch.anchor_bytes(OLD)}
    words = [bytes([n]) * 32 for n in range(5)]
    for place in range(5):
        proof: list[Any] = [merkle.root(words), words[place], place, 5, merkle.proof(words, place)]
        seeds["merkle"].add(canonical.encode(proof))
    seeds["revert"] |= {
        ERROR_STRING + abi_encode(["string"], ["too late"]),
        PANIC + abi_encode(["uint256"], [17]),
        *(selector + bytes(32 * len(kind.types)) for selector, kind in _kinds().items()),
    }
    start = (1).to_bytes(32, "big") + (2).to_bytes(32, "big")
    seeds["call_data"] |= {b"\1\2\3\4" + start + bytes(32 * 10), start * 8}
    claims = {"sub": "0x", "key": "0x", "exp": 1, "staked": True}
    seeds["token"].add(jwt.encode(claims, SECRET, algorithm="HS256").encode())
    seeds["uri"].add(b"blob:0x" + b"ab" * 32)
    seeds["answer"] |= {
        *(b"so #### $1,800.00\n", b"\\boxed{-3.50}", b"#### 1,2", b"####", b"#### no\n"),
        *(b"#### 2 * (30 + 870) = 1.8 thousand", b"\\boxed{\\frac{3600}{2}}", b"#### 9^9^9^9"),
    }
    seeds["config"] |= {b'{"max_position_embeddings": 4096}', b'{"max_position_embeddings": 1}'}
    seeds["tokenizer"].add(SMALL.encode())
    fields = {"chain_id": 1, "block": 1} | dict.fromkeys(
        ("registry", "ledger", "disputes", "council", "timelock", "token"), "0x" + "00" * 20
    )
    seeds["deployment"].add(json.dumps(fields).encode())


if __name__ == "__main__":
    main()
