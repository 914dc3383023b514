"""A demo clears what an earlier demo left, and nothing that a person keeps under the same name."""

from pathlib import Path

import pytest

from protocol.user_error import UserError
from rollcall.demo.run import fresh_folder


def test_what_an_earlier_demo_left_is_cleared(tmp_path: Path) -> None:
    folder = fresh_folder(tmp_path / "market")
    (folder / "chain").mkdir()
    assert not (fresh_folder(folder) / "chain").exists()


def test_a_folder_of_somebody_elses_is_left_alone(tmp_path: Path) -> None:
    kept = tmp_path / "market" / "thesis.txt"
    kept.parent.mkdir()
    kept.write_text("years of work")
    with pytest.raises(UserError, match="--report"):
        fresh_folder(kept.parent)
    assert kept.read_text() == "years of work"
