"""Selling the same tokens twice: a copy that chance cannot explain earns nothing."""

import pytest

from orchestrator.rules import admission
from protocol.rollout import Rollout
from tests.stage.place import Place
from tests.stage.terms import EOS


def long_group(logprob: float) -> list[Rollout]:
    tokens = [*range(10, 40), EOS]
    return [Rollout.of(tokens, [logprob] * len(tokens)) for _ in range(2)]


def test_a_copied_group_earns_nothing(place: Place) -> None:
    alice, bob = place.party("alice"), place.party("bob")
    original, copy = alice.leases()[0].lease, bob.leases()[0].lease
    assert alice.deliver(original, long_group(-1.0)).rejection == ""
    receipt = bob.deliver(copy, long_group(-1.0))
    assert receipt.rejection == "duplicate_group"
    assert original.lease_id.hex() in receipt.detail


def test_changed_log_probabilities_do_not_hide_a_copy(place: Place) -> None:
    alice, bob = place.party("alice"), place.party("bob")
    original, copy = alice.leases()[0].lease, bob.leases()[0].lease
    alice.deliver(original, long_group(-1.0))
    assert bob.deliver(copy, long_group(-1.1)).rejection == "duplicate_group"


def test_without_the_rule_the_copy_is_taken(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "copy_key", lambda _: None)
    alice, bob = place.party("alice"), place.party("bob")
    original, copy = alice.leases()[0].lease, bob.leases()[0].lease
    alice.deliver(original, long_group(-1.0))
    assert bob.deliver(copy, long_group(-1.0)).rejection == ""


@pytest.mark.parametrize(("logprob", "rejection"), [(-0.64, ""), (-0.65, "duplicate_group")])
def test_equal_groups_are_copies_only_beyond_coincidence(
    place: Place, logprob: float, rejection: str
) -> None:
    alice, bob = place.party("alice"), place.party("bob")
    original, other = alice.leases()[0].lease, bob.leases()[0].lease
    alice.deliver(original, long_group(logprob))
    assert bob.deliver(other, long_group(logprob)).rejection == rejection
