"""Groups that are signed and leased but not what was asked for: each earns nothing, and says why.

Every attack is first sent with its one rule switched off, and is then taken.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from orchestrator.rules import admission
from protocol.messages import GroupState
from protocol.rollout import Receipt, Rollout
from tests.stage.place import Place
from tests.stage.terms import EOS

Rollouts = list[Rollout]
MOST = 48


@dataclass(frozen=True)
class Attack:
    """What is sent, which rule stops it, and the words its answer must contain."""

    name: str
    rule: str
    rejection: str
    says: str
    alter: Callable[[Rollouts], Rollouts]


def first(rollouts: Rollouts, tokens: Sequence[int], logprobs: Sequence[float]) -> Rollouts:
    return [Rollout.of(tokens, logprobs), *rollouts[1:]]


def missing(rollouts: Rollouts) -> Rollouts:
    return rollouts[:-1]


def extra(rollouts: Rollouts) -> Rollouts:
    return [*rollouts, rollouts[0]]


def out_of_vocabulary(rollouts: Rollouts) -> Rollouts:
    return first(rollouts, [128, EOS], [-0.5, -0.5])


def not_a_number(rollouts: Rollouts) -> Rollouts:
    return first(rollouts, [5, EOS], [float("nan"), -0.5])


def infinite(rollouts: Rollouts) -> Rollouts:
    return first(rollouts, [6, EOS], [-float("inf"), -0.5])


def above_certainty(rollouts: Rollouts) -> Rollouts:
    return first(rollouts, [5, EOS], [0.01, -0.5])


def truncated(rollouts: Rollouts) -> Rollouts:
    return first(rollouts, [5, 6, 7], [-0.5] * 3)


def lengthened(rollouts: Rollouts) -> Rollouts:
    return first(rollouts, [5, EOS, 6, EOS], [-0.5] * 4)


def too_long(rollouts: Rollouts) -> Rollouts:
    tokens = [5] * MOST + [EOS]
    return first(rollouts, tokens, [-0.5] * len(tokens))


def empty(rollouts: Rollouts) -> Rollouts:
    return first(rollouts, [], [])


def torn(rollouts: Rollouts) -> Rollouts:
    return [Rollout(tokens=bytes(6), logprobs=bytes(6)), *rollouts[1:]]


def fewer_logprobs(rollouts: Rollouts) -> Rollouts:
    return first(rollouts, [5, EOS], [-0.5])


ATTACKS = (
    Attack("missing rollout", "", "incomplete_group", "1 rollouts for 2 seeds", missing),
    Attack("extra rollout", "", "incomplete_group", "3 rollouts for 2 seeds", extra),
    Attack("token 128 of 128", "_range", "token_out_of_range", "token id 128", out_of_vocabulary),
    Attack("NaN", "_logprobs", "bad_logprob", "nan at token 0", not_a_number),
    Attack("minus infinity", "_logprobs", "bad_logprob", "-inf at token 0", infinite),
    Attack("probability above one", "_logprobs", "bad_logprob", "0.00999", above_certainty),
    Attack("cut short", "_termination", "bad_termination", "stops after 3 tokens", truncated),
    Attack("sampled on after EOS", "_termination", "bad_termination", "inside", lengthened),
    Attack("one token too many", "_lengths", "bad_length", "1 to 48 tokens", too_long),
    Attack("no tokens", "", "bad_length", "0 bytes of tokens", empty),
    Attack("torn token", "", "bad_length", "6 bytes of tokens", torn),
    Attack("fewer log-probabilities", "_lengths", "bad_length", "4 bytes of each", fewer_logprobs),
)


def attack_receipt(place: Place, attack: Attack) -> Receipt:
    alice = place.party("alice")
    lease = alice.leases()[0].lease
    return alice.deliver(lease, attack.alter(place.rollouts(lease)))


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_what_was_not_asked_for_earns_nothing(shared_place: Place, attack: Attack) -> None:
    receipt = attack_receipt(shared_place, attack)
    assert receipt.rejection == attack.rejection
    assert attack.says in receipt.detail
    status = shared_place.status(receipt.work_digest)
    assert (status.state, status.rewards) == (GroupState.REJECTED, ())
    handed_out = {task.work_digest for task in shared_place.party("v0").audits(256)}
    assert receipt.work_digest not in handed_out


@pytest.mark.parametrize("attack", [a for a in ATTACKS if a.rule], ids=lambda attack: attack.name)
def test_without_its_rule_the_attack_is_taken(
    shared_place: Place, attack: Attack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, attack.rule, lambda *_: None)
    assert attack_receipt(shared_place, attack).rejection == ""


def test_another_prompt_than_the_leased_one_earns_nothing(shared_place: Place) -> None:
    alice = shared_place.party("alice")
    lease = alice.leases()[0].lease
    submission = alice.submission(lease, prompt=(*lease.prompt[:-1], 5))
    receipt = Receipt.from_json(alice.submit(submission).content)
    assert receipt.rejection == "wrong_prompt"


def test_every_length_up_to_the_limit_is_taken(shared_place: Place) -> None:
    alice = shared_place.party("alice")
    most = shared_place.spec.max_tokens
    rng = np.random.default_rng(1)
    for signed, length in zip(alice.leases(3), (1, most - 1, most), strict=True):
        tokens = [*rng.integers(3, 128, length - 1), EOS]
        unfinished = [*rng.integers(3, 128, most)]
        rollouts = [
            Rollout.of(tokens, [-1.0] * length),
            Rollout.of(unfinished, [0.0] * most),
        ]
        assert alice.deliver(signed.lease, rollouts).rejection == ""
