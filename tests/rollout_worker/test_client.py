"""The client against a real socket: retries, tokens, resumed and refused downloads."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from client.cache import ContentCache
from client.connection import Connection, Later, Unreachable
from client.counters import Counters
from client.public import BlobMismatch
from client.retry import Backoff, RetryConfig
from client.worker import WorkerRoutes
from protocol.canonical import content_digest
from protocol.errors import NotFound, TokenExpired, TooLarge
from protocol.messages import LeaseRequest
from tests.stage.policies import DOMAIN, RUN, Server, Shelf, serving, shelf_of

WORKER = bytes([7]) * 32
REQUEST = LeaseRequest(count=1)
FAST = RetryConfig(first_seconds=0.01, most_seconds=0.05)


@contextmanager
def market_at(url: str, folder: Path) -> Iterator[WorkerRoutes]:
    counters = Counters(folder, "worker")
    connection = Connection(url, WORKER, chain_id=DOMAIN.chain_id, counters=counters, retry=FAST)
    cache = ContentCache(folder / "cache", max_bytes=1 << 20)
    with WorkerRoutes(connection, cache, counters) as routes:
        yield routes


@pytest.fixture
def shelf() -> Shelf:
    return shelf_of(1)


@pytest.fixture
def server(shelf: Shelf) -> Iterator[Server]:
    with serving(shelf) as running:
        yield running


@pytest.fixture
def routes(server: Server, tmp_path: Path) -> Iterator[WorkerRoutes]:
    with market_at(server.url, tmp_path) as opened:
        yield opened


def test_a_busy_orchestrator_is_asked_again(server: Server, routes: WorkerRoutes) -> None:
    server.busy = 3
    assert routes.manifest(RUN, 0) == server.shelf.manifests[0]
    assert len(server.requests) == 4


def test_a_lost_orchestrator_is_waited_for_until_the_caller_gives_up(tmp_path: Path) -> None:
    asked = iter([False, False, False, True])
    with (
        market_at("http://127.0.0.1:9", tmp_path) as routes,
        pytest.raises(Unreachable, match="gave up"),
    ):
        routes.manifest(RUN, 0, give_up=lambda: next(asked))


def test_a_refusal_comes_back_as_itself_and_is_not_repeated(
    server: Server, routes: WorkerRoutes
) -> None:
    with pytest.raises(NotFound):
        routes.manifest(RUN, 99)
    assert len(server.requests) == 1


def test_an_expired_token_is_replaced_once(server: Server, routes: WorkerRoutes) -> None:
    assert routes.lease(RUN, REQUEST) == Later(0.25)
    server.dead_tokens.add("token-1")
    assert routes.lease(RUN, REQUEST) == Later(0.25)
    assert server.sessions == 2


def test_a_token_that_is_always_refused_ends_in_the_refusal(
    server: Server, routes: WorkerRoutes
) -> None:
    server.dead_tokens.update({"token-1", "token-2", "token-3"})
    with pytest.raises(TokenExpired):
        routes.lease(RUN, REQUEST)
    assert server.sessions == 2


def test_a_broken_download_goes_on_where_it_stopped(server: Server, routes: WorkerRoutes) -> None:
    data = random.Random(0).randbytes(300_000)
    digest = content_digest(data)
    server.shelf.blobs[digest] = data
    server.cut_after[digest] = 200_000
    assert routes.blob(digest, max_bytes=len(data), kind="patch") == data
    [asked] = server.ranges
    assert 0 < int(asked.removeprefix("bytes=").removesuffix("-")) <= 200_000


def test_what_was_downloaded_once_is_read_from_disk(server: Server, routes: WorkerRoutes) -> None:
    data = b"weights" * 100
    digest = content_digest(data)
    server.shelf.blobs[digest] = data
    routes.blob(digest, max_bytes=1_000, kind="patch")
    routes.blob(digest, max_bytes=1_000, kind="patch")
    assert len(server.requests) == 1


def test_a_damaged_file_in_the_cache_is_fetched_again(
    server: Server, routes: WorkerRoutes, tmp_path: Path
) -> None:
    data = b"weights" * 100
    digest = content_digest(data)
    server.shelf.blobs[digest] = data
    routes.blob(digest, max_bytes=1_000, kind="patch")
    (tmp_path / "cache" / digest.hex()).write_bytes(b"rotten")
    assert routes.blob(digest, max_bytes=1_000, kind="patch") == data


def test_other_bytes_than_the_digest_names_are_refused(
    server: Server, routes: WorkerRoutes
) -> None:
    digest = content_digest(b"promised")
    server.shelf.blobs[digest] = b"served instead"
    with pytest.raises(BlobMismatch):
        routes.blob(digest, max_bytes=1_000, kind="patch")


def test_a_blob_beyond_its_stated_size_is_cut_off(server: Server, routes: WorkerRoutes) -> None:
    data = bytes(100_000)
    digest = content_digest(data)
    server.shelf.blobs[digest] = data
    with pytest.raises(TooLarge):
        routes.blob(digest, max_bytes=99_999, kind="patch")
    assert routes.blob(digest, max_bytes=100_000, kind="patch") == data


def test_a_full_cache_drops_the_oldest(tmp_path: Path) -> None:
    cache = ContentCache(tmp_path, max_bytes=2_500)
    blobs = [bytes([i]) * 1_000 for i in range(3)]
    for blob in blobs:
        cache.put(content_digest(blob), blob)
    found = [cache.get(content_digest(blob)) is not None for blob in blobs]
    assert found == [False, True, True]


def test_delays_double_with_jitter_up_to_the_cap() -> None:
    config = RetryConfig(first_seconds=1.0, most_seconds=4.0)
    delays = Backoff(config, random.Random(1)).delays()
    drawn = [next(delays) for _ in range(5)]
    for delay, ceiling in zip(drawn, [1, 2, 4, 4, 4], strict=True):
        assert ceiling / 2 <= delay <= ceiling
