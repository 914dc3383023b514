"""The doors to Redis and to the blob store: shared round trips, and what is said where they fail."""

import asyncio
import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from orchestrator.store import keys
from orchestrator.store.blobs import Blobs
from orchestrator.store.log import FOLDER
from orchestrator.store.outage import Away
from orchestrator.store.queue import Queue
from orchestrator.store.runs import RunStore
from protocol.canonical import content_digest
from protocol.errors import Busy, TooManyRequests
from protocol.user_error import UserError


def files_of(folder: Path) -> list[Path]:
    """Return the files of a folder but its log."""
    return [path for path in folder.rglob("*") if path.is_file() and path.parent.name != FOLDER]


async def ask(queue: Queue, who: str, burst: int = 1) -> None:
    await RunStore(queue).admit_request(who, 1, rate=1.0, burst=burst, now=1_000.0)


def test_scripts_that_share_a_trip_get_each_their_own_answer(redis_url: str) -> None:
    async def run() -> list[BaseException | None]:
        queue = Queue(redis_url)
        await ask(queue, "doors")  # a script that Redis has not seen is sent again, out of order
        names = [f"doors-{n % 3}" for n in range(60)]
        found = await asyncio.gather(*(ask(queue, n) for n in names), return_exceptions=True)
        await queue.close()
        return found

    found = asyncio.run(run())
    assert found[:3] == [None] * 3, "each of three buckets holds one request"
    refused = found[3:]
    assert all(isinstance(error, TooManyRequests) for error in refused)
    assert all(f"doors-{n % 3}" in str(error) for n, error in enumerate(refused))


def test_scripts_that_redis_forgot_are_sent_again(redis_url: str) -> None:
    async def run() -> None:
        queue = Queue(redis_url)
        await ask(queue, "forgotten", burst=9)
        await queue.call("SCRIPT FLUSH")
        await asyncio.gather(*(ask(queue, "forgotten", burst=9) for _ in range(8)))
        with pytest.raises(TooManyRequests):
            await ask(queue, "forgotten", burst=9)
        await queue.call("DEL", keys.bucket("forgotten"))
        await queue.close()

    asyncio.run(run())


def test_all_that_wait_for_a_redis_that_is_gone_are_told_to_come_back(tmp_path: Path) -> None:
    async def run() -> list[BaseException | None]:
        queue = Queue(f"unix://{tmp_path}/none.sock")
        found = await asyncio.gather(*(ask(queue, "a") for _ in range(5)), return_exceptions=True)
        assert isinstance((await asyncio.gather(ask(queue, "b"), return_exceptions=True))[0], Busy)
        await queue.close()
        return found

    assert all(isinstance(error, Busy) for error in asyncio.run(run()))


def test_a_queue_that_is_closed_leaves_nobody_waiting(tmp_path: Path) -> None:
    async def run() -> None:
        queue = Queue(f"unix://{tmp_path}/none.sock")
        asked = asyncio.create_task(ask(queue, "a"))
        await asyncio.sleep(0)
        await queue.close()
        with pytest.raises(Busy):
            await asyncio.wait_for(asked, 5)

    asyncio.run(run())


@pytest.mark.parametrize("size", [0, 1, 1 << 16, (1 << 22) + 1])
def test_blobs_of_every_size_are_read_back_and_leave_no_other_file(
    tmp_path: Path, size: int
) -> None:
    async def run() -> None:
        blobs, data = Blobs(f"file://{tmp_path}"), os.urandom(size)
        for _ in range(2):
            assert await blobs.add(data) == content_digest(data)
        assert await blobs.get(content_digest(data)) == data

    asyncio.run(run())
    assert len(files_of(tmp_path)) == 1


def test_a_folder_that_cannot_be_written_is_busy_and_holds_no_rest(tmp_path: Path) -> None:
    async def run() -> None:
        blobs, data = Blobs(f"file://{tmp_path}/store"), b"group"
        digest = content_digest(data)
        # A file where the folder should be: refused to every user, root included.
        (tmp_path / "store" / digest.hex()[:2]).write_bytes(b"")
        with pytest.raises(Busy):
            await blobs.add(data)
        assert [path.name for path in files_of(tmp_path / "store")] == [digest.hex()[:2]]

    asyncio.run(run())


@pytest.mark.parametrize(
    "place", ["/proc/blobs", "/dev/null/blobs", "{folder}/file", "{folder}/file/in"]
)
def test_a_place_that_takes_no_blobs_is_refused_in_a_line(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    url = f"file://{place.format(folder=tmp_path)}"

    async def begin() -> None:
        await Blobs(url).require_writable()

    with pytest.raises(UserError) as found:
        asyncio.run(begin())
    assert str(found.value).startswith(f"blob_url = {url} takes no blobs (")
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("url", ["ftp://somewhere/blobs", "blobs", "", "s3://"])
def test_a_blob_url_that_is_none_is_refused_in_a_line(url: str) -> None:
    with pytest.raises(UserError, match="name a folder that this account may write") as found:
        Blobs(url)
    assert "\n" not in str(found.value)


def test_a_place_that_takes_blobs_is_left_as_it_was(tmp_path: Path) -> None:
    asyncio.run(Blobs(f"file://{tmp_path}/new").require_writable())
    assert files_of(tmp_path / "new") == []


def test_a_blob_store_that_takes_nothing_is_told_once_and_when_it_is_back(tmp_path: Path) -> None:
    async def run() -> None:
        blobs, data = Blobs(f"file://{tmp_path}"), b"group"
        way = tmp_path / content_digest(data).hex()[:2]
        way.write_bytes(b"")
        for _ in range(50):
            with pytest.raises(Away, match="nothing can be kept or read"):
                await blobs.add(data)
        way.unlink()
        await blobs.add(data)

    with capture_logs() as said:
        asyncio.run(run())
    events = [entry["event"] for entry in said]
    assert events == [
        "blob store does not serve: trying again",
        "blob store answers again after 0 s",
    ]
    assert said[0]["place"] == f"file://{tmp_path}"
    assert said[0]["remedy"] == "make room, or check blob_url"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("file://relative/blobs", "a file:// URL of the host relative: it begins with file:///"),
        ("memory:///", "memory is emptied by a restart"),
        ("blobs", "relative URL without a base"),
        ("", "relative URL without a base"),
    ],
)
def test_a_store_that_would_keep_nothing_where_it_is_looked_for_is_refused(
    url: str, why: str
) -> None:
    with pytest.raises(UserError, match="takes no blobs") as told:
        Blobs(url)
    assert why in str(told.value)


def test_a_librarys_view_of_its_parts_is_no_part_of_the_line() -> None:
    async def look() -> None:
        await Blobs("http://127.0.0.1:1/blobs").require_writable()

    with pytest.raises(UserError, match="takes no blobs") as told, capture_logs():
        asyncio.run(look())
    assert "Debug source" not in str(told.value)
