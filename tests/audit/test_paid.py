"""The index of what was paid: a place that takes no file is one line, and a damaged index is made anew."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from audit.paid import PaidIndex
from local.files import NotWritten


@pytest.mark.parametrize("amiss", ["a folder", "a link to nowhere"])
def test_a_place_that_takes_no_file_is_one_line(tmp_path: Path, amiss: str) -> None:
    path = tmp_path / "paid.sqlite"
    if amiss == "a folder":
        path.mkdir()
    else:
        path.symlink_to("/nowhere/paid.sqlite")
    with pytest.raises(NotWritten, match=r"paid\.sqlite cannot be written .*: free space"):
        PaidIndex(path)


@pytest.mark.parametrize("content", [b"junk" * 100, b"SQLite format 3\x00", b"null\n"])
def test_a_damaged_index_is_made_anew(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "paid.sqlite"
    path.write_bytes(content)
    with capture_logs() as said:
        assert PaidIndex(path).is_empty
    assert [entry["event"] for entry in said] == ["file is damaged"]
