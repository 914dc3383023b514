"""`compose.yaml` against what the demo starts: the same commands, environment and configs; and what each
party may reach, read, write and know.

No container engine is here: the file is read as it stands. `test_health.py` runs what can be run without one.
"""

import os
import re
from itertools import combinations
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
from tests.stage.containers import stages

ROOT = Path(__file__).parents[2]
FILE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
DOCKERFILE = stages((ROOT / "Dockerfile").read_text())
ROLES = ("orchestrator", "trainer", "verifier", "worker", "launch")
VARIABLE = re.compile(r"\$\{(\w+):\?run `rollcall containers` first\}")
SECRETS = {
    "orchestrator": {
        "ROLLCALL_KEY": "ORCHESTRATOR_KEY",
        "ROLLCALL_REDIS_PASSWORD": "REDIS_PASSWORD",
    },
    "launch": {"ROLLCALL_KEY": "ORCHESTRATOR_KEY"},
    "trainer": {"ROLLCALL_KEY": "TRAINER_KEY"},
    "verifier": {"ROLLCALL_KEY": "VERIFIER_KEY"},
    "worker": {"ROLLCALL_KEY": "WORKER_KEY"},
}
"""What each service is told. `launch` acts as the operator, whose account is the orchestrator's here."""
MEET = {
    *(("orchestrator", "redis"), ("anvil", "orchestrator"), ("launch", "orchestrator")),
    *(("anvil", "launch"), ("anvil", "verifier"), ("anvil", "worker")),
    *(("orchestrator", "trainer"), ("orchestrator", "verifier"), ("orchestrator", "worker")),
}
"""Who shares a network: a role and its orchestrator, the chain and whoever asks it."""


@pytest.fixture
def written(tmp_path: Path) -> Path:
    write_containers(tmp_path, steps=7)
    return tmp_path


def secrets_in(folder: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in (folder / ".env").read_text().split())


def mounts(service: str) -> dict[str, tuple[str, bool]]:
    """Return what a service sees below each path, and whether it may write there."""
    parts = [entry.split(":") for entry in SERVICES[service].get("volumes", ())]
    return {target: (source, mode != ["ro"]) for source, target, *mode in parts}


@pytest.mark.parametrize("role", ROLES)
def test_a_service_runs_the_command_that_the_demo_starts(role: str) -> None:
    service = SERVICES[role]
    config = Path(f"/config/{role}.toml")
    started = role_command(role, role, config, bytes(31) + b"\x01", redis_password="p")
    assert ["rollcall", *service["command"]] == ["rollcall", *started.argv[3:]]
    assert set(service["environment"]) == set(started.environment)
    fixed = {k: v for k, v in started.environment.items() if k not in SECRETS[role]}
    assert {k: service["environment"][k] for k in fixed} == fixed


@pytest.mark.parametrize("role", ROLES)
def test_the_image_of_a_role_starts_that_role(role: str) -> None:
    [command] = [
        arguments
        for name, arguments in DOCKERFILE[SERVICES[role]["build"]["target"]]
        if name == "CMD"
    ]
    assert yaml.safe_load(command) == SERVICES[role]["command"]
    assert yaml.safe_load(command)[0] == COMMAND_OF[role]


def test_redis_keeps_what_the_embedded_one_keeps(written: Path, tmp_path: Path) -> None:
    password = secrets_in(written)["REDIS_PASSWORD"]
    embedded = redis_command(tmp_path / "embedded", 1, password)
    config = (written / "compose/redis/redis.conf").read_text()
    assert Path(embedded.argv[1]).read_text() == config
    assert not any(password in word for word in embedded.argv)
    assert {"appendonly yes", "appendfsync everysec", 'save ""'} < set(config.splitlines())
    assert SERVICES["redis"]["command"] == ["redis-server", "/config/redis.conf"]
    assert SERVICES["redis"]["image"].startswith("redis:")


def test_services_stand_where_the_configs_look_for_them() -> None:
    for url in (PLACES.url, PLACES.rpc_url, PLACES.redis_url):
        host = re.split(r"[/:]+", url)[1]
        assert host in SERVICES
    command = SERVICES["anvil"]["command"]
    assert command[command.index("--port") + 1] == PLACES.rpc_url.rsplit(":", 1)[1]


def test_the_written_configs_are_read_by_their_roles(written: Path) -> None:
    from orchestrator.config import OrchestratorConfig
    from rollout_worker.config import VerifierConfig, WorkerConfig
    from trainer.config import TrainerConfig

    folder = written / "compose"
    launch = load(LaunchConfig, folder / "launch/launch.toml")
    orchestrator = load(OrchestratorConfig, folder / "orchestrator/orchestrator.toml")
    worker = load(WorkerConfig, folder / "worker/worker.toml")
    verifier = load(VerifierConfig, folder / "verifier/verifier.toml")
    trainer = load(TrainerConfig, folder / "trainer/trainer.toml")
    assert orchestrator.port == PLACES.port
    assert trainer.steps == 7
    urls = {launch.orchestrator, worker.orchestrator, verifier.orchestrator, trainer.orchestrator}
    assert urls == {PLACES.url}
    writes = {
        "orchestrator": [Path(orchestrator.blob_url.removeprefix("file://"))],
        "launch": [launch.deployment],
        "trainer": [trainer.work_dir],
        "verifier": [verifier.data_dir],
        "worker": [worker.data_dir],
    }
    for role, paths in writes.items():
        writable = [Path(target) for target, (_, may_write) in mounts(role).items() if may_write]
        assert all(any(path.is_relative_to(place) for place in writable) for path in paths)
    assert mounts("orchestrator")[str(Path(orchestrator.deployment).parent)] == (
        "deployment",
        False,
    )
    assert {worker.chain.deployment, verifier.chain.deployment} == {launch.deployment}
    assert orchestrator.deployment == str(launch.deployment)


def test_keys_are_never_overwritten(written: Path) -> None:
    with pytest.raises(UserError, match="move it away"):
        write_containers(written, steps=7)


def test_secrets_are_drawn_anew_and_asked_for_by_name(written: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    write_containers(tmp_path / "other", steps=7)
    ours, others = secrets_in(written), secrets_in(tmp_path / "other")
    assert len({*ours.values(), *others.values()}) == 10
    assert set(ours) == {name for told in SECRETS.values() for name in told.values()}
    assert min(map(len, ours.values())) == 64


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_configs_are_read_in_containers_and_by_nobody_else_here(tmp_path: Path, umask: int) -> None:
    """A container's own user reads what is mounted, whoever owns it; here nobody else passes `compose/`."""
    before = os.umask(umask)
    try:
        paths = write_containers(tmp_path, steps=7)
    finally:
        os.umask(before)
    modes = {path: path.stat().st_mode & 0o777 for path in [tmp_path / "compose", *paths]}
    assert (modes.pop(tmp_path / ".env"), modes.pop(tmp_path / "compose")) == (0o600, 0o700)
    assert set(modes.values()) == {0o644}
    assert {path.parent.stat().st_mode & 0o777 for path in modes} == {0o755}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_told_its_own_secrets_alone(written: Path, name: str) -> None:
    service = SERVICES[name]
    environment = service.get("environment", {})
    told = {k: found[1] for k, v in environment.items() if (found := VARIABLE.fullmatch(v))}
    assert told == SECRETS.get(name, {})
    assert len(re.findall(r"(?<!\$)\$\{?\w", yaml.safe_dump(service))) == len(told)
    own = f"./compose/{name}"
    configs = [source for source, _ in mounts(name).values() if source.startswith(".")]
    assert configs == ([] if name == "anvil" else [own])
    assert "env_file" not in service
    text = "".join(path.read_text() for path in (written / own).glob("*"))
    known = {key for key, value in secrets_in(written).items() if value.removeprefix("0x") in text}
    assert known == ({"REDIS_PASSWORD"} if name == "redis" else set())


def test_a_service_meets_only_whom_it_must() -> None:
    networks = {name: set(service["networks"]) for name, service in SERVICES.items()}
    met = {
        pair for pair in combinations(sorted(networks), 2) if networks[pair[0]] & networks[pair[1]]
    }
    assert met == MEET
    used = set().union(*networks.values())
    assert used == set(FILE["networks"])
    assert {n for n in used if not FILE["networks"][n].get("internal")} == {"outside"}
    assert [name for name, on in networks.items() if "outside" in on] == ["orchestrator"]


def test_only_the_orchestrator_is_met_from_this_machine_and_from_no_other() -> None:
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert ports == {"orchestrator": [f"127.0.0.1:{PLACES.port}:{PLACES.port}"]}


def test_a_service_writes_to_a_volume_of_its_own() -> None:
    writers: dict[str, list[str]] = {}
    for name in SERVICES:
        for source, may_write in mounts(name).values():
            if may_write:
                writers.setdefault(source, []).append(name)
    own = {"redis": "redis", "chain": "anvil", "deployment": "launch"}
    parties = {role: role for role in ROLES if role != "launch"}
    assert writers == {volume: [name] for volume, name in (own | parties).items()}
    assert set(writers) == set(FILE["volumes"])
    readers = {name for name in SERVICES if ("deployment", False) in mounts(name).values()}
    assert readers == {"orchestrator", "verifier", "worker"}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_no_privilege_and_bounds(name: str) -> None:
    service = SERVICES[name]
    uid, gid = map(int, service["user"].split(":"))
    assert uid > 0 < gid
    if "build" in service:
        stage = name if name == "anvil" else "base"
        assert ("USER", service["user"]) in DOCKERFILE[stage]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == ("no" if name == "launch" else "unless-stopped")
    assert service["mem_limit"]
    assert service["pids_limit"] > 0
    raised = {"privileged", "cap_add", "network_mode", "pid", "ipc", "devices", "userns_mode"}
    assert raised.isdisjoint(service)
    assert "docker.sock" not in str(service)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_waits_for_the_health_of_what_it_needs(name: str) -> None:
    """But for `launch`: it writes what the orchestrator waits for."""
    assert SERVICES[name]["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
    needs = {
        other: given["condition"] for other, given in SERVICES[name].get("depends_on", {}).items()
    }
    party = {"orchestrator": "service_healthy"}
    expected = {
        "orchestrator": {"redis": "service_healthy", "anvil": "service_healthy"},
        "launch": {"anvil": "service_healthy", "orchestrator": "service_started"},
        **{"trainer": party, "verifier": party, "worker": party},
    }
    assert needs == expected.get(name, {})
    for other in needs:
        assert set(SERVICES[name]["networks"]) & set(SERVICES[other]["networks"])
