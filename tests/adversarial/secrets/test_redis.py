"""Whoever reaches the orchestrator's Redis could forget work, or pay himself: it asks for a password."""

from pathlib import Path

import pytest
import redis

from rollcall.demo.processes import Processes
from rollcall.demo.services import free_port, redis_command, wait_for_redis

PASSWORD = "drawn-for-this-market"


def forget_everything(port: int) -> bool:
    """Try what any process of a machine, or of a container network, may try."""
    stranger = redis.Redis(port=port)
    try:
        return bool(stranger.flushall())
    finally:
        stranger.close()


def test_a_redis_without_a_password_forgets_the_market_for_a_stranger(tmp_path: Path) -> None:
    port = free_port()
    with Processes(tmp_path / "logs") as processes:
        processes.start(redis_command(tmp_path / "redis", port))
        wait_for_redis(processes, port)
        assert forget_everything(port)


@pytest.mark.parametrize("guess", [None, "", "guessed"])
def test_a_redis_of_the_demo_and_of_the_containers_takes_nobody_else(
    tmp_path: Path, guess: str | None
) -> None:
    port = free_port()
    with Processes(tmp_path / "logs") as processes:
        command = redis_command(tmp_path / "redis", port, PASSWORD)
        processes.start(command)
        wait_for_redis(processes, port, PASSWORD)
        with pytest.raises(redis.exceptions.AuthenticationError):
            forget_everything(port)
        with redis.Redis(port=port, password=guess) as client, pytest.raises(redis.RedisError):
            client.get("rollcall")
        with redis.Redis(port=port, password=PASSWORD) as client:
            assert client.ping()
    config = Path(command.argv[1])
    assert config.stat().st_mode & 0o077 == 0
    assert not any(PASSWORD in word for word in command.argv)
