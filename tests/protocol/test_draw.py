"""Which submissions are replayed, and when that was enough: at both sides of every boundary."""

from collections import Counter

import pytest

from protocol.canonical import keccak256
from protocol.checks.draw import Draw, is_drawn, is_vouched, rate_millionths, votes_that_condemn
from protocol.run import AuditPolicy
from protocol.verdict import Outcome

POLICY = AuditPolicy(num_probation_groups=4, rate_millionths=100_000, num_rollouts=2)
SECRET = keccak256(b"secret")
DIGESTS = [keccak256(n.to_bytes(2, "big")) for n in range(2_000)]


@pytest.mark.parametrize(
    ("num_accepted", "rate"),
    [
        (0, 1_000_000),
        (3, 1_000_000),
        (4, 100_000),
        (10**6, 100_000),
    ],
)
def test_every_group_is_replayed_in_probation_and_a_share_after_it(
    num_accepted: int, rate: int
) -> None:
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
    for counted, had in ((0, 4), (3, 5), (0, 10**6)):
        low, high = (rate_millionths(POLICY, num_accepted=n) for n in (had, counted))
        needed = {d for d in digests if is_drawn(secret, d, rate=low)}
        replayed = {d for d in digests if is_drawn(secret, d, rate=high)}
        assert needed < replayed


def rollouts(digest: bytes, *, rate: int = 100_000, secret: bytes = SECRET) -> tuple[int, ...]:
    draw = Draw(epoch=0, rate=rate)
    return draw.rollouts(secret, digest, group_size=8, policy=POLICY)


def test_some_rollouts_of_a_drawn_group_are_replayed_and_all_in_probation() -> None:
    drawn = [rollouts(digest) for digest in DIGESTS]
    assert drawn == [rollouts(digest) for digest in DIGESTS]
    assert all(len(set(chosen)) == 2 and tuple(sorted(chosen)) == chosen for chosen in drawn)
    assert {len(rollouts(digest, rate=999_999)) for digest in DIGESTS[:9]} == {2}
    assert rollouts(DIGESTS[0], rate=1_000_000) == tuple(range(8))
    whole = AuditPolicy(num_rollouts=8)
    assert Draw(0, 1).rollouts(SECRET, DIGESTS[0], group_size=8, policy=whole) == tuple(range(8))
    assert Draw(0, 1).rollouts(SECRET, DIGESTS[0], group_size=3, policy=whole) == (0, 1, 2)


def test_every_rollout_and_every_pair_is_drawn_as_often() -> None:
    """500 of each rollout among 2,000 groups, and 71 of each of the 28 pairs, but for chance."""
    drawn = Counter(rollouts(digest) for digest in DIGESTS)
    each = Counter(i for chosen in drawn.elements() for i in chosen)
    assert len(each) == 8
    assert all(400 < count < 600 for count in each.values())
    assert len(drawn) == 28
    assert all(30 < count < 120 for count in drawn.values())


def test_nobody_knows_which_rollouts_without_the_secret() -> None:
    """Another secret agrees on one pair in 28, as guessing does."""
    guessed = [rollouts(digest, secret=keccak256(b"guess")) for digest in DIGESTS]
    right = sum(a == b for a, b in zip(guessed, map(rollouts, DIGESTS), strict=True))
    assert right < 0.06 * len(DIGESTS)


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
    assert is_vouched(outcomes, threshold=2) is is_enough


def test_one_verifier_of_several_condemns_nobody() -> None:
    assert [votes_that_condemn(1, n) for n in (1, 2, 3)] == [1, 2, 2]
    assert votes_that_condemn(3, 5) == 3
