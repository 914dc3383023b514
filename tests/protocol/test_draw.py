"""Which submissions are replayed, and when that was enough: at both sides of every boundary."""

import pytest

from protocol.canonical import keccak256
from protocol.draw import Draw, is_drawn, is_vouched, rate_millionths, votes_that_condemn
from protocol.run import AuditPolicy
from protocol.verdict import Outcome

POLICY = AuditPolicy(num_probation_groups=4, num_halving_groups=2, floor_millionths=100_000)


@pytest.mark.parametrize(
    ("num_accepted", "rate"),
    [
        (0, 1_000_000),
        (3, 1_000_000),
        (4, 500_000),
        (5, 500_000),
        (6, 250_000),
        (9, 125_000),
        (10, 100_000),
        (10**6, 100_000),
    ],
)
def test_audits_fall_by_half_from_the_probation_to_the_floor(num_accepted: int, rate: int) -> None:
    assert rate_millionths(POLICY, num_accepted=num_accepted) == rate


def test_the_draw_follows_its_rate_and_can_be_repeated() -> None:
    secret = keccak256(b"secret")
    digests = [keccak256(bytes([n % 256, n // 256])) for n in range(4000)]
    assert all(is_drawn(secret, digest, rate=1_000_000) for digest in digests)
    assert not any(is_drawn(secret, digest, rate=0) for digest in digests)
    drawn = [Draw(epoch=0, rate=250_000).selects(secret, digest) for digest in digests]
    assert 900 < sum(drawn) < 1100
    assert drawn == [is_drawn(secret, digest, rate=250_000) for digest in digests]
    assert drawn != [is_drawn(keccak256(b"other"), digest, rate=250_000) for digest in digests]


def test_whoever_counts_too_few_groups_replays_all_that_had_to_be() -> None:
    """What lets an auditor hold the draw to a record that was complete only later."""
    secret = keccak256(b"secret")
    digests = [keccak256(bytes([n])) for n in range(256)]
    for counted, had in ((0, 4), (4, 6), (5, 10**6)):
        low, high = (rate_millionths(POLICY, num_accepted=n) for n in (had, counted))
        needed = {d for d in digests if is_drawn(secret, d, rate=low)}
        replayed = {d for d in digests if is_drawn(secret, d, rate=high)}
        assert needed < replayed


A, R, U = Outcome.ACCEPTED, Outcome.REJECTED, Outcome.UNDECIDED


@pytest.mark.parametrize(
    ("outcomes", "is_enough"),
    [
        ([], False),
        ([A], False),
        ([A, A], True),
        ([A, R], False),
        ([A, R, A], True),
        ([A, R, U], False),  # one is still to be asked
        ([R, R, A], False),
    ],
)
def test_two_of_three_vouch_for_a_group(outcomes: list[Outcome], is_enough: bool) -> None:
    assert is_vouched(outcomes, threshold=2, num_to_condemn=2, num_voters=3) is is_enough


def test_verifiers_that_all_disagree_leave_a_group_paid() -> None:
    assert is_vouched([A, R], threshold=2, num_to_condemn=2, num_voters=2)
    assert not is_vouched([A], threshold=2, num_to_condemn=2, num_voters=2)
    assert not is_vouched([A], threshold=2, num_to_condemn=2, num_voters=1), "votes were lost"


def test_one_verifier_of_several_condemns_nobody() -> None:
    assert [votes_that_condemn(1, n) for n in (1, 2, 3)] == [1, 2, 2]
    assert votes_that_condemn(3, 5) == 3
