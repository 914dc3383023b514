"""A run that asks for activation commitments, over HTTP: who carries them is taken, who does not is told."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from protocol.activation_policy import ActivationPolicy
from protocol.activations import prove
from protocol.messages import GroupState
from protocol.rollout import Lease, Rollout
from tests.orchestrator.ground import Ground
from tests.orchestrator.place import Place, opened


@pytest.fixture
def asking(ground: Ground, redis_url: str, tmp_path: Path) -> Iterator[Place]:
    with opened(ground, redis_url, tmp_path, activations=ActivationPolicy()) as place:
        yield place


def committed(place: Place, lease: Lease) -> list[Rollout]:
    """Return rollouts with well-formed commitments to hidden states that no model had."""
    draw = np.random.default_rng(lease.nonce)

    def proofs(rollout: Rollout) -> bytes:
        shape = (len(rollout.tokens) // 4, 128)
        return prove(draw.integers(0, 0x7F00, shape, dtype=np.uint16))

    return [
        rollout.model_copy(update={"activations": proofs(rollout)})
        for rollout in place.rollouts(lease)
    ]


def test_only_groups_that_carry_their_commitments_go_to_replay(asking: Place) -> None:
    alice = asking.party("alice")
    with_proofs, without, half = (signed.lease for signed in alice.leases(3))
    taken = alice.deliver(with_proofs, committed(asking, with_proofs))
    assert taken.rejection == ""
    assert asking.status(taken.work_digest).state is GroupState.REPLAY
    refused = alice.deliver(without, asking.rollouts(without))
    assert refused.rejection == "bad_activations"
    assert "send what the engine captured while it sampled" in refused.detail
    rollouts = [*committed(asking, half)[:-1], asking.rollouts(half)[-1]]
    assert alice.deliver(half, rollouts).rejection == "bad_activations"


def test_a_run_that_asks_for_none_refuses_them(shared_place: Place) -> None:
    alice = shared_place.party("alice")
    lease = alice.leases()[0].lease
    refused = alice.deliver(lease, committed(shared_place, lease))
    assert refused.rejection == "bad_activations"
    assert "nothing where the run asks for nothing" in refused.detail
