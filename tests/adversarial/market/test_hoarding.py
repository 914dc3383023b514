"""Workers that take more of the market than their part: its pace, or money it does not have."""

from pathlib import Path

import pytest

from orchestrator import leases
from orchestrator.rules.schedule import most_flat
from protocol.messages import Leases
from protocol.rollout import Lease
from protocol.verdict import Outcome
from tests.stage.ground import BUDGET, Ground
from tests.stage.place import Place, opened


def test_a_worker_that_fills_the_pace_alone_cannot_end_the_run(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    """A batch takes at most half from one: were all places hers, no batch would ever be full."""
    with opened(ground, redis_url, tmp_path, max_worker_share_millionths=500_000) as place:
        alice, bob, verifier = (place.party(name) for name in ("alice", "bob", "v0"))
        for _ in range(4):
            response = alice.lease(4)
            if response.status_code == 204:
                break
            for lease in leases_of(response.content):
                receipt = alice.deliver(lease)
                verifier.decide(receipt.work_digest, Outcome.ACCEPTED)
        assert place.take_batch(0) is None, "the other half is missing"
        for signed in bob.leases(4):
            receipt = bob.deliver(signed.lease)
            verifier.decide(receipt.work_digest, Outcome.ACCEPTED)
        batch = place.take_batch(0)
        assert batch is not None
        assert {group.worker for group in batch.groups} == {alice.address, bob.address}


def test_groups_under_replay_are_money_promised(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    """Groups that teach nothing wait for no trainer, but are paid: the ledger refuses what it lacks."""
    with opened(ground, redis_url, tmp_path, rate=BUDGET // 200) as place:
        alice, verifier = place.party("alice"), place.party("v0")
        signed = alice.leases(4)
        assert len(signed) == 2, "200 units are two groups of at most 96"
        receipts = [
            alice.deliver(item.lease, place.rollouts(item.lease, right=(False,))) for item in signed
        ]
        assert alice.lease().json()["code"] == "run_not_open"
        for receipt in receipts:
            verifier.decide(receipt.work_digest, Outcome.ACCEPTED)
        assert len(alice.leases(4)) == 1, "short answers left room for one more"


def leases_of(content: bytes) -> list[Lease]:
    return [signed.lease for signed in Leases.from_json(content).leases]


def test_a_task_that_cannot_be_leased_holds_no_places(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    """The longest prompts of a data set may not fit: one of them once cost a worker all its leases."""
    with opened(ground, redis_url, tmp_path, max_prompt_tokens=1) as place:
        alice = place.party("alice")
        for _ in range(3):
            assert alice.lease(4).json()["code"] == "busy"


def sell_flat(place: Place, rounds: int) -> int:
    """Sell groups whose rewards are all equal for as long as there are leases; return how many."""
    alice, verifier, sold = place.party("alice"), place.party("v0"), 0
    for _ in range(rounds):
        response = alice.lease(4)
        if response.status_code == 204:
            break
        for lease in leases_of(response.content):
            receipt = alice.deliver(lease, place.rollouts(lease, right=(True,)))
            sold += verifier.decide(receipt.work_digest, Outcome.ACCEPTED) == "accepted"
    return sold


@pytest.mark.parametrize("paced", [False, True])
def test_groups_without_signal_do_not_empty_the_escrow_without_a_step(
    ground: Ground, redis_url: str, tmp_path: Path, paced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A policy that has collapsed, or tasks of one answer: no batch is ever full, and all is paid."""
    if not paced:
        monkeypatch.setattr(leases, "most_flat", lambda _: 10**9)
    with opened(ground, redis_url, tmp_path) as place:
        most = most_flat(place.spec)
        assert sell_flat(place, rounds=15) == (most if paced else 60)
        assert place.take_batch(0) is None
        if paced:
            place.tick(seconds=11)  # another epoch opens: as many more, then for twice as long none
            assert sell_flat(place, rounds=20) == most
            place.tick(seconds=11)
            assert sell_flat(place, rounds=20) == 0
            place.tick(seconds=11)
            assert sell_flat(place, rounds=20) == most


def test_who_delivers_groups_without_signal_keeps_nobody_else_out(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    """Half of the bound is the most of one worker that may fill half of a batch."""
    with opened(ground, redis_url, tmp_path, max_worker_share_millionths=500_000) as place:
        assert sell_flat(place, rounds=20) == most_flat(place.spec) // 2
        bob, verifier = place.party("bob"), place.party("v0")
        for signed in bob.leases(2):
            receipt = bob.deliver(signed.lease)
            assert verifier.decide(receipt.work_digest, Outcome.ACCEPTED) == "accepted"
