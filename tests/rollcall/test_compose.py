"""`compose.yaml` against what the demo starts: the same commands, environment and configs."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from protocol.user_error import UserError
from rollcall.cli.launch_config import LaunchConfig
from rollcall.demo.containers import PLACES, write_containers
from rollcall.demo.market import COMMAND_OF, role_command
from rollcall.demo.services import redis_command
from rollcall.frame.settings import load

ROOT = Path(__file__).parents[2]
ROLES = ("orchestrator", "trainer", "verifier", "worker", "launch")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    text = (ROOT / "compose.yaml").read_text()
    services: dict[str, Any] = yaml.safe_load(text)["services"]
    return services


@pytest.mark.parametrize("role", ROLES)
def test_a_service_runs_the_command_that_the_demo_starts(
    compose: dict[str, Any], role: str
) -> None:
    service = compose[role]
    started = role_command(role, role, Path(f"/config/{role}.toml"), bytes(31) + b"\x01")
    assert ["rollcall", *service["command"]] == ["rollcall", *started.argv[3:]]
    assert set(service["environment"]) == set(started.environment)
    fixed = {k: v for k, v in started.environment.items() if k != "ROLLCALL_KEY"}
    assert {k: service["environment"][k] for k in fixed} == fixed
    assert "./compose:/config:ro" in service["volumes"]


@pytest.mark.parametrize("role", ROLES)
def test_the_image_of_a_role_starts_that_role(compose: dict[str, Any], role: str) -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    target = compose[role]["build"]["target"]
    stage = dockerfile.split(f" AS {target}\n", 1)[1].split("\nFROM ", 1)[0]
    command = re.search(r"CMD (\[.*\])", stage)
    assert command is not None
    assert yaml.safe_load(command[1]) == compose[role]["command"]
    assert yaml.safe_load(command[1])[0] == COMMAND_OF[role]


def test_redis_keeps_what_the_embedded_one_keeps(compose: dict[str, Any], tmp_path: Path) -> None:
    embedded = redis_command(tmp_path, 1).argv
    for option in ("--appendonly", "--appendfsync", "--save"):
        value = embedded[embedded.index(option) + 1]
        words = compose["redis"]["command"]
        assert words[words.index(option) + 1] == value
    assert compose["redis"]["image"].startswith("redis:")


def test_services_stand_where_the_configs_look_for_them(compose: dict[str, Any]) -> None:
    for url in (PLACES.url, PLACES.rpc_url, PLACES.redis_url):
        host = re.split(r"[/:]+", url)[1]
        assert host in compose
    anvil = compose["anvil"]["command"]
    assert anvil[anvil.index("--port") + 1] == PLACES.rpc_url.rsplit(":", 1)[1]


def test_the_written_configs_are_read_by_their_roles(tmp_path: Path) -> None:
    from orchestrator.config import OrchestratorConfig
    from rollout_worker.config import VerifierConfig, WorkerConfig
    from trainer.config import TrainerConfig

    write_containers(tmp_path, steps=7)
    folder = tmp_path / "compose"
    launch = load(LaunchConfig, folder / "launch.toml")
    orchestrator = load(OrchestratorConfig, folder / "orchestrator.toml")
    worker = load(WorkerConfig, folder / "worker.toml")
    verifier = load(VerifierConfig, folder / "verifier.toml")
    trainer = load(TrainerConfig, folder / "trainer.toml")
    assert orchestrator.port == PLACES.port
    assert trainer.steps == 7
    urls = {launch.orchestrator, worker.orchestrator, verifier.orchestrator, trainer.orchestrator}
    assert urls == {PLACES.url}
    assert (tmp_path / ".env").stat().st_mode & 0o077 == 0
    keys = dict(line.split("=", 1) for line in (tmp_path / ".env").read_text().split())
    assert len(set(keys.values())) == 4
    wanted = set(re.findall(r"\$\{(\w+):", (ROOT / "compose.yaml").read_text()))
    assert set(keys) == wanted


def test_keys_are_never_overwritten(tmp_path: Path) -> None:
    write_containers(tmp_path, steps=7)
    with pytest.raises(UserError, match="move it away"):
        write_containers(tmp_path, steps=7)
