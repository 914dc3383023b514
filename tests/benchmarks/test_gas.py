"""The gas benchmark: its bar, and that it runs through everything on a small epoch."""

import re
from pathlib import Path

import pytest

from benchmarks.gas.__main__ import PAGE, measure
from benchmarks.gas.page import page
from benchmarks.gas.rows import MOST_ABOVE, Row
from tests.stage.anvil import needs_anvil

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("gas", "is_too_much"), [(1_050, False), (1_051, True), (1, False)])
def test_a_figure_is_marked_when_more_than_a_twentieth_above(gas: int, is_too_much: bool) -> None:
    assert MOST_ABOVE == 1.05
    assert Row("x", gas, 1_000).is_too_much is is_too_much
    assert Row("x", gas).is_too_much is False


@needs_anvil
@pytest.mark.slow
def test_every_operation_is_weighed_and_none_is_above_its_bar() -> None:
    rows, designs = measure(num_contributions=400, num_workers=20)
    assert len({row.operation for row in rows}) == len(rows) >= 21
    assert [row.operation for row in rows if row.is_too_much] == []
    ours, each, batched, _peer = designs
    assert ours.paid < batched.paid < each.paid
    # The committed page is of a larger epoch, and says the same of it but for the figures.
    assert words(page(rows, designs, 400, 20)) == words((ROOT / PAGE).read_text("utf-8"))


def words(text: str) -> str:
    return re.sub(r"\d[\d,.]*", "#", text)
