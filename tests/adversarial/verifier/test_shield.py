"""One verifier in league with a worker, where all must agree: it passes junk, and keeps honest work out.

`rollcall launch` refuses such a run; one that is on chain all the same pays for nothing that its verifiers
disagree on.
"""

from pathlib import Path

import pytest

from orchestrator.rules.votes import _Counting
from protocol.messages import GroupState, VerifierInfos
from protocol.verdict import Outcome
from tests.orchestrator.test_verdicts import one_group
from tests.stage.evidence import NAMED
from tests.stage.ground import STAKE, Ground
from tests.stage.place import Place, opened

NUM_GROUPS = 6
NEWCOMER = "carol"


def sell_junk(place: Place, num_verifiers: int) -> list[bytes]:
    """Sell groups that v0 passes and all others find false; return their digests."""
    digests = []
    for _ in range(NUM_GROUPS):
        digests.append(one_group(place))
        place.party("v0").decide(digests[-1], Outcome.ACCEPTED)
        for n in range(1, num_verifiers):
            place.party(f"v{n}").decide(digests[-1], Outcome.REJECTED, NAMED)
        place.take_batch(0)
    return digests


def replace_by_newcomer(place: Place, name: str) -> None:
    """Have a verifier that fell short of its stake replaced on chain."""
    ground, index = place.ground, place.services.runs[place.run_id].chain.verifiers
    left = ground.address(name)
    ground.by(name).unbond(STAKE + 1)
    try:
        seat = index.index(left)
        ground.by("operator").propose_replacement(place.run_id, seat, ground.address(NEWCOMER))
        place.tick(seconds=10)
        ground.by("stranger").replace_verifier(place.run_id)
        place.tick()
    finally:
        ground.by(name).stake(STAKE + 1)


@pytest.mark.parametrize("num_verifiers", [2, 3])
def test_one_of_all_shields_a_cheat_where_a_split_is_paid(
    ground: Ground,
    redis_url: str,
    tmp_path: Path,
    num_verifiers: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_Counting, "_split", _Counting._accept)
    with opened(
        *(ground, redis_url, tmp_path),
        num_verifiers=num_verifiers,
        threshold=num_verifiers,
        max_worker_leases=16,
        groups_per_batch=16,
    ) as place:
        states = [place.state(digest) for digest in sell_junk(place, num_verifiers)]
        assert states == [GroupState.ACCEPTED] * NUM_GROUPS


@pytest.mark.parametrize("num_verifiers", [2, 3])
def test_a_split_waits_is_counted_by_pair_and_is_decided_by_who_takes_a_place(
    ground: Ground, redis_url: str, tmp_path: Path, num_verifiers: int
) -> None:
    with opened(
        *(ground, redis_url, tmp_path),
        num_verifiers=num_verifiers,
        threshold=num_verifiers,
        max_worker_leases=16,
        groups_per_batch=16,
    ) as place:
        digests = sell_junk(place, num_verifiers)
        assert {place.state(digest) for digest in digests} == {GroupState.REPLAY}
        assert {place.status(digest).verdicts for digest in digests} == {()}, "still sealed"
        infos = VerifierInfos.from_json(place.get(place.path("verifiers")).content).verifiers
        splits = {info.verifier: info.splits for info in infos}
        liar = ground.address("v0")
        others = {ground.address(f"v{n}") for n in range(1, num_verifiers)}
        assert splits[liar] == dict.fromkeys(others, NUM_GROUPS)
        assert all(splits[other] == {liar: NUM_GROUPS} for other in others)
        replace_by_newcomer(place, "v0")
        newcomer = place.party(NEWCOMER)
        assert {task.work_digest for task in newcomer.audits(64)} == set(digests)
        assert newcomer.judge(digests[0], Outcome.REJECTED, NAMED).status_code == 200
        assert place.state(digests[0]) is GroupState.REJECTED
        assert {place.status(d).rejection for d in digests[1:]} == {"worker_excluded"}
