"""From a policy version back to the groups and workers behind it: real market, real HTTP."""

import json
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from audit.group import check_groups
from audit.lineage import Lineage, Origin, chain, influences, read_lineage
from audit.tasks import policies_of
from client.public import Reader
from protocol.canonical import content_digest
from protocol.errors import BadSignature, Malformed
from protocol.policies.lineage import NO_LINEAGE, Share, StepRecord, TrainedGroup, shares_of
from protocol.policies.manifest import Manifest, SignedManifest
from protocol.rollout import Rollout, Submission, read_submission
from protocol.verdict import Outcome
from rollcall.__main__ import app
from tests.stage.evidence import NAMED
from tests.stage.front import Answered, Front, blob_path, serving
from tests.stage.ground import Ground
from tests.stage.place import Place, opened, pack


@pytest.fixture(scope="module")
def front(
    ground: Ground, redis_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Front]:
    """A market with two versions: Alice made the first, Bob and Alice the second."""
    folder = tmp_path_factory.mktemp("lineage")
    with (
        opened(ground, redis_server + "?db=3", folder, groups_per_batch=2) as market,
        serving(market) as (front, _),
    ):
        train(market, "alice", "alice")
        train(market, "alice", "bob")
        yield front


@pytest.fixture
def market(front: Front) -> Place:
    front.place.wait(0)
    front.place.parties.clear()
    return front.place


def train(place: Place, *workers: str) -> None:
    """Bring one version to the world, of one group by each of these workers."""
    version = int(place.known("state", "newest") or 0) + 1
    for name in workers:
        receipt = place.party(name).deliver(place.party(name).leases()[0].lease)
        place.party("v0").decide(receipt.work_digest, Outcome.ACCEPTED)
    assert place.take_batch(version - 1) is not None
    assert place.publish(version).status_code == 204
    path = place.path(f"batches/{version - 1}/ack")
    assert place.party("trainer").post(path).status_code == 204


def run(front: Front, *options: str) -> Result:
    return CliRunner().invoke(app, ["provenance", front.url, *options])


def test_a_version_leads_back_to_everybody_who_shaped_it(market: Place, front: Front) -> None:
    found = run(front, "--version", "2", "--json")
    assert found.exit_code == 0, found.output
    body = json.loads(found.stdout)
    alice, bob = market.ground.address("alice"), market.ground.address("bob")
    assert [len(step["groups"]) for step in body["steps"]] == [2, 2]
    assert {one["worker"]: one["versions"] for one in body["workers"]} == {alice: [1, 2], bob: [2]}
    assert sum(one["advantage_share"] for one in body["workers"]) == pytest.approx(1)
    assert {one["worker"]: one["num_groups"] for one in body["workers"]} == {alice: 3, bob: 1}
    older = json.loads(run(front, "--version", "1", "--json").stdout)
    assert [one["worker"] for one in older["workers"]] == [alice]
    last = json.loads(run(front, "--version", "2", "--steps", "1", "--json").stdout)
    assert [step["version"] for step in last["steps"]] == [2]


def test_the_influence_of_an_excluded_worker_is_listed_as_such(market: Place, front: Front) -> None:
    bob = market.party("bob")
    receipt = bob.deliver(bob.leases()[0].lease)
    market.party("v0").decide(receipt.work_digest, Outcome.REJECTED, NAMED)
    shown = run(front)
    assert shown.exit_code == 0
    (line,) = (line for line in shown.output.splitlines() if f"{bob.address} excluded" in line)
    assert "25.00%" in line


def test_what_was_signed_is_held_against_the_submissions(front: Front) -> None:
    found = run(front, "--check", "10")
    assert found.exit_code == 0, found.output
    assert "all as recorded" in found.output


def test_a_record_that_counts_more_than_was_sampled_is_told(place: Place) -> None:
    """The tokens are the trainer's word until somebody looks: here is who looks."""
    alice = place.party("alice")
    for _ in range(2):
        receipt = alice.deliver(alice.leases()[0].lease)
        place.party("v0").decide(receipt.work_digest, Outcome.ACCEPTED)
    batch = place.take_batch(0)
    assert batch is not None
    padded = tuple(TrainedGroup.of(entry, [48, 48]) for entry in batch.groups)
    assert place.publish(1, lineage=place.lineage(1, groups=padded)).status_code == 204
    with serving(place) as (front, _):
        found = run(front, "--check", "10")
    assert found.exit_code == 1
    assert "the record counted [48, 48]" in found.output


def test_a_reward_or_worker_that_the_submission_does_not_bear_out_is_told(
    market: Place, front: Front
) -> None:
    reader = Reader(front.url)
    info, lineage = reader.run(market.run_id), read_lineage(reader, market.run_id)
    true = lineage.steps[0].shares[0].group
    bob = market.ground.address("bob")
    for changes, said in (
        ({}, []),
        ({"rewards": true.rewards[::-1]}, ["earns"]),
        ({"worker": bob}, [f"the record says {bob}"]),
        ({"policy_version": 1}, ["version 1"]),
        ({"work_digest": b"\x07" * 32}, ["is not shown"]),
    ):
        changed = true.model_copy(update=changes)
        step = Origin(1, (Share(changed, 1.0, 1.0),))
        forged = Lineage(market.run_id, 1, bytes(32), "", (step,))
        wrong = check_groups(reader, info, forged, count=1, say=print, spoke_for=None)
        assert len(wrong) == len(said)
        assert all(words in line for words, line in zip(said, wrong, strict=True))


def test_a_group_of_no_whole_tokens_is_told(market: Place, front: Front) -> None:
    """A worker and its orchestrator may sign anything: who audits must not stumble over it."""
    reader, alice = Reader(front.url), market.party("alice")
    info, lineage = reader.run(market.run_id), read_lineage(reader, market.run_id)
    market.wait(0)
    [lease] = alice.leases()
    rollouts = [Rollout(tokens=b"abcde", logprobs=b"") for _ in lease.lease.seeds]
    body = alice.submission(lease.lease, rollouts)
    true = lineage.steps[0].shares[0].group
    digest, packed = alice.digest(lease.lease, body), pack(body)
    shown = market.status(true.work_digest).model_copy(
        update={"lease": lease, "body": content_digest(packed)}
    )
    front.lies = {
        market.path(f"submissions/0x{digest.hex()}"): Answered(200, shown.to_json()),
        blob_path(content_digest(packed)): Answered(200, packed),
    }
    step = Origin(1, (Share(true.model_copy(update={"work_digest": digest}), 1.0, 1.0),))
    forged = Lineage(market.run_id, 1, bytes(32), "", (step,))
    wrong = check_groups(reader, info, forged, count=1, say=print, spoke_for=None)
    front.lies = {}
    assert wrong[-1].endswith("has tokens that are no whole ids")


def test_a_group_that_its_worker_did_not_sign_is_told(
    market: Place, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The orchestrator shows a work of its own making under the recorded digest, or signs one itself."""
    reader = Reader(front.url)
    info, lineage = reader.run(market.run_id), read_lineage(reader, market.run_id)
    check = partial(check_groups, reader, info, lineage, count=10, say=print)
    assert check(spoke_for=lambda signer, worker, _: signer == worker) == []
    strangers = check(spoke_for=lambda *_: False)
    assert len(strangers) == 4
    assert all("who did not speak for" in line for line in strangers)

    def unsigned(body: bytes, most: int) -> Submission:
        return read_submission(body, most).model_copy(update={"signature": bytes(65)})

    monkeypatch.setattr("audit.group.read_submission", unsigned)
    assert len(check(spoke_for=None)) == 4


def test_a_broken_chain_or_signature_is_no_lineage(market: Place, front: Front) -> None:
    reader = Reader(front.url)
    records = reader.lineage(market.run_id, 1, 2).records
    manifest = reader.manifest(market.run_id, 2).manifest
    assert [record.version for record in chain(records, manifest, first=1)] == [1, 2]
    other = StepRecord.from_canonical(records[0])
    forged = other.model_copy(update={"groups": other.groups[:1]})
    for data in (records[::-1], (forged.canonical(), records[1]), records[1:]):
        with pytest.raises(Malformed):
            chain(data, manifest, first=1)


def test_a_manifest_by_another_key_is_no_lineage(
    market: Place, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Reader.manifest

    def forged(reader: Reader, run_id: int, version: int) -> SignedManifest:
        signed = real(reader, run_id, version)
        digest = market.services.chain.domain.digest(signed.manifest)
        return signed.model_copy(update={"signature": market.party("bob").sign(digest)})

    monkeypatch.setattr(Reader, "manifest", forged)
    with pytest.raises(BadSignature):
        read_lineage(Reader(front.url), market.run_id)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"version": 1}, "version 1, not of run"),
        ({"policy_digest": bytes(32)}, "it says 0x00"),
        ({"tensors": ()}, "the manifest's tensors make policy"),
        ({"anchor": ()}, "name an anchor"),
    ],
)
def test_a_manifest_that_the_trainer_itself_made_false_is_no_lineage_and_no_policy(
    market: Place,
    front: Front,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    said: str,
) -> None:
    """Signed by the right key: what no worker could load must not pass for what shaped the policy."""
    reader, real = Reader(front.url), Reader.manifest
    domain = market.services.chain.domain
    policy_of = policies_of(reader, market.run_id, market.spec, domain)
    assert policy_of(1) == reader.manifest(market.run_id, 1).manifest.policy_digest

    def forged(reader: Reader, run_id: int, version: int) -> SignedManifest:
        manifest = real(reader, run_id, version).manifest.model_copy(update=changes)
        signature = market.party("trainer").sign(domain.digest(manifest))
        return SignedManifest(manifest=manifest, signature=signature)

    monkeypatch.setattr(Reader, "manifest", forged)
    with pytest.raises(Malformed, match=said):
        read_lineage(reader, market.run_id)
    with pytest.raises(Malformed, match=said):
        policy_of(2)


def test_mistakes_are_one_line_with_a_remedy(front: Front) -> None:
    for options, said in (
        (("--version", "3"), "has versions 0 to 2"),
        (("--run", "99"), "name one of them with --run"),
    ):
        found = run(front, *options)
        assert found.exit_code == 1
        assert said in str(found.exception)


def test_the_starting_weights_were_shaped_by_nobody(front: Front) -> None:
    found = run(front, "--version", "0", "--json")
    assert (found.exit_code, json.loads(found.stdout)["steps"]) == (0, [])


def long_chain(num_steps: int, num_groups: int) -> tuple[list[bytes], Manifest]:
    """Records of a long run, and the manifest that names the last."""
    digest, found = NO_LINEAGE, []
    workers = ["0x" + f"{n:040d}" for n in range(1, 21)]
    for version in range(1, num_steps + 1):
        groups = tuple(
            TrainedGroup(
                work_digest=(version * num_groups + n).to_bytes(32, "big"),
                worker=workers[(version + n) % len(workers)],
                policy_version=version - 1,
                rewards=(10_000, 0, 0, 10_000, 0, 0, 0, 0),
                tokens=(20 + n,) * 8,
            )
            for n in range(num_groups)
        )
        record = StepRecord(
            run_id=1, version=version, previous=digest, divides_by_deviation=False, groups=groups
        )
        found.append(record.canonical())
        digest = record.digest()
    manifest = Manifest(
        run_id=1,
        version=num_steps,
        policy_digest=bytes(32),
        tensors=(),
        patches=(),
        anchor_version=0,
        anchor=(),
        lineage=digest,
        created_at=0,
    )
    return found, manifest


def test_a_thousand_steps_of_32_groups_take_seconds() -> None:
    """Measured 0.8 s on one core, of 5 MB; the bound leaves room for a busy machine."""
    data, manifest = long_chain(1000, 32)
    began = time.process_time()
    steps = tuple(Origin(r.version, shares_of(r)) for r in chain(data, manifest, first=1))
    found = influences(steps)
    assert time.process_time() - began < 10
    assert sum(one.weight for one in found) == pytest.approx(1)
    assert {len(one.versions) for one in found} == {1000}
