"""Golden rewards of the demo's own environment."""

import pytest

from protocol.environments.arithmetic import Arithmetic, worked_solution
from protocol.environments.base import FULL_SCORE, Problem
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
    assert [arithmetic.problem(index).prompt for index in (0, 1, 2, 2**32)] == [
        "63+16=?",
        "79+60+76=?",
        "96+86+72=?",
        "95+35=?",
    ]


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
