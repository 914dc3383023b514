"""Canaries: what they look like, what they cost a verifier, and what they never do to anybody else."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from orchestrator.checks import canaries
from orchestrator.store.canaries import Canary
from orchestrator.store.keys import run_prefix
from protocol.checks.canary import CanaryOpening, commitment_text, replays_until_failed
from protocol.constants import MICRO
from protocol.epoch import FraudReport
from protocol.messages import (
    AuditTasks,
    CanaryInfos,
    FraudReportSignature,
    FraudReportTask,
    FraudReportTasks,
    GroupState,
    VerifierInfos,
    WorkerInfos,
)
from protocol.rollout import Receipt
from protocol.run import AuditPolicy
from protocol.signing import personal_digest, recover
from protocol.verdict import Outcome
from rollcall.cli.status import show_status
from tests.stage.front import serving
from tests.stage.ground import STAKE, Ground
from tests.stage.lying import stake_again
from tests.stage.place import Place, opened

ACCEPTED, REJECTED = Outcome.ACCEPTED, Outcome.REJECTED
ALICE, BOB = "alice", "bob"


def code(response: Any) -> str:
    return str(response.json()["code"])


@contextmanager
def examined(
    ground: Ground,
    redis_url: str,
    folder: Path,
    *,
    num_verifiers: int = 3,
    false: tuple[str, ...] = (BOB,),
    honest: tuple[str, ...] = (),
    audit: AuditPolicy | None = None,
    **settings: Any,
) -> Iterator[Place]:
    """A run whose verifiers are tested with these people's groups; two must agree where there are two."""
    chosen = {
        "false": [ground.address(name) for name in false],
        "honest": [ground.address(name) for name in honest],
        "share": 0.4,
        **settings,
    }
    terms: dict[str, Any] = {"audit": audit} if audit else {}
    with opened(
        *(ground, redis_url, folder / "b"),
        num_verifiers=num_verifiers,
        threshold=num_verifiers // 2 + 1,
        config={"canaries": chosen},
        groups_per_batch=64,
        **terms,
    ) as place:
        for n in range(num_verifiers):
            ground.by(f"v{n}").join_run(place.run_id)
        tick(place)
        place.wait(2)  # by then every copy of the orchestrator would know
        yield place


def tick(place: Place, seconds: int = 0) -> None:
    place.wait(seconds)
    place.call(canaries.tick, place.services, place.services.runs[place.run_id])


def deliver(place: Place, name: str) -> Receipt:
    party = place.party(name)
    return party.deliver(party.leases()[0].lease)


def verifiers(place: Place) -> dict[str, Any]:
    found = VerifierInfos.from_json(place.get(place.path("verifiers")).content).verifiers
    return {info.verifier: info for info in found}


def info(place: Place, name: str) -> Any:
    return verifiers(place)[place.ground.address(name)]


def prefix(place: Place) -> str:
    return run_prefix(place.run_id)


def reports(place: Place) -> tuple[FraudReportTask, ...]:
    return FraudReportTasks.from_json(place.get(place.path("fraud-reports")).content).tasks


def signed(place: Place, report: FraudReportTask, name: str) -> list[str]:
    """Have a verifier sign a report; return who has signed it by now."""
    party = place.party(name)
    signature = party.sign(place.services.chain.domain.digest(FraudReport.of(report)))
    body = FraudReportSignature(work_digest=report.work_digest, signature=signature)
    digest = f"{report.work_digest.hex()}"
    party.post(place.path(f"fraud-reports/0x{digest}"), body.to_json())
    key = f"{prefix(place)}accused:{digest}:{report.worker}"
    return [who.decode() for who in place.call(place.services.store.queue.hash, key)]


def commitments(place: Place) -> CanaryInfos:
    return CanaryInfos.from_json(place.get(place.path("canaries")).content)


def test_a_lazy_verifier_keeps_its_vote_without_canaries_and_loses_it_with_one(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    for false, has_vote in (((), True), ((BOB,), False)):
        with examined(ground, redis_url, tmp_path, false=false) as place:
            digest = deliver(place, BOB).work_digest
            place.party("v0").decide(digest, ACCEPTED)
            place.party("v1").decide(digest, REJECTED)
            place.party("v2").decide(digest, REJECTED)
            assert info(place, "v0").has_vote == has_vote
            assert info(place, "v1").has_vote and info(place, "v2").has_vote
            if has_vote:
                continue
            refused = place.party("v0").post(place.path("audits"), b'{"count":1}')
            assert code(refused) == "vote_lost"
            assert f"--explain 0x{digest.hex()}" in refused.text
            assert "rollcall run replace" in refused.text


def test_anybody_sees_a_lost_vote_in_the_status(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    with examined(ground, redis_url, tmp_path, num_verifiers=1) as place:
        digest = deliver(place, BOB).work_digest
        place.party("v0").decide(digest, ACCEPTED)
        with serving(place) as (front, _):
            console = Console(record=True, width=220)
            show_status(front.url, worker=None, as_json=False, console=console)
        shown = console.export_text()
        assert f"lost: judged 0x{digest.hex()} wrongly" in shown
        assert ground.address("v0") in shown


def test_a_verifier_that_fails_good_work_loses_its_vote_too(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    with examined(ground, redis_url, tmp_path, false=(), honest=(BOB,)) as place:
        digest = deliver(place, BOB).work_digest
        place.party("v0").decide(digest, REJECTED)
        assert info(place, "v0").has_vote, "nobody else has judged it yet"
        place.party("v1").decide(digest, ACCEPTED)
        place.party("v2").decide(digest, ACCEPTED)
        assert not info(place, "v0").has_vote
        assert info(place, "v0").canaries_failed == 1


def test_a_canary_is_neither_paid_nor_trained_on_nor_held_against_its_worker(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    with examined(ground, redis_url, tmp_path) as place:
        canary = deliver(place, BOB).work_digest
        paid = deliver(place, ALICE).work_digest
        for name in ("v0", "v1", "v2"):
            place.party(name).decide(canary, REJECTED)
        for name in ("v0", "v1"):
            place.party(name).decide(paid, ACCEPTED)
        run = place.services.runs[place.run_id]
        queue, prefix = place.services.store.queue, run_prefix(run.run_id)
        assert place.call(queue.call, "ZCARD", prefix + "ready") == 1
        assert place.call(queue.call, "ZCARD", f"{prefix}earned:{ground.address(BOB)}") == 0
        assert place.call(queue.call, "HGET", prefix + "state", "replaying") == b"0"
        assert place.get(place.path("fraud-reports")).json()["tasks"] == []
        worker = WorkerInfos.from_json(place.get(f"/v1/workers/{ground.address(BOB)}").content)
        mine = next(i for i in worker.runs if i.run_id == place.run_id)
        assert not mine.is_excluded
        assert mine.accepted_groups == 1, "as anyone sees it"
        # Settlement waits for nobody's canary, and pays none.
        place.tick(seconds=11)
        for name in ("v0", "v1"):
            assert place.sign_epoch(0, name).status_code == 204
        place.tick()
        place.tick(seconds=3)
        units = sum(len(r.tokens) // 4 for r in place.rollouts(place.status(paid).lease.lease))
        assert ground.by("v0").run(place.run_id).finalised == units * place.spec.rate


def test_a_canary_s_face_is_that_of_any_group_until_it_is_opened(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    with examined(ground, redis_url, tmp_path, open_seconds=50) as place:
        canary, other = deliver(place, BOB).work_digest, deliver(place, ALICE).work_digest
        tasks = {task.work_digest: task for task in place.party("v0").audits()}
        assert set(tasks) == {canary, other}
        seen = [place.status(digest) for digest in (canary, other)]
        assert seen[0].model_dump().keys() == seen[1].model_dump().keys()
        for status in seen:
            assert (status.state, status.rejection, status.verdicts) == (GroupState.TAKEN, "", ())
        for name in ("v0", "v1", "v2"):
            place.party(name).decide(canary, REJECTED)
            assert place.status(canary).verdicts == (), "a vote shown is a vote copied"
        assert place.state(canary) is GroupState.ACCEPTED
        [committed] = commitments(place).canaries
        assert committed.opening is None
        tick(place, seconds=51)
        [opened_now] = commitments(place).canaries
        status = place.status(canary)
        assert (status.state, status.rejection) == (GroupState.REJECTED, "canary")
        assert len(status.verdicts) == 3
        # Anyone checks that what it was had been fixed before it was leased, under the run's key.
        assert opened_now.opening is not None
        assert opened_now.opening.worker == ground.address(BOB)
        assert opened_now.opening.answer == "rejected"
        assert opened_now.opening.commitment(place.run_id) == committed.commitment
        text = commitment_text(place.run_id, committed.commitment, committed.committed_at)
        assert recover(personal_digest(text), committed.signature) == place.spec.orchestrator
        assert committed.committed_at <= status.receipt.received_at
        assert code(place.party(BOB).lease()) == "refused"


def test_a_lost_vote_counts_no_more_where_it_was_given_and_another_is_asked(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    with examined(ground, redis_url, tmp_path) as place:
        waiting, canary = deliver(place, ALICE).work_digest, deliver(place, BOB).work_digest
        assert place.party("v0").decide(waiting, ACCEPTED) == "replay"
        for name, answer in (("v0", ACCEPTED), ("v1", REJECTED), ("v2", REJECTED)):
            place.party(name).decide(canary, answer)
        assert not info(place, "v0").has_vote
        # Its vote would have been the second; now it takes both of the others.
        assert place.party("v1").decide(waiting, ACCEPTED) == "replay"
        place.wait(61)  # v0 sealed its vote, and its place is kept for its verdict
        assert place.party("v2").decide(waiting, ACCEPTED) == "accepted"


def test_two_failures_cost_a_verifier_its_stake_by_the_others_signatures(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    with examined(ground, redis_url, tmp_path, false=(ALICE, BOB)) as place:
        for _ in range(8):  # so much was replayed before that the share leaves room for two
            place.call(
                place.services.store.queue.call, "HINCRBY", prefix(place) + "state", "handed", 3
            )
        first, second = deliver(place, ALICE).work_digest, deliver(place, BOB).work_digest
        try:
            for name, answer in (("v0", ACCEPTED), ("v1", REJECTED)):
                for digest in (first, second):
                    place.party(name).decide(digest, answer)
            for digest in (first, second):
                place.party("v2").decide(digest, REJECTED)
                place.tick()
                assert len(reports(place)) == 0, (
                    "one may be a fault; a second waits for its opening"
                )
            assert info(place, "v0").canaries_failed == 2, "it had answered both by then"
            tick(place)
            place.tick()
            [report] = reports(place)
            assert (report.worker, report.work_digest) == (ground.address("v0"), second)
            assert place.party("v0").address not in signed(place, report, "v0")
            signed(place, report, "v1")
            place.tick()
            assert ground.by("stranger").at_risk(place.run_id, report.worker) == 0
            signed(place, report, "v2")
            before = ground.by("v0").stake_of(report.worker)
            place.tick(seconds=3)
            place.tick(seconds=10)
            assert ground.by("v0").stake_of(report.worker) == before - STAKE
        finally:
            stake_again(place, "v0")


def test_who_lost_its_vote_still_answers_for_what_it_sealed(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    """Else a second failure would cost nothing wherever the first was found before it."""
    with examined(ground, redis_url, tmp_path, false=(ALICE, BOB)) as place:
        queue = place.services.store.queue
        place.call(queue.call, "HINCRBY", prefix(place) + "state", "handed", 24)
        first, second = deliver(place, ALICE).work_digest, deliver(place, BOB).work_digest
        lazy = place.party("v0")
        lazy.audits()
        verdict = lazy.verdict(second, ACCEPTED)
        assert lazy.seal(verdict).is_success
        for name, answer in (("v0", ACCEPTED), ("v1", REJECTED), ("v2", REJECTED)):
            place.party(name).decide(first, answer)
        assert not info(place, "v0").has_vote
        assert code(lazy.post(place.path("audits"), b'{"count":1}')) == "vote_lost"
        for name in ("v1", "v2"):
            place.party(name).decide(second, REJECTED)
        assert info(place, "v0").num_unopened == 1
        shown = AuditTasks.from_json(lazy.post(place.path("audits"), b'{"count":1}').content)
        assert [vote.work_digest for vote in shown.closed] == [second]
        assert not shown.tasks
        assert lazy.tell(verdict).is_success
        assert info(place, "v0").canaries_failed == 2


def test_where_the_others_are_no_quorum_the_stake_stays_and_the_operator_is_told(
    ground: Ground, redis_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with examined(ground, redis_url, tmp_path, num_verifiers=2, false=(ALICE, BOB)) as place:
        place.call(
            place.services.store.queue.call, "HINCRBY", prefix(place) + "state", "handed", 20
        )
        digests = [deliver(place, name).work_digest for name in (ALICE, BOB)]
        told = []
        for name, answer in (("v0", ACCEPTED), ("v1", REJECTED)):
            party = place.party(name)
            party.audits()
            told += [(party, party.verdict(digest, answer)) for digest in digests]
        assert all(party.seal(verdict).is_success for party, verdict in told)
        assert all(party.tell(verdict).is_success for party, verdict in told)
        tick(place)
        place.tick()
        assert reports(place) == ()
    assert "no quorum without the accused" in capsys.readouterr().out


def test_a_verifier_that_did_not_join_gets_no_replays_where_verifiers_are_tested(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    """The ledger would take no report about it: it could fail canaries for nothing."""
    for false, found in (((), 204), ((BOB,), 409)):
        config = {"canaries": {"false": [ground.address(name) for name in false]}}
        with opened(ground, redis_url, tmp_path / "b", config=config) as place:
            tick(place)
            answer = place.party("v0").post(place.path("audits"), b'{"count":1}')
            assert answer.status_code == found
            if found == 409:
                assert code(answer) == "not_joined"


def test_fewer_voters_than_the_threshold_decide_nothing(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    """One honest verifier is left of three: what two colluders would pass is not paid for want of votes."""
    with examined(ground, redis_url, tmp_path) as place:
        canary, work = deliver(place, BOB).work_digest, deliver(place, ALICE).work_digest
        for name, outcome in (("v0", ACCEPTED), ("v1", ACCEPTED), ("v2", REJECTED)):
            place.party(name).decide(canary, outcome)
        assert [info(place, n).has_vote for n in ("v0", "v1", "v2")] == [False, False, True]
        tick(place, seconds=31)  # what those two held lapses
        place.tick()
        assert code(place.party(ALICE).lease()) == "run_not_open"
        assert place.party("v2").decide(work, REJECTED) == "replay"
        assert place.state(work) is GroupState.REPLAY


def test_what_all_verifiers_contradict_costs_nobody_its_vote(
    ground: Ground, redis_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may be the canary that is wrong: the operator is told, and can explain it."""
    with examined(ground, redis_url, tmp_path) as place:
        digest = deliver(place, BOB).work_digest
        for name in ("v0", "v1", "v2"):
            place.party(name).decide(digest, ACCEPTED)
        assert all(found.has_vote for found in verifiers(place).values())
    assert "all verifiers contradict a canary" in capsys.readouterr().out


def test_canary_workers_lease_only_their_share(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    with examined(ground, redis_url, tmp_path, num_verifiers=1) as place:
        assert place.party(BOB).lease(4).status_code == 200
        assert place.party(BOB).lease().status_code == 204, "one, until replays were handed out"
        for _ in range(5):
            digest = deliver(place, ALICE).work_digest
            place.party("v0").decide(digest, ACCEPTED)
        held = len(place.party(BOB).leases(4))
        assert held == 2, "two fifths of five replays"


def test_a_canary_worker_ends_where_its_groups_would_be_known_by_being_replayed_whole(
    ground: Ground, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Past probation a part of a worker's rollouts is drawn; a canary's answer is about all of them."""
    audit = AuditPolicy(num_probation_groups=2, rate_millionths=MICRO - 1, num_rollouts=1)

    async def without_end(*_: object) -> int:
        return 99

    with examined(ground, redis_url, tmp_path, num_verifiers=1, share=0.49, audit=audit) as place:
        verifier = place.party("v0")
        for _ in range(4):
            verifier.decide(deliver(place, ALICE).work_digest, ACCEPTED)
        for _ in range(2):
            verifier.decide(deliver(place, BOB).work_digest, REJECTED)
        with monkeypatch.context() as unbound:
            unbound.setattr(canaries, "_left", without_end)
            canary = deliver(place, BOB).work_digest
        asked = {deliver(place, ALICE).work_digest: 1, canary: place.spec.group_size}
        assert {t.work_digest: len(t.rollouts) for t in verifier.audits(256)} == asked
        refused = place.party(BOB).lease()
        assert code(refused) == "refused" and "the 2 groups of a newcomer" in refused.text


def test_a_canary_worker_leases_nothing_before_it_is_committed_to_everywhere(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    config = {"canaries": {"false": [ground.address(BOB)]}}
    with opened(ground, redis_url, tmp_path / "b", config=config) as place:
        assert place.party(BOB).lease().status_code == 204, "no commitment yet"
        tick(place)
        assert place.party(BOB).lease().status_code == 204, "another copy may not have seen it"
        place.wait(2)
        assert place.party(BOB).lease().status_code == 200


def test_a_canary_that_a_verifier_never_answers_is_not_asked_for_ever(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    with examined(ground, redis_url, tmp_path, answer_seconds=40) as place:
        digest = deliver(place, BOB).work_digest
        place.party("v0").decide(digest, REJECTED)
        place.wait(0)
        tick(place, seconds=41)
        assert place.state(digest) is GroupState.ACCEPTED
        assert place.party("v1").audits() == ()
        shown = place.get(f"/v1/workers/{place.ground.address(BOB)}").content
        [worker] = WorkerInfos.from_json(shown).runs
        assert worker.accepted_groups == 1, "it looks like any accepted group"


def test_a_share_says_how_soon_whoever_replays_nothing_is_found() -> None:
    assert replays_until_failed(0.05, confidence=0.99) == 182
    assert 0.975**182 < 0.01 < 0.975**181
    with pytest.raises(ValueError, match="between 0 and 1"):
        replays_until_failed(0.0, confidence=0.99)


def test_a_commitment_binds_run_worker_answer_and_salt() -> None:
    opening = CanaryOpening(worker="0x" + "11" * 20, answer="rejected", salt=bytes(32))
    changed = [
        opening.model_copy(update={"worker": "0x" + "22" * 20}),
        opening.model_copy(update={"answer": "accepted"}),
        opening.model_copy(update={"salt": b"\x01" * 32}),
    ]
    assert len({o.commitment(1) for o in [opening, *changed]} | {opening.commitment(2)}) == 5
    assert (
        Canary.from_json(
            Canary(opening=opening, committed_at=1, signature=bytes(65)).to_json()
        ).opening
        == opening
    )
