"""Sign-in, blobs, policies, events, metrics, and the description of it all."""

import json
import re
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orchestrator import jobs
from orchestrator.app import create_app
from orchestrator.events import StreamPlace, follow
from orchestrator.metrics import WATCHED
from protocol.canonical import content_digest
from protocol.messages import Event, RunRegistration
from protocol.policies import patch
from protocol.policies.manifest import (
    MAX_CHUNK_BYTES,
    Blob,
    PatchEntry,
    SignedManifest,
    entries,
    policy_digest,
)
from tests.documents.lines import ROOT
from tests.stage.place import Place, open_market
from tests.stage.terms import make_spec, weights

GOLDEN = Path(__file__).with_name("openapi.json")


def code(response: object) -> str:
    return str(response.json()["code"])  # type: ignore[attr-defined]


def test_the_http_surface_is_the_golden_one(place: Place) -> None:
    """To accept a change: delete the file, run this test, and read the difference."""
    found = json.dumps(place.client.app.openapi(), indent=1, sort_keys=True) + "\n"  # type: ignore[attr-defined]
    if not GOLDEN.exists():
        GOLDEN.write_text(found)
    assert found == GOLDEN.read_text()


def test_a_sign_in_text_works_once_here_now_and_on_this_chain(place: Place) -> None:
    alice = place.party("alice")
    assert alice.sign_in(nonce="once000001").status_code == 200
    assert code(alice.sign_in(nonce="once000001")) == "replayed"
    assert code(alice.sign_in(domain="elsewhere.test")) == "unauthorized"
    assert code(alice.sign_in(chain_id=1)) == "unauthorized"
    for skew, status in ((-121, 409), (-120, 200), (120, 200), (121, 409)):
        at = datetime.fromtimestamp(place.ground.clock.now + skew, UTC)
        issued = at.strftime("%Y-%m-%dT%H:%M:%SZ")
        assert alice.sign_in(issued_at=issued).status_code == status


def test_a_text_signed_by_another_wallet_is_refused(place: Place) -> None:
    alice, bob = place.party("alice"), place.party("bob")
    assert code(alice.sign_in(address=bob.address)) == "bad_signature"


def test_a_run_is_served_only_as_it_was_agreed(place: Place) -> None:
    def ask(run_id: int, **changes: object) -> str:
        body = RunRegistration(run_id=run_id, spec=make_spec(**changes))
        return code(place.request("POST", "/v1/runs", body.to_json()))

    assert ask(place.run_id, max_tokens=49) == "refused"
    assert ask(10**9) == "not_found"
    other = make_spec(orchestrator=place.ground.address("alice"))
    run_id = place.ground.create_run(other, num_verifiers=1, threshold=1)
    assert ask(run_id, orchestrator=place.ground.address("alice")) == "refused"
    other = make_spec(environment_digest=b"\x01" * 32)
    run_id = place.ground.create_run(other, num_verifiers=1, threshold=1)
    assert ask(run_id, environment_digest=b"\x01" * 32) == "refused"
    assert place.register().status_code == 200, "asking again is harmless"


def test_blobs_are_checked_bounded_and_served_by_ranges(place: Place) -> None:
    trainer, data = place.party("trainer"), bytes(range(256)) * 4
    digest = "0x" + content_digest(data).hex()
    assert code(trainer.put(f"/v1/blobs/{digest}", data + b"x")) == "malformed"
    assert code(trainer.put(f"/v1/blobs/{digest}", bytes(MAX_CHUNK_BYTES + 1))) == "too_large"
    assert code(place.party("alice").put(f"/v1/blobs/{digest}", data)) == "forbidden"
    assert code(place.get(f"/v1/blobs/{digest}")) == "not_found"
    assert trainer.put(f"/v1/blobs/{digest}", data).status_code == 204
    assert place.get(f"/v1/blobs/{digest}").content == data
    assert code(place.get("/v1/blobs/0x12")) == "malformed"


def test_a_policy_is_the_trainers_next_one_and_complete(place: Place) -> None:
    blob = place.upload(patch.encode(weights(0), weights(1)))
    patches = (PatchEntry(base_version=0, chunks=(blob,)),)
    assert code(place.publish(2)) == "policy_out_of_order"
    missing = (Blob(digest=b"\x03" * 32, size=5),)
    assert code(place.publish(1, anchor=missing)) == "not_found"
    wrong_size = (Blob(digest=blob.digest, size=blob.size + 1),)
    assert code(place.publish(1, anchor=wrong_size)) == "not_found"
    assert code(place.publish(1, policy_digest=b"\x04" * 32)) == "malformed"
    assert code(place.publish(1, anchor=())) == "malformed"
    assert code(place.publish(1, anchor_version=2)) == "malformed"
    ahead = (PatchEntry(base_version=1, chunks=(blob,)),)
    assert code(place.publish(1, patches=ahead)) == "malformed"
    # No worker takes these, and the run would stand still at the version before.
    [tensor] = entries(weights(1))
    larger = tensor.model_copy(update={"shape": (1 << 40,)})
    for tensors in ((tensor, tensor), (larger,)):
        false = {"tensors": tensors, "policy_digest": policy_digest(tensors)}
        assert code(place.publish(1, **false)) == "malformed"
    assert place.publish(1, patches=patches).status_code == 204
    assert place.publish(1, patches=patches).status_code == 204, "the same one again is harmless"
    assert code(place.publish(1)) == "policy_out_of_order"
    newest = SignedManifest.from_json(place.get(place.path("policies/latest")).content)
    assert newest.manifest.version == 1
    assert code(place.get(place.path("policies/2"))) == "not_found"


def test_a_policy_signed_by_another_key_is_refused(place: Place) -> None:
    from protocol.messages import PolicyPublication

    signed = place.manifest(1)
    forged = signed.model_copy(update={"signature": place.party("alice").sign(bytes(32))})
    body = PolicyPublication(signed=forged).to_json()
    assert code(place.party("trainer").post(place.path("policies"), body)) == "bad_signature"
    assert code(place.party("alice").post(place.path("policies"), body)) == "forbidden"


def test_events_tell_the_story_in_order_and_go_on_after_an_id(place: Place) -> None:
    alice = place.party("alice")
    alice.deliver(alice.leases()[0].lease)

    async def read(after: str) -> list[bytes]:
        """Return the events of one page, which comes in one piece."""
        stream = follow(
            place.services.store, place.run_id, after=after, place=StreamPlace("anybody")
        )
        return (await anext(stream)).split(b"\n\n")[:-1]

    pieces = place.call(read, "0-0")
    kinds = [Event.from_json(p.split(b"data: ")[1]).kind for p in pieces]
    assert kinds == ["policy", "lease", "submission"]
    second = pieces[1].split(b"\n")[0].removeprefix(b"id: ").decode()
    assert place.call(read, second) == pieces[2:]
    fields = Event.from_json(pieces[2].split(b"data: ")[1]).fields
    assert (fields["worker"], fields["reward_mean"], fields["staleness"]) == (alice.address, 0.5, 0)


def test_probes_and_metrics_answer(place: Place) -> None:
    alice = place.party("alice")
    alice.deliver(alice.leases()[0].lease)
    assert place.get("/healthz").text == "ok"
    assert place.get("/readyz").text == "ready"
    text = place.get("/metrics").text
    assert f'rollcall_submissions_total{{result="taken",run="{place.run_id}"}} 1.0' in text
    assert 'rollcall_requests_total{route="/v1/runs/{run}/submissions",status="200"} 1.0' in text


def test_an_operator_sees_whether_a_run_lives(place: Place) -> None:
    place.party("alice").leases(2)
    run = place.services.runs[place.run_id]
    place.call(jobs.watch, place.services, run)
    lines = place.get("/metrics").text.splitlines()
    values = {line.partition("{")[0]: float(line.split()[-1]) for line in lines if "{" in line}
    assert run.manifest is not None
    found = {name: values[f"rollcall_{name}"] for name in WATCHED}
    assert 0 < found.pop("key_coin") <= 10**6
    assert found == {
        "open": 1,
        "active_workers": 1,
        "leases_open": 2,
        "policy_version": 0,
        "policy_time_seconds": run.manifest.manifest.created_at,
        "chain_time_seconds": run.chain_time,
        "permit_until_seconds": run.chain.permit_until,
        "escrow_left_units": run.chain.budget // run.spec.rate,
        "epochs_opened": run.chain.num_opened,
        "epochs_posted": 0,
        "epochs_final": 0,
    }
    place.wait(3 * run.spec.lease_seconds)
    place.call(jobs.watch, place.services, run)
    text = place.get("/metrics").text
    assert f'rollcall_active_workers{{run="{place.run_id}"}} 0.0' in text
    page = (ROOT / "orchestrator/README.md").read_text("utf-8")
    alarms = set(re.findall(r"rollcall_[a-z_]+", page.partition("## What to watch")[2]))
    assert len(alarms) >= 10
    assert [name for name in alarms if f"# HELP {name} " not in text] == []


def test_a_path_that_is_none_says_so_as_every_refusal_does(place: Place) -> None:
    assert code(place.get("/v1/nothing")) == "not_found"
    assert code(place.request("DELETE", "/v1/runs")) == "malformed"


def test_without_redis_requests_are_told_to_come_back(place: Place, tmp_path: Path) -> None:
    from starlette.testclient import TestClient

    url = f"unix://{tmp_path}/nobody.sock"
    services = open_market(place.ground, url, tmp_path / "blobs", {})
    with TestClient(create_app(services)) as client:
        began = time.monotonic()
        response = client.get("/v1/runs")
        assert (response.status_code, code(response)) == (503, "busy")
        assert float(response.headers["retry-after"]) > 0
        assert time.monotonic() - began < 5
        assert client.get("/readyz").status_code == 503
        assert client.get("/healthz").status_code == 200


def test_a_config_with_an_unknown_key_is_refused() -> None:
    from pydantic import ValidationError

    from orchestrator.config import OrchestratorConfig

    with pytest.raises(ValidationError, match="reddis_url"):
        OrchestratorConfig.model_validate({"reddis_url": "redis://x"})
