"""The power is cut once a worker has its receipt: what was accepted is still there."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from protocol.errors import NotFound
from tests.stage.place import Place


class Disk:
    """Knows what a disk would still have of a folder: synced bytes, under names of synced folders."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self._folder = folder
        self._kept: set[int] = {path.stat().st_ino for path in folder.rglob("*")}
        self._names: set[tuple[int, str, int]] = {self._entry(path) for path in folder.rglob("*")}
        for name in ("fdatasync", "fsync"):
            monkeypatch.setattr(f"orchestrator.store.files.os.{name}", self._keep)

    @staticmethod
    def _entry(path: Path) -> tuple[int, str, int]:
        return (path.parent.stat().st_ino, path.name, path.stat().st_ino)

    def _keep(self, number: int) -> None:
        self._kept.add(os.fstat(number).st_ino)
        path = Path(f"/proc/self/fd/{number}").readlink()
        if path.is_dir():
            self._names |= {self._entry(entry) for entry in path.iterdir()}

    def cut(self) -> None:
        """Lose what was in memory alone."""
        for path in sorted(self._folder.rglob("*"), reverse=True):
            if self._entry(path) not in self._names:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            elif path.is_file() and path.stat().st_ino not in self._kept:
                path.write_bytes(b"")


@contextmanager
def cut_after(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Cut the power at the end of a `with`."""
    disk = Disk(monkeypatch, Path(place.services.config.blob_url.removeprefix("file://")))
    yield
    disk.cut()


def test_what_was_accepted_outlives_the_power(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, blobs = place.party("alice"), place.services.blobs
    with cut_after(place, monkeypatch):
        taken = [alice.deliver(signed.lease) for signed in alice.leases(8)]
        large = place.upload(os.urandom(3 << 20))
    for receipt in taken:
        body = place.status(receipt.work_digest).body
        assert place.call(blobs.get, body)
    assert len(place.call(blobs.get, large.digest)) == large.size
    kept = place.call(blobs.names, f"journal/{place.run_id}/groups")
    assert len(kept) == len(taken) > 1, "with what restores a forgetful Redis"


@pytest.mark.parametrize("missing", ["fdatasync", "fsync"])
def test_without_the_syncs_it_is_lost(
    place: Place, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    alice = place.party("alice")
    with cut_after(place, monkeypatch):
        monkeypatch.setattr(f"orchestrator.store.files.os.{missing}", lambda _: None)
        receipt = alice.deliver(alice.leases()[0].lease)
    body = place.status(receipt.work_digest).body
    if missing == "fsync":
        with pytest.raises(NotFound):
            place.call(place.services.blobs.get, body)
    else:
        assert place.call(place.services.blobs.get, body) == b""
