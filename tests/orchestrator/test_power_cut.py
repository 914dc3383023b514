"""The power is cut once a worker has its receipt: what was accepted is still there after the next start."""

import asyncio
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.store import log
from orchestrator.store.blobs import Blobs
from orchestrator.store.files import LARGE_BYTES
from protocol.errors import NotFound
from tests.stage.place import Place


class Disk:
    """Knows what a disk would still have of a folder: bytes that were there at a sync, under names of synced folders."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self._folder = folder
        self._sizes: dict[int, int] = {}
        self._names: set[tuple[int, str, int]] = set()
        self._keep_all()
        for name in ("fdatasync", "fsync"):
            monkeypatch.setattr(f"orchestrator.store.files.os.{name}", self._keep)
        monkeypatch.setattr("orchestrator.store.log.os.sync", self._keep_all)

    @staticmethod
    def _entry(path: Path) -> tuple[int, str, int]:
        return (path.parent.stat().st_ino, path.name, path.stat().st_ino)

    def _keep(self, number: int) -> None:
        kept = os.fstat(number)
        self._sizes[kept.st_ino] = kept.st_size
        path = Path(f"/proc/self/fd/{number}").readlink()
        if path.is_dir():
            self._names |= {self._entry(entry) for entry in path.iterdir()}

    def _keep_all(self) -> None:
        for path in self._folder.rglob("*"):
            self._sizes[path.stat().st_ino] = path.stat().st_size
            self._names.add(self._entry(path))

    def cut(self) -> None:
        """Lose what was in memory alone."""
        for path in sorted(self._folder.rglob("*"), reverse=True):
            if self._entry(path) not in self._names:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            elif path.is_file():
                os.truncate(path, self._sizes.get(path.stat().st_ino, 0))


def end_all(monkeypatch: pytest.MonkeyPatch, *, boot: str = "") -> None:
    """Have all processes be gone that had a log, and with `boot` the machine be started anew."""
    monkeypatch.setattr(log, "_is_gone", lambda _: True)
    if boot:
        monkeypatch.setattr(log, "boot", lambda: boot)


@contextmanager
def cut_after(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Blobs]:
    """Cut the power at the end of a `with`; yields what is then opened on what is left."""
    url = place.services.config.blob_url
    disk, blobs = Disk(monkeypatch, Path(url.removeprefix("file://"))), Blobs(url)
    yield blobs
    disk.cut()
    end_all(monkeypatch, boot="another")
    place.call(blobs.require_writable)


def test_what_was_accepted_outlives_the_power(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = place.party("alice")
    with cut_after(place, monkeypatch) as blobs:
        taken = [alice.deliver(signed.lease) for signed in alice.leases(8)]
        large = place.upload(os.urandom(3 << 20))
    for receipt in taken:
        body = place.status(receipt.work_digest).body
        assert place.call(blobs.get, body)
    assert len(place.call(blobs.get, large.digest)) == large.size
    kept = place.call(blobs.names, f"journal/{place.run_id}/groups")
    assert len(kept) == len(taken) > 1, "with what restores a forgetful Redis"


@pytest.mark.parametrize("missing", ["fdatasync", "fsync", "mend"])
def test_without_the_syncs_or_the_log_it_is_lost(
    place: Place, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    alice = place.party("alice")
    with cut_after(place, monkeypatch) as blobs:
        if missing == "mend":
            monkeypatch.setattr("orchestrator.store.files.mend", lambda *_: [])
        else:
            monkeypatch.setattr("orchestrator.store.files.LOG_BYTES", -1)  # in a log of its own
            monkeypatch.setattr("orchestrator.store.log.end", lambda _: None)
            monkeypatch.setattr(f"orchestrator.store.files.os.{missing}", lambda _: None)
        receipt = alice.deliver(alice.leases()[0].lease)
    with pytest.raises(NotFound):
        place.call(blobs.get, place.status(receipt.work_digest).body)


def left(folder: Path) -> list[Path]:
    return list((folder / log.FOLDER).iterdir())


@pytest.mark.parametrize("end", [b"", b"\x09", b"\x04\0\0\0\x01\x02\x03\x04torn"])
def test_what_is_put_back_is_what_was_kept_last_whoever_kept_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: bytes
) -> None:
    async def keep() -> None:
        first, second = Blobs(f"file://{tmp_path}"), Blobs(f"file://{tmp_path}")
        await second.keep({"a/one": b"older", "a/two": b"older", "a/three": b"gone"})
        await first.keep({"a/one": b"newer", "a/four": b"whole"})
        await second.keep({"a/two": bytes(LARGE_BYTES + 1)})
        await second.drop(["a/three"])

    asyncio.run(keep())
    for path in left(tmp_path):
        path.write_bytes(path.read_bytes() + end)
    (tmp_path / "a/one").write_bytes(b"")
    (tmp_path / "a/four").unlink()
    (tmp_path / "a/three").write_bytes(b"its removal was lost")
    end_all(monkeypatch, boot="another")
    asyncio.run(Blobs(f"file://{tmp_path}").require_writable())
    found = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    assert found == {"one": b"newer", "two": bytes(LARGE_BYTES + 1), "four": b"whole"}
    assert len(left(tmp_path)) == 1, "the new process's own"


def test_a_process_that_died_changes_nothing_of_what_others_kept_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def keep(data: bytes) -> None:
        await Blobs(f"file://{tmp_path}").keep({"a/one": data})

    asyncio.run(keep(b"older"))
    (tmp_path / "a/one").write_bytes(b"newer")
    end_all(monkeypatch)
    asyncio.run(Blobs(f"file://{tmp_path}").require_writable())
    assert (tmp_path / "a/one").read_bytes() == b"newer"


def test_a_log_is_left_to_the_process_that_holds_it(tmp_path: Path) -> None:
    async def keep() -> None:
        held = [Blobs(f"file://{tmp_path}") for _ in range(3)]
        for number, blobs in enumerate(held):
            await blobs.keep({f"a/{number}": b"kept"})
            assert len(left(tmp_path)) == number + 1

    asyncio.run(keep())


def test_a_log_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.store.files.LOG_BYTES", 1 << 12)

    async def keep() -> None:
        blobs, names = Blobs(f"file://{tmp_path}"), set[str]()
        while len(names) < 4:  # each new one once the one before is in its files
            await blobs.add(os.urandom(1 << 11))
            names |= {path.name for path in left(tmp_path)}

    asyncio.run(keep())
    assert sum(path.stat().st_size for path in left(tmp_path)) < sum(
        path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()
    )
