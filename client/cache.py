"""Content-addressed bytes on this machine's disk, so that nothing is downloaded twice.

A file is named by its content's digest, written beside and renamed, and checked again when read: a
half-written or damaged file is a miss, never an answer. A full cache drops its oldest files.
"""

import threading
from pathlib import Path

import structlog

from local.files import NotWritten, write_whole
from protocol.canonical import content_digest


class ContentCache:
    """One folder of blobs, shared by the threads of one process."""

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob("*.part"):
            leftover.unlink()
        self._size = sum(path.stat().st_size for path in folder.iterdir())

    def get(self, digest: bytes) -> bytes | None:
        """Return the bytes with this digest, or None if they are not here intact."""
        path = self._folder / digest.hex()
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        if content_digest(data) != digest:
            path.unlink(missing_ok=True)
            return None
        return data

    def put(self, digest: bytes, data: bytes) -> None:
        """Keep bytes that the caller has checked against `digest`."""
        with self._lock:
            path = self._folder / digest.hex()
            if path.exists() or len(data) > self._max_bytes:
                return
            try:
                write_whole(path, data)
            except NotWritten as error:
                # It may be full for the moment: the bytes are in use all the same.
                structlog.get_logger().warning("nothing is cached", reason=str(error))
                return
            self._size += len(data)
            if self._size > self._max_bytes:
                self._evict()

    def _evict(self) -> None:
        entries = sorted(
            (stat.st_mtime_ns, stat.st_size, path)
            for path in self._folder.iterdir()
            for stat in [path.stat()]
        )
        self._size = sum(size for _, size, _ in entries)
        for _, size, path in entries:
            if self._size <= self._max_bytes:
                break
            path.unlink()
            self._size -= size
