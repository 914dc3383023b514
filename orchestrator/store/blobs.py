"""The only door to object storage: content-addressed bytes under their SHA-256.

A folder or any S3-compatible store, by URL. Blobs are immutable, so writing the same one twice is
harmless, and no reader ever sees half of one. What was put is kept before anybody is told (`files.py`).
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlparse

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from orchestrator.store.files import Files
from orchestrator.store.outage import Away, Outage
from protocol.canonical import content_digest
from protocol.errors import Busy, Malformed, NotFound
from protocol.user_error import UserError

PROBE = f"probe-{os.getpid()}"
"""Put and removed when the orchestrator starts; several copies may share a store."""


class Blobs:
    """Put and get by digest."""

    def __init__(self, url: str) -> None:
        parsed = urlparse(url)
        folder = Path(parsed.path) if parsed.scheme == "file" else None
        self._files = Files(folder) if folder is not None else None
        self._store: ObjectStore
        self._place = f"{parsed.scheme}://{parsed.netloc.rpartition('@')[2]}{parsed.path}"
        self._outage = Outage("blob store", self._place)
        try:
            if parsed.scheme == "memory":
                raise ValueError("memory is emptied by a restart")
            if folder is not None:
                if parsed.netloc not in ("", "localhost"):
                    raise ValueError(
                        f"a file:// URL of the host {parsed.netloc}: it begins with file:///"
                    )
                folder.mkdir(parents=True, exist_ok=True)
                self._store = LocalStore(folder, mkdir=True)
            else:
                self._store = from_url(url)
        except (OSError, ValueError, BaseError) as error:
            raise self._unfit(error) from error

    async def require_writable(self) -> None:
        """Raise `UserError` unless a blob can be put, read and removed."""
        try:
            await self.keep({PROBE: PROBE.encode()})
            await self._get(PROBE, "")
            await self.drop([PROBE])
        except (Busy, NotFound) as error:
            raise self._unfit(error.__cause__ or error) from error

    def _unfit(self, error: BaseException) -> UserError:
        return UserError(
            f"blob_url = {self._place} takes no blobs ({_first(error)[:300]}): name a folder that "
            "this account may write (file:///…) with room on its disk, or s3://bucket/prefix"
        )

    async def put(self, digest: bytes, data: bytes) -> None:
        """Store bytes under their digest; raise `Malformed` where they are others."""
        found = content_digest(data)
        if found != digest:
            raise Malformed(
                f"the body's SHA-256 is 0x{found.hex()}, not 0x{digest.hex()}: send the exact bytes"
            )
        await self.add(data)

    async def add(self, data: bytes) -> bytes:
        """Store bytes and return their digest."""
        digest = content_digest(data)
        await self.keep({path_of(digest): data})
        return digest

    async def keep(self, named: Mapping[str, bytes]) -> None:
        """Store bytes under names of the caller's, in place of what was there; the first is there before the next."""
        try:
            if self._files is not None:
                await self._files.keep(named)
            else:
                for name, data in named.items():
                    await obstore.put_async(self._store, name, data, use_multipart=False)
        except (BaseError, OSError) as error:
            raise self._away(error) from error
        self._outage.over()

    async def names(self, folder: str) -> list[str]:
        """Return what is kept in a folder, each with the folder before it, in order."""
        found: list[str] = []
        try:
            async for page in obstore.list(self._store, folder):
                found += [entry["path"] for entry in page if not _is_torn(entry["path"])]
        except BaseError as error:
            raise self._away(error) from error
        return sorted(found)

    async def kept(self, name: str) -> bytes:
        return await self._get(name, f"{name} is not among the blobs")

    async def drop(self, names: list[str]) -> None:
        """Remove what was kept under names; those that are gone already are no error."""
        try:
            if self._files is not None:
                await self._files.keep(dict.fromkeys(names))
            else:
                with suppress(FileNotFoundError):
                    await obstore.delete_async(self._store, names)
        except (BaseError, OSError) as error:
            raise self._away(error) from error

    async def _get(self, path: str, missing: str) -> bytes:
        try:
            result = await obstore.get_async(self._store, path)
            return bytes(await result.bytes_async())
        except FileNotFoundError as error:
            raise NotFound(missing) from error
        except BaseError as error:
            raise self._away(error) from error

    def _away(self, error: Exception) -> Away:
        return self._outage.refusal(
            "nothing can be kept or read", "make room, or check blob_url", detail=_first(error)
        )

    async def remove(self, digest: bytes) -> None:
        """Remove a blob that no record names."""
        await self.drop([path_of(digest)])

    async def get(self, digest: bytes) -> bytes:
        """Return a blob; raise `NotFound` where there is none."""
        return await self._get(path_of(digest), _missing(digest))

    async def get_range(self, digest: bytes, start: int, end: int) -> bytes:
        """Return bytes [start, end) of a blob."""
        try:
            return bytes(
                await obstore.get_range_async(self._store, path_of(digest), start=start, end=end)
            )
        except FileNotFoundError as error:
            raise NotFound(_missing(digest)) from error
        except BaseError as error:
            raise self._away(error) from error

    async def size(self, digest: bytes) -> int | None:
        """Return a blob's size, or None where there is none."""
        try:
            found = await obstore.head_async(self._store, path_of(digest))
        except FileNotFoundError:
            return None
        except BaseError as error:
            raise self._away(error) from error
        return int(found["size"])


def _first(error: BaseException) -> str:
    """Return what an error says, without the library's own view of its parts after it."""
    return " ".join(str(error).partition("Debug source:")[0].split())


def path_of(digest: bytes) -> str:
    """Return a blob's name. Spread blobs over 256 folders: one flat folder of a million files is slow to list."""
    name = digest.hex()
    return f"{name[:2]}/{name}"


def _is_torn(path: str) -> bool:
    """Return whether a crash left this behind: a file has a # in its name until it is whole."""
    return "#" in path or "%23" in path


def _missing(digest: bytes) -> str:
    return f"no blob 0x{digest.hex()} here: ask for a digest that a manifest names"
