"""Files are whole or not there; of a damaged one what stands is read, and it is kept aside."""

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from local.files import (
    NotWritten,
    append,
    mended_lines,
    numbered,
    read_lines,
    set_aside,
    write_whole,
)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "totals.json"
    write_whole(path, "first")
    write_whole(path, b"second")
    assert path.read_bytes() == b"second"
    assert names_in(tmp_path) == ["totals.json"]


def test_a_file_that_does_not_fit_leaves_the_one_before(tmp_path: Path) -> None:
    """In a process of its own, whose files may not grow beyond a kilobyte."""
    code = f"""
import resource, signal
from pathlib import Path
from local.files import NotWritten, write_whole
path = Path({str(tmp_path / "book")!r})
write_whole(path, b"whole")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, {resource.RLIM_INFINITY}))
try:
    write_whole(path, bytes(5_000))
except OSError as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"NotWritten {tmp_path / 'book'} cannot be written")
    assert done.stdout.count("\n") == 1
    assert (tmp_path / "book").read_bytes() == b"whole"
    assert names_in(tmp_path) == ["book"]


def test_a_place_that_takes_nothing_is_named_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(NotWritten, match="cannot be written"):
        write_whole(tmp_path / "missing" / "book", b"x")


def test_numbers_are_read_from_names_that_have_one(tmp_path: Path) -> None:
    names = (
        "version-00000010",
        "version-00000002",
        "version-00000002.bak",
        "version-",
        "version-x",
    )
    for name in (*names, "version-²", "other-1"):
        (tmp_path / name).mkdir()
    assert numbered(tmp_path, "version-") == {
        2: tmp_path / "version-00000002",
        10: tmp_path / "version-00000010",
    }


def test_what_is_set_aside_never_takes_the_place_of_what_was(tmp_path: Path) -> None:
    path = tmp_path / "book"
    for text in ("one", "two", "three"):
        path.write_text(text)
        set_aside(path)
    kept = {p.name: p.read_text() for p in tmp_path.iterdir() if p != path}
    assert kept == {"book.damaged": "one", "book.damaged-2": "two", "book.damaged-3": "three"}


@pytest.fixture
def usual_depth() -> Iterator[None]:
    """As deep as programs let Python recurse: a library of the tests lets it overflow its stack."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(1000)
    yield
    sys.setrecursionlimit(before)


@pytest.mark.parametrize("odd", [b"{", b"", b"\xff\xff", b'{"n": 1}{', bytes(8), b"[" * 100_000])
@pytest.mark.usefixtures("usual_depth")
def test_an_owner_goes_on_with_the_lines_that_stand_and_keeps_the_file(
    tmp_path: Path, odd: bytes
) -> None:
    path = tmp_path / "book.jsonl"
    damaged = b'{"n": 1}\n' + odd + b'\n{"n": 2}\n'
    path.write_bytes(damaged)
    assert read_lines(path, json.loads) == [{"n": 1}, {"n": 2}]
    assert path.read_bytes() == damaged, "a reader changes nothing"
    with capture_logs() as said:
        assert mended_lines(path, json.loads) == [{"n": 1}, {"n": 2}]
    assert [(entry["event"], entry["file"]) for entry in said] == [("file is damaged", str(path))]
    assert (tmp_path / "book.jsonl.damaged").read_bytes() == damaged
    append(path, b'{"n": 3}\n')
    with capture_logs() as said:
        assert mended_lines(path, json.loads) == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert not said, "it is told once"


def test_the_line_that_a_crash_cut_short_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "book.jsonl"
    path.write_bytes(b'{"n": 1}\n{"n": ')
    with capture_logs() as said:
        assert mended_lines(path, json.loads) == [{"n": 1}]
    assert not said
    assert path.read_bytes() == b'{"n": 1}\n'
    assert names_in(tmp_path) == ["book.jsonl"]


def test_no_file_is_no_lines_and_none_is_made(tmp_path: Path) -> None:
    assert mended_lines(tmp_path / "book", json.loads) == []
    assert names_in(tmp_path) == []
