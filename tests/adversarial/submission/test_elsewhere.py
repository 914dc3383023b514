"""One group sold twice: under another run, another chain, another ledger or another policy."""

from pathlib import Path

from orchestrator import restoring
from protocol.messages import RunRegistration
from protocol.rollout import work_of
from protocol.signing import Domain
from tests.stage.ground import Ground
from tests.stage.place import Place, opened, pack
from tests.stage.terms import make_spec


def test_a_group_of_one_run_is_not_taken_in_another(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    with opened(ground, redis_url, tmp_path) as place:
        alice = place.party("alice")
        spec = make_spec(name="another")
        other = ground.create_run(spec, num_verifiers=1, threshold=1)
        place.wait(0)
        body = RunRegistration(run_id=other, spec=spec)
        assert place.request("POST", "/v1/runs", body.to_json()).status_code == 200
        place.call(restoring.restore, place.services, place.services.runs[other])
        submission = alice.submission(alice.leases()[0].lease)
        response = alice.post(f"/v1/runs/{other}/submissions", pack(submission))
        assert (response.status_code, response.json()["code"]) == (404, "not_found")
        assert alice.submit(submission).status_code == 200


def test_a_signature_for_another_chain_or_ledger_or_policy_is_refused(shared_place: Place) -> None:
    alice = shared_place.party("alice")
    lease = alice.leases()[0].lease
    submission = alice.submission(lease)
    here = shared_place.services.chain.domain
    gflops = shared_place.spec.gflops(submission.num_tokens())
    stale = lease.model_copy(update={"policy_digest": bytes(32)})
    digests = [
        Domain(here.chain_id + 1, here.ledger).digest(work_of(lease, submission, gflops=gflops)),
        Domain(here.chain_id, alice.address).digest(work_of(lease, submission, gflops=gflops)),
        here.digest(work_of(stale, submission, gflops=gflops)),
        here.digest(work_of(lease, submission, gflops=gflops + 1)),
    ]
    for digest in digests:
        forged = submission.model_copy(update={"signature": alice.sign(digest)})
        assert alice.submit(forged).json()["code"] == "bad_signature"
    assert alice.submit(submission).status_code == 200
