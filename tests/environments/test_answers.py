"""How a final answer is found and spelt, and what of it is not a number."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.environments.answers import (
    MAX_ANSWER_CHARS,
    MAX_ANSWER_DIGITS,
    canonical_number,
    final_answer,
)


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("so it is\n#### 18", "18"),
        ("#### 17\n#### 18\nbecause", "18"),
        ("####", ""),
        ("the answer is 18", None),
        ("\\boxed{18}", "18"),
        ("\\boxed{17} then \\boxed{\\frac{36}{2}}.", "\\frac{36}{2}"),
        ("\\boxed{18", None),
        ("\\boxed{17} #### 18", "18"),
        ("#### " + "1" * (MAX_ANSWER_CHARS - 1), "1" * (MAX_ANSWER_CHARS - 1)),
        ("#### " + "1" * MAX_ANSWER_CHARS, None),
    ],
)
def test_only_the_last_answer_counts(completion: str, answer: str | None) -> None:
    assert final_answer(completion) == answer


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("18", "18"),
        ("$1,800.00", "1800"),
        ("-$5.", "-5"),
        ("+007", "7"),
        ("-0", "0"),
        ("0.50", "0.5"),
        ("25 %", "25"),
        ("1,234,567", "1234567"),
        ("1,8", None),
        ("1234,567", None),
        (",123", None),
        ("1,,000", None),
        (".5", None),
        ("5.5.5", None),
        ("1e3", None),
        ("1_000", None),
        ("٣", None),
        ("²", None),
        ("--1", None),
        ("", None),
        ("$", None),
        ("18 dollars", None),
        ("9" * MAX_ANSWER_DIGITS, "9" * MAX_ANSWER_DIGITS),
        ("9" * (MAX_ANSWER_DIGITS + 1), None),
    ],
)
def test_one_number_has_one_spelling(text: str, number: str | None) -> None:
    assert canonical_number(text) == number


@given(st.integers(min_value=-(10**30), max_value=10**30))
def test_every_integer_survives_thousands_commas(value: int) -> None:
    assert canonical_number(f"{value:,}") == str(value)


def test_python_would_accept_foreign_digits_and_choke_on_long_ones() -> None:
    assert int("٣") == 3 and int("1_0") == 10
    assert canonical_number("٣") is None and canonical_number("1_0") is None
    with pytest.raises(ValueError, match="digits"):
        int("9" * 10**6)
    started = time.perf_counter()
    assert canonical_number("9" * 10**6) is None
    assert final_answer("\\boxed{" * 10**6) is None
    assert time.perf_counter() - started < 1
