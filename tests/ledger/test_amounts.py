"""Amounts: exact both ways, and what is not one is refused with a reason."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.amounts import MOST, Token, symbol_of
from protocol.user_error import UserError

TEST = Token("0x" + "11" * 20, "TEST", 18)


@pytest.mark.parametrize(
    ("text", "amount"),
    [("1.5", 15 * 10**17), ("1", 10**18), ("1e-18", 1), ("1_000", 10**21), ("0.10", 10**17)],
)
def test_an_amount_is_read_as_it_is_written(text: str, amount: int) -> None:
    assert TEST.parse(text) == amount


@given(st.integers(1, MOST), st.integers(0, 30))
def test_what_is_shown_is_read_back_exactly(amount: int, decimals: int) -> None:
    token = Token("", "T", decimals)
    shown = token.show(amount).removesuffix(" T").replace(",", "")
    assert token.parse(shown) == amount


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not an amount"),
        ("1,5", "not an amount"),
        ("ten", "not an amount"),
        ("nan", "above zero"),
        ("inf", "above zero"),
        ("-1", "above zero"),
        ("0", "above zero"),
        ("1e-19", "18 decimals"),
        ("1e999999999", "more than the ledger"),
        (str(MOST), "more than the ledger"),
    ],
)
def test_what_is_no_amount_is_refused(text: str, why: str) -> None:
    with pytest.raises(UserError, match=why):
        TEST.parse(text)


def test_the_largest_amount_is_taken_and_the_next_is_not() -> None:
    wei = Token("", "wei", 0)
    assert wei.parse(str(MOST)) == MOST
    with pytest.raises(UserError):
        wei.parse(str(MOST + 1))


def test_a_hostile_symbol_is_made_harmless() -> None:
    assert symbol_of("[red]\x1b[2J\n" + "A" * 500) == "red2JAAAAAAA"
    assert symbol_of("\x00") == "tokens"
