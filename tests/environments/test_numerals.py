"""Which number an answer states, in whatever dress, and what states none."""

import hashlib
import sys
import time
import unicodedata
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.environments.dress import bare, without_dress
from protocol.environments.numerals import number, states
from protocol.environments.tokens import MAX_DIGITS
from tests.environments.forms import forms

FORMS = {name: list(forms(name)) for name in ("plain", "equations", "worked-out", "nothing")}


def paid(name: str, *, expressions: bool, more: int = 0) -> list[str]:
    """Return the forms of a file that state their gold, or `more` than it."""
    return [
        text for gold, text in FORMS[name] if states(text, gold + more, expressions=expressions)
    ]


def test_dress_does_not_change_a_number() -> None:
    assert [text for gold, text in FORMS["plain"] if number(text) != gold] == []
    assert paid("plain", expressions=False) == [text for _, text in FORMS["plain"]]


def test_an_equation_states_what_all_its_sides_state() -> None:
    assert [text for _, text in FORMS["equations"] if number(text) is not None] == []
    assert paid("equations", expressions=False) == [text for _, text in FORMS["equations"]]


def test_arithmetic_is_worked_out_where_it_is_no_repeated_question() -> None:
    assert paid("worked-out", expressions=True) == [text for _, text in FORMS["worked-out"]]
    assert paid("worked-out", expressions=False) == []


@pytest.mark.parametrize("name", ["plain", "equations", "worked-out"])
def test_no_form_states_another_number(name: str) -> None:
    for more in (1, -1, 100):
        assert paid(name, expressions=True, more=more) == []


def test_doubt_lists_and_other_numbers_state_nothing() -> None:
    assert paid("nothing", expressions=True) == []
    assert [text for gold, text in FORMS["nothing"] if number(text) == gold] == []


def test_there_are_as_many_refusals_as_forms_of_the_kinds_that_people_report() -> None:
    assert len(FORMS["plain"]) > 1400
    assert len(FORMS["equations"]) + len(FORMS["worked-out"]) > 400
    assert len(FORMS["nothing"]) > 950


@settings(deadline=None)
@given(st.integers(min_value=-(10**30), max_value=10**30), st.sampled_from(", '_\u202f"))
def test_every_integer_survives_its_thousands(value: int, separator: str) -> None:
    assert number(f"{value:,}".replace(",", separator)) == value


@settings(deadline=None)
@given(
    st.lists(st.integers(min_value=0, max_value=99), min_size=2, max_size=6), st.sampled_from(" ,")
)
def test_a_list_is_never_a_number(values: list[int], separator: str) -> None:
    text = separator.join(map(str, values))
    for value in (*values, int("".join(map(str, values)))):
        assert not states(text, Fraction(value), expressions=True)


@settings(deadline=None)
@given(st.text(max_size=256))
def test_whatever_strangers_write_is_read_without_a_word(text: str) -> None:
    states(text, Fraction(72), expressions=True)
    bare(text)


@settings(deadline=None)
@given(st.text(alphabet="0123456789 .,-+*/^=()[]{}$\\x%e'_", max_size=64))
def test_whatever_looks_like_arithmetic_has_one_value_at_most(text: str) -> None:
    stated = [value for value in range(10) if states(text, Fraction(value), expressions=True)]
    assert len(stated) <= 1


def test_python_would_accept_foreign_digits_and_choke_on_long_ones() -> None:
    assert int("1٣") == 13 and int("1_0") == 10 and Fraction("1_0") == 10
    assert number("1٣") is None and number("1_0") is None
    with pytest.raises(ValueError, match="digits"):
        int("9" * 10**6)


def test_digits_are_bounded() -> None:
    nines = "9" * MAX_DIGITS
    assert number(nines) == int(nines)
    assert number(f"{nines}9") is None
    assert number(f"{nines} 9") is None


NESTED = [
    "\\frac{1}{" * 28 + "1" + "}" * 28,
    "<" * 120 + "1" * 64,
    *("(" * 100 + "9" + ")" * 100, "1 (" * 60 + "1" + ")" * 60, "{1\\over" * 28 + "1" + "}" * 28),
    *(
        (unit * 256)[:256]
        for unit in (
            *(
                "\\text{",
                "\\frac{",
                "\\frac ",
                "\\boxed ",
                "\\sqrt",
                "\\color{a}",
                "√(",
                "7²",
                "1₁",
            ),
            *(
                "(",
                "{}",
                "<a",
                "<a b=",
                "<<1=",
                "'",
                "a'",
                "$",
                "=",
                "is ",
                "is 1 ",
                "or 1 ",
                "-",
                "|1",
            ),
            *(
                "9^",
                "9*",
                "1/",
                "1,",
                "1 ",
                "1(",
                "a(1",
                "1 (",
                "x^",
                "1 k",
                "1 million ",
                "50% of ",
            ),
        )
    ),
]


@pytest.mark.parametrize("text", NESTED, ids=range(len(NESTED)))
def test_the_longest_answers_are_read_in_no_time(text: str) -> None:
    started = time.perf_counter()
    for _ in range(10):
        states(text, Fraction(72), expressions=True)
        bare(text)
    assert time.perf_counter() - started < 10, "ten readings take milliseconds"


def test_code_in_an_answer_is_not_run(tmp_path: Path) -> None:
    target = tmp_path / "written"
    attack = f"open('{target}', 'w').close()"
    eval(attack)  # noqa: S307 - the attack works where an answer is evaluated
    assert target.exists()
    target.unlink()
    for wrapped in (
        attack,
        f"1 + {attack}",
        f"\\text{{{attack}}}",
        f"$ {attack} $",
        f"{attack} = 18",
    ):
        states(wrapped, Fraction(18), expressions=True)
    assert not target.exists()


CLASSES = "3a3c83718134dd083e069e480f6f9af82d8368512000c6008cc8443686bd8d01"
"""SHA-256 over what each character becomes, under every Python from 3.10 to 3.13."""


def test_characters_are_classed_alike_by_every_python() -> None:
    """By the newest tables a digit of Unicode 15 is one for Python 3.12 and nothing for 3.11."""
    classes = "".join(f"{without_dress(chr(code))!r};" for code in range(0x20000))
    assert hashlib.sha256(classes.encode()).hexdigest() == CLASSES
    assert unicodedata.category("\U00011f52") == ("Nd" if sys.version_info >= (3, 12) else "Cn")
    assert without_dress("7\U00011f52") is None
