"""What dropped leases cost, at both sides of every boundary."""

from hypothesis import given
from hypothesis import strategies as st

from protocol.checks.drops import DropPolicy, DropRule
from protocol.constants import MICRO
from tests.stage.pace_law import after_drop, after_group

RULE = DropRule(DropPolicy(), max_leases=64)


def after(rule: DropRule, history: str) -> int:
    """Return the debt after drops (d) and finished groups (g)."""
    debt = 0
    for what in history:
        debt = after_drop(rule, debt) if what == "d" else after_group(rule, debt)
    return debt


def test_two_crashes_with_all_leases_are_forgiven_and_one_drop_more_is_not() -> None:
    debt = after(RULE, "d" * 128)
    assert not RULE.is_on_probation(debt)
    assert RULE.most_leases(debt) == 64
    assert RULE.groups_to_recover(debt) == 0
    debt = after_drop(RULE, debt)
    assert RULE.is_on_probation(debt)
    assert RULE.most_leases(debt) == 63
    assert RULE.groups_to_recover(debt) == 4, "a drop costs 0.8, a group pays off 0.2"
    assert not RULE.is_on_probation(after(RULE, "d" * 129 + "g" * 4))
    assert RULE.is_on_probation(after(RULE, "d" * 129 + "g" * 3))


def test_nobody_is_ruined() -> None:
    """The worst debt is paid by 512 groups, however much was dropped before."""
    debt = after(RULE, "d" * 10_000)
    assert debt == RULE.most
    assert RULE.most_leases(debt) == 1
    assert RULE.groups_to_recover(debt) == 512


def test_a_fifth_may_be_dropped_for_ever_and_no_more() -> None:
    assert after(RULE, "ggggd" * 1000) <= RULE.per_drop
    assert RULE.is_on_probation(after(RULE, "gggd" * 1000))


@given(st.integers(1, MICRO), st.integers(1, 5), st.integers(1, 1000), st.text("dg", max_size=300))
def test_debts_and_limits_stay_within_their_bounds(
    free: int, crashes: int, leases: int, history: str
) -> None:
    policy = DropPolicy(free_millionths=free, num_forgiven_crashes=crashes)
    rule = DropRule(policy, max_leases=leases)
    debt = after(rule, history)
    assert 0 <= debt <= rule.most
    assert 1 <= rule.most_leases(debt) <= leases
    assert rule.is_on_probation(debt) == (rule.groups_to_recover(debt) > 0)
    assert not rule.is_on_probation(after(rule, "d" * leases * crashes))


def test_all_drops_may_be_free() -> None:
    rule = DropRule(DropPolicy(free_millionths=MICRO), max_leases=2)
    assert after(rule, "d" * 100) == 0
    assert rule.most_leases(0) == 2
