"""The client against a real socket: retries, tokens, resumed and refused downloads."""

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from client.cache import ContentCache
from client.connection import Later
from client.public import BlobMismatch
from client.retry import Backoff, RetryConfig, Unreachable
from client.worker import WorkerRoutes
from protocol.canonical import content_digest
from protocol.errors import Busy, NotFound, TokenExpired, TooLarge
from protocol.messages import LeaseRequest, Leases
from protocol.policies.manifest import SignedManifest
from tests.stage.front import Answered, Asked, Fault, Front, blob_path, facing, refusal
from tests.stage.ground import Ground
from tests.stage.place import Place, opened
from tests.stage.policies import routes_to
from tests.stage.world import Running

REQUEST = LeaseRequest(count=1)
BUSY = refusal(Busy("later"))


@pytest.fixture(scope="module")
def served(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A market whose clock is this machine's, as the client's is."""
    folder = tmp_path_factory.mktemp("served")
    with opened(
        Ground.build(Running()), redis_server + "?db=4", folder, max_worker_leases=64
    ) as place:
        yield place


@pytest.fixture
def front(served: Place) -> Iterator[Front]:
    with facing(served) as running:
        yield running


@pytest.fixture
def routes(front: Front, tmp_path: Path) -> Iterator[WorkerRoutes]:
    with routes_to(front.url, tmp_path) as opened:
        yield opened


def sessions(front: Front) -> int:
    return sum(asked.path == "/v1/session" for asked in front.requests)


def expiring(times: int) -> Fault:
    """Refuse tokens as expired so many times."""
    left = iter([True] * times)

    def fault(asked: Asked, _answered: Answered | None) -> Answered | None:
        is_dead = "Authorization" in asked.headers and next(left, False)
        return refusal(TokenExpired("sign in again")) if is_dead else None

    return fault


def test_a_busy_orchestrator_is_asked_again(front: Front, routes: WorkerRoutes) -> None:
    front.fault = lambda _asked, _: BUSY if len(front.requests) <= 3 else None
    found = front.place.get(front.place.path("policies/0")).content
    assert routes.manifest(front.place.run_id, 0) == SignedManifest.from_json(found)
    assert len(front.requests) == 4


def test_a_lost_orchestrator_is_waited_for_until_the_caller_gives_up(tmp_path: Path) -> None:
    asked = iter([False, False, False, True])
    with (
        routes_to("http://127.0.0.1:9", tmp_path) as routes,
        pytest.raises(Unreachable, match="gave up"),
    ):
        routes.manifest(1, 0, give_up=lambda: next(asked))


def test_a_refusal_comes_back_as_itself_and_is_not_repeated(
    front: Front, routes: WorkerRoutes
) -> None:
    with pytest.raises(NotFound):
        routes.manifest(front.place.run_id, 99)
    assert len(front.requests) == 1


def test_an_expired_token_is_replaced_once(front: Front, routes: WorkerRoutes) -> None:
    run_id = front.place.run_id
    assert isinstance(routes.lease(run_id, REQUEST), Leases)
    front.fault = expiring(1)
    assert isinstance(routes.lease(run_id, REQUEST), Leases)
    assert sessions(front) == 2


def test_an_orchestrator_that_has_no_work_says_when_to_come_back(
    front: Front, routes: WorkerRoutes
) -> None:
    while isinstance(answer := routes.lease(front.place.run_id, REQUEST), Leases):
        pass
    assert answer == Later(0.25)


def test_a_token_that_is_always_refused_ends_in_the_refusal(
    front: Front, routes: WorkerRoutes
) -> None:
    front.fault = expiring(9)
    with pytest.raises(TokenExpired):
        routes.lease(front.place.run_id, REQUEST)
    assert sessions(front) == 2


def test_a_broken_download_goes_on_where_it_stopped(front: Front, routes: WorkerRoutes) -> None:
    data = random.Random(0).randbytes(300_000)
    digest = content_digest(data)
    front.place.upload(data)

    def cut_first(_asked: Asked, answered: Answered | None) -> Answered | None:
        return replace(answered, cut=200_000) if answered and len(front.requests) == 1 else None

    front.fault = cut_first
    assert routes.blob(digest, max_bytes=len(data), kind="patch") == data
    [asked] = [found.headers["Range"] for found in front.requests if "Range" in found.headers]
    assert 0 < int(asked.removeprefix("bytes=").removesuffix("-")) <= 200_000


def test_what_was_downloaded_once_is_read_from_disk(front: Front, routes: WorkerRoutes) -> None:
    data = b"weights" * 100
    digest = content_digest(data)
    front.place.upload(data)
    routes.blob(digest, max_bytes=1_000, kind="patch")
    routes.blob(digest, max_bytes=1_000, kind="patch")
    assert len(front.requests) == 1


def test_a_damaged_file_in_the_cache_is_fetched_again(
    front: Front, routes: WorkerRoutes, tmp_path: Path
) -> None:
    data = b"weights" * 100
    digest = content_digest(data)
    front.place.upload(data)
    routes.blob(digest, max_bytes=1_000, kind="patch")
    (tmp_path / "cache" / digest.hex()).write_bytes(b"rotten")
    assert routes.blob(digest, max_bytes=1_000, kind="patch") == data


def test_other_bytes_than_the_digest_names_are_refused(front: Front, routes: WorkerRoutes) -> None:
    digest = content_digest(b"promised")
    front.lies[blob_path(digest)] = Answered(200, b"served instead")
    with pytest.raises(BlobMismatch):
        routes.blob(digest, max_bytes=1_000, kind="patch")


def test_a_blob_beyond_its_stated_size_is_cut_off(front: Front, routes: WorkerRoutes) -> None:
    data = bytes(100_000)
    digest = content_digest(data)
    front.place.upload(data)
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
