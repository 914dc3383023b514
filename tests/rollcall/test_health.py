"""The health checks of `compose.yaml`, run as they stand against what they ask; only places are put in."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from rollcall.demo.processes import Processes
from rollcall.demo.services import free_port, redis_command, wait_for_redis
from tests.conftest import redis_binary
from tests.stage.anvil import anvil, needs_anvil
from tests.stage.front import serving
from tests.stage.place import Place

ROOT = Path(__file__).parents[2]
SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
PASSWORD = "drawn"


def is_healthy(words: list[str], **options: Any) -> bool:
    return subprocess.run(words, check=False, capture_output=True, **options).returncode == 0


def test_redis_is_healthy_if_it_answers_whoever_has_its_password(tmp_path: Path) -> None:
    port = free_port()
    [kind, command] = SERVICES["redis"]["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    here = command.replace("$$", "$").replace("redis-cli", f"redis-cli -p {port}")
    environment = {"PATH": f"{Path(redis_binary()).parent}:{os.environ['PATH']}"}

    def is_healthy_by(config: Path) -> bool:
        words = ["sh", "-c", here.replace("/config/redis.conf", str(config))]
        return is_healthy(words, env=environment)

    with Processes(tmp_path / "logs") as processes:
        started = processes.start(redis_command(tmp_path / "redis", port, PASSWORD))
        wait_for_redis(processes, port, PASSWORD)
        config = Path(started.command.argv[1])
        assert is_healthy_by(config)
        (tmp_path / "other.conf").write_text("requirepass another\n")
        assert not is_healthy_by(tmp_path / "other.conf")
        processes.kill("redis")
        assert not is_healthy_by(config)


@needs_anvil
@pytest.mark.skipif(shutil.which("node") is None, reason="the image has node")
def test_the_chain_is_healthy_if_it_answers_a_question() -> None:
    _, *words = SERVICES["anvil"]["healthcheck"]["test"]

    def is_healthy_at(port: int) -> bool:
        return is_healthy([word.replace("127.0.0.1:8545", f"127.0.0.1:{port}") for word in words])

    with anvil() as node:
        assert is_healthy_at(node.port)
    assert not is_healthy_at(free_port())


@pytest.mark.parametrize("role", ["orchestrator", "trainer", "verifier", "worker", "launch"])
def test_a_role_is_healthy_if_it_reaches_the_orchestrator(place: Place, role: str) -> None:
    _, *words = SERVICES[role]["healthcheck"]["test"]

    def is_healthy_at(url: str) -> bool:
        return is_healthy([word.replace("http://orchestrator:8000", url) for word in words])

    with serving(place) as (front, _):
        assert is_healthy_at(front.url)
    assert not is_healthy_at(f"http://127.0.0.1:{free_port()}")
