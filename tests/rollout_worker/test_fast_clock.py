"""A worker whose clock is 90 seconds fast, which is allowed, where a lease lasts 60."""

import time
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from client.clock import MarketClock
from tests.rollout_worker.test_loop import at_work, groups_of
from tests.stage.live import LiveMarket, live_market
from tests.stage.waiting import wait_until

LEASE_SECONDS, FAST_SECONDS = 60, 90


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveMarket]:
    with live_market(
        tmp_path_factory.mktemp("market"),
        workers=("True", "False"),
        verifier="verifier",
        plan={"lease_seconds": LEASE_SECONDS},
    ) as live:
        yield live


@pytest.mark.parametrize("learns", [False, True])
def test_a_worker_whose_clock_is_fast_sells_by_the_orchestrators(
    live: LiveMarket, monkeypatch: pytest.MonkeyPatch, learns: bool
) -> None:
    """By its own clock every lease is over when it comes: it takes up none, and is a dropper for it."""
    clock = (lambda: time.time() + FAST_SECONDS,)
    monkeypatch.setattr(MarketClock.__init__, "__defaults__", clock)
    if not learns:
        monkeypatch.setattr(MarketClock, "learn", lambda *_, **__: None)
    with capture_logs() as said, at_work(live, str(learns)) as seller:
        if learns:
            wait_until(lambda: groups_of(seller) >= 2)
        else:
            wait_until(lambda: "leases too late to begin" in {entry["event"] for entry in said})
            assert groups_of(seller) == 0
    assert ("this machine's clock is wrong" in {entry["event"] for entry in said}) == learns
