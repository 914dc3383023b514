"""Floods of verdicts and of report signatures: by a verifier, by a worker, while others are to be paid."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator import budgets
from orchestrator.rules import votes
from orchestrator.rules.ballots import VoteFacts
from orchestrator.rules.votes import Counted
from protocol.messages import AuditRequest, EpochStage
from protocol.verdict import Outcome
from tests.orchestrator.test_verdicts import events, one_group
from tests.stage.ground import Ground
from tests.stage.place import Place, opened

NUM_REQUESTS = 150
GENEROUS = {"requests_per_second": 1e6, "request_burst": 10**6}
LIMITED = {"requests_per_second": 20, "request_burst": 40}


def flood(place: Place, digest: bytes) -> dict[int, int]:
    """Contradict an earlier verdict, and sign reports nobody made, over and over; count the answers."""
    answers: dict[int, int] = {}
    contradiction = place.party("v2").verdict(digest, Outcome.ACCEPTED).to_json()
    path = place.path(f"audits/0x{digest.hex()}/verdict")
    nonsense = place.path(f"fraud-reports/0x{digest.hex()}")
    for _ in range(NUM_REQUESTS // 2):
        for name, where, body in (("v2", path, contradiction), ("bob", nonsense, b"{}")):
            status = place.party(name).post(where, body).status_code
            answers[status] = answers.get(status, 0) + 1
    return answers


@pytest.mark.parametrize(("limits", "is_limited"), [(GENEROUS, False), (LIMITED, True)])
def test_a_flood_is_turned_away_and_nobody_is_paid_later_for_it(
    ground: Ground, redis_url: str, tmp_path: Path, limits: dict[str, float], is_limited: bool
) -> None:
    """Within the epoch, its challenge window and a round of settlement, whatever others send meanwhile."""
    with opened(
        *(ground, redis_url, tmp_path / "b"),
        num_verifiers=3,
        threshold=2,
        config={"limits": limits},
    ) as place:
        alice, bob = place.party("alice"), place.party("bob")
        judged = bob.deliver(bob.leases()[0].lease).work_digest
        began = ground.clock.now
        place.party("v2").decide(judged, Outcome.REJECTED)
        paid = alice.deliver(alice.leases()[0].lease).work_digest
        answers = flood(place, judged)
        assert set(answers) == {429, 409, 403} if is_limited else {409, 403}
        assert (answers.get(429, 0) >= NUM_REQUESTS - 2 * 45) == is_limited
        place.wait(1)  # until the flooder may send what it sealed: its place is kept for that
        for name in ("v0", "v1"):
            place.party(name).decide(paid, Outcome.ACCEPTED)
            place.party(name).decide(judged, Outcome.ACCEPTED)
        place.tick(seconds=place.spec.epoch_seconds + 1)
        for name in ("v0", "v1"):
            assert place.sign_epoch(0, name).status_code == 204
        flood(place, judged)
        place.tick()
        place.tick(seconds=3)
        assert place.epoch(0).stage is EpochStage.FINAL
        window = place.services.runs[place.run_id].chain.challenge_window
        assert ground.clock.now - began <= place.spec.epoch_seconds + window + 30


@pytest.mark.parametrize("defended", [False, True])
def test_seals_cost_their_verifier_as_many_requests_though_one_brings_them(
    ground: Ground,
    redis_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    defended: bool,
) -> None:
    async def nothing(*_: object) -> None: ...

    if not defended:
        monkeypatch.setattr(budgets, "charge", nothing)
    with opened(ground, redis_url, tmp_path / "b", config={"limits": LIMITED}) as place:
        digest, verifier = one_group(place), place.party("v0")
        verifier.audits()
        seal = verifier.sealed(verifier.verdict(digest, Outcome.ACCEPTED))
        request = AuditRequest(count=0, seals=(seal,) * 256).to_json()
        answers = [verifier.post(place.path("audits"), request).status_code for _ in range(4)]
        assert answers == ([200, 429, 429, 429] if defended else [200] * 4)


def forgetful_of(count: Callable[..., Counted]) -> Callable[..., Counted]:
    """Return a count that does not know what the voter said before."""

    def forgetful(facts: VoteFacts, *others: Any) -> Counted:
        return count(replace(facts, group=replace(facts.group, votes={})), *others)

    return forgetful


@pytest.mark.parametrize("defended", [False, True])
def test_a_verifier_that_cannot_decide_over_and_over_fills_no_stream(
    place: Place, monkeypatch: pytest.MonkeyPatch, defended: bool
) -> None:
    """The stream of events has room for so many: what others must see would be pushed out."""
    if not defended:
        monkeypatch.setattr(votes, "count", forgetful_of(votes.count))
    digest, verifier = one_group(place), place.party("v0")
    verifier.audits()
    for _ in range(20):
        assert verifier.judge(digest, Outcome.UNDECIDED).status_code == 200
    assert events(place).count("verdict") == (1 if defended else 20)
    place.wait(61)
    assert [task.work_digest for task in verifier.audits()] == [digest], "offered again"
    assert verifier.judge(digest, Outcome.ACCEPTED).json()["state"] == "accepted"
