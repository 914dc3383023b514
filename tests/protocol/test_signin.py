"""Sign-in texts are read in one form only."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Malformed
from protocol.signin import SignIn, parse

GOOD = SignIn(
    domain="127.0.0.1:8000",
    address="0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf",
    uri="http://127.0.0.1:8000",
    chain_id=31337,
    nonce="4fWk9q2Zp1aX",
    issued_at="2026-01-02T03:04:05Z",
)


def test_a_text_reads_back_as_what_wrote_it() -> None:
    assert parse(GOOD.text()) == GOOD


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Version: 1", "Version: 2"),
        ("This costs nothing", "This costs everything"),
        ("Nonce: 4fWk9q2Zp1aX", "Nonce: short"),
        ("Chain ID: 31337", "Chain ID: 0x1"),
        ("05Z", "05+02:00"),
        ("0x7E5F", "0x7E5"),
        ("127.0.0.1:8000 wants", "evil.example/ wants"),
    ],
)
def test_any_other_text_is_refused(old: str, new: str) -> None:
    text = GOOD.text()
    assert old in text
    with pytest.raises(Malformed):
        parse(text.replace(old, new, 1))


def test_lines_after_the_last_are_refused() -> None:
    with pytest.raises(Malformed):
        parse(GOOD.text() + "\nResources:\n- https://example.org")


@given(st.text(max_size=400))
def test_no_text_makes_it_crash(text: str) -> None:
    with pytest.raises(Malformed):
        parse(text)
