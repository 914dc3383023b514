"""Golden rewards of the demo's own environment."""

import pytest

from protocol.environments.arithmetic import (
    DEFAULTS,
    HELD_OUT_BUCKETS,
    HELD_OUT_START,
    Arithmetic,
    is_held_out,
    worked_solution,
)
from protocol.environments.base import FULL_SCORE, Draws, Problem, item_seed
from protocol.errors import Malformed

GOLDEN = Problem("47+38=?", "85", "7+8=15,4+3=7+1=8#85")


@pytest.mark.parametrize(
    ("terms", "solution"),
    [
        ((47, 38), "7+8=15,4+3=7+1=8#85"),
        ((30, 88), "0+8=8,3+8=11#118"),
        ((98, 84, 89), "8+4=12+9=21,9+8=17+8=25+2=27#271"),
        ((5, 38), "5+8=13,3+1=4#43"),
        ((5, 32), "5+2=7,3=3#37"),
        ((0, 0), "0+0=0#0"),
        ((99, 901), "9+1=10,9+0=9+1=10,9+1=10#1000"),
    ],
)
def test_solutions_work_column_by_column(terms: tuple[int, ...], solution: str) -> None:
    assert worked_solution(terms, slips={}) == solution
    assert solution.endswith(f"#{sum(terms)}")


def test_a_slip_changes_its_column_and_what_follows_from_it() -> None:
    assert worked_solution((47, 38), slips={0: -1}) == "7+8=14,4+3=7+1=8#84"
    assert worked_solution((47, 33), slips={0: -1}) == "7+3=9,4+3=7#79"
    assert worked_solution((47, 38), slips={1: 1}) == "7+8=15,4+3=7+1=9#95"


@pytest.mark.parametrize(
    ("completion", "score"),
    [
        ("7+8=15,4+3=7+1=8#85", FULL_SCORE),
        ("#85", FULL_SCORE),
        ("wrong reasoning#85", FULL_SCORE),
        ("7+8=15,4+3=7+1=8#84", 0),
        ("85", 0),
        ("#085", 0),
        ("# 85", 0),
        ("#85 ", 0),
        ("#85#85", 0),
        ("#84#85", 0),
        ("#٨٥", 0),
    ],
)
def test_golden_rewards(completion: str, score: int) -> None:
    assert Arithmetic({}).score(GOLDEN, completion) == score


def test_golden_problems() -> None:
    arithmetic = Arithmetic({})
    assert [arithmetic.problem(index).prompt for index in (0, 1, 2, 2**32, 2**32 + 1)] == [
        "63+16=?",
        "79+60+76=?",
        "96+86+72=?",
        "15+71=?",
        "52+66=?",
    ]


def test_no_leased_sum_is_a_held_out_sum_in_whatever_order_of_terms() -> None:
    arithmetic = Arithmetic({})
    held_out = {tuple(sorted(arithmetic.terms(HELD_OUT_START + i))) for i in range(2000)}
    leased = {tuple(sorted(arithmetic.terms(i))) for i in [*range(20_000), HELD_OUT_START - 1]}
    assert leased.isdisjoint(held_out)
    assert len(held_out) > 800
    assert {len(terms) for terms in held_out} == {2, 3}


def test_without_the_split_most_held_out_sums_would_be_leased() -> None:
    leased = {_first_draw(index) for index in range(20_000)}
    held_out = [_first_draw(HELD_OUT_START + index) for index in range(2000)]
    assert sum(terms in leased for terms in held_out) > 0.75 * len(held_out)


def _first_draw(index: int) -> tuple[int, ...]:
    """Return the sorted terms that an index would have if none were drawn again."""
    draws = Draws(item_seed("arithmetic", DEFAULTS, index))
    count = 3 if draws.below(100) < 20 else 2
    return tuple(sorted(draws.between(10, 99) for _ in range(count)))


def test_one_sum_in_eight_is_held_out_for_every_seed_and_order_of_terms() -> None:
    pairs = [(a, b) for a in range(10, 100) for b in range(a, 100)]
    num_held_out = sum(is_held_out(pair) for pair in pairs)
    assert abs(num_held_out - len(pairs) / HELD_OUT_BUCKETS) < 90, "four standard deviations"
    assert all(is_held_out((a, b)) == is_held_out((b, a)) for a, b in pairs)
    other = Arithmetic({"seed": 1})
    assert not any(is_held_out(other.terms(index)) for index in range(500))
    assert all(is_held_out(other.terms(HELD_OUT_START + index)) for index in range(500))


def test_as_many_sums_have_three_terms_on_either_side() -> None:
    arithmetic = Arithmetic({"three_term_percent": 50})
    for start in (0, HELD_OUT_START):
        num_long = sum(len(arithmetic.terms(start + index)) == 3 for index in range(1000))
        assert 435 < num_long < 565, "four standard deviations"


@pytest.mark.parametrize("three_term_percent", [0, 20, 100])
def test_terms_too_few_for_both_sides_are_refused_and_not_drawn_forever(
    three_term_percent: int,
) -> None:
    config = {"smallest_term": 5, "three_term_percent": three_term_percent}
    with pytest.raises(Malformed, match="largest_term = 5"):
        Arithmetic({**config, "largest_term": 5})
    Arithmetic({**config, "largest_term": 10**9})


def test_every_range_that_is_accepted_has_sums_on_both_sides() -> None:
    accepted = 0
    for smallest in range(0, 60, 3):
        for largest in range(smallest, smallest + 6):
            config = {"smallest_term": smallest, "largest_term": largest, "three_term_percent": 50}
            try:
                arithmetic = Arithmetic(config)
            except Malformed:
                continue
            accepted += 1
            for index in range(10):
                assert not is_held_out(arithmetic.terms(index))
                assert is_held_out(arithmetic.terms(HELD_OUT_START + index))
    assert accepted > 40


def test_terms_stay_within_their_settings_and_both_lengths_occur() -> None:
    arithmetic = Arithmetic({"smallest_term": 3, "largest_term": 12, "three_term_percent": 50})
    sums = [arithmetic.terms(index) for index in range(400)]
    assert {len(terms) for terms in sums} == {2, 3}
    assert {term for terms in sums for term in terms} == set(range(3, 13))
    assert 140 < sum(len(terms) == 3 for terms in sums) < 260


@pytest.mark.parametrize(
    "config",
    [
        {"largest_term": 9},
        {"three_term_percent": 101},
        {"three_term_percent": -1},
        {"seed": -1},
        {"seed": "0"},
        {"seed": True},
    ],
)
def test_settings_out_of_bounds_are_refused_with_their_value(config: dict[str, int | str]) -> None:
    (value,) = config.values()
    with pytest.raises(Malformed, match=repr(value)):
        Arithmetic(config)
