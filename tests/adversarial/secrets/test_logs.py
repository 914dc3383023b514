"""What a party prints and logs is shown to others: it holds no key, no password and no token.

A node's address is a secret too: whoever sells access to a chain puts the buyer's key into its path.
"""

import os
import subprocess
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

import httpx
import pytest
import requests
from web3 import HTTPProvider

from client.connection import Connection
from devchain.chain import CHAIN_ID
from devchain.server import DevChainServer
from ledger.errors import ChainUnreachable
from ledger.node import ONCE, Node
from orchestrator.config import OrchestratorConfig
from protocol.user_error import UserError
from rollcall.cli.desk import address_of_text, connect
from rollcall.cli.launch_config import LaunchConfig
from rollcall.demo.processes import Command, Processes
from rollcall.demo.services import free_port, redis_command, wait_for_http, wait_for_redis
from rollcall.frame.keys import new_key, take_key
from rollcall.frame.logs import configure_logging
from rollcall.frame.settings import load, to_toml
from tests.stage.ground import Ground

PASSWORD = "p4ss-of-redis"
RPC_KEY = "8a3f52bought-access"


@dataclass
class Serving:
    """One `rollcall serve` on a chain behind a paid address and a Redis with a password."""

    folder: Path
    ground: Ground
    processes: Processes
    chain: DevChainServer
    redis_port: int = field(default_factory=free_port)
    port: int = field(default_factory=free_port)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def key(self) -> str:
        return str(self.ground.people["orchestrator"].key.hex()).removeprefix("0x")

    def command(self, *options: str, password: str = PASSWORD) -> Command:
        self.ground.deployment.save(self.folder / "deployment.json")
        config = OrchestratorConfig(
            port=self.port,
            redis_url=f"redis://127.0.0.1:{self.redis_port}/0",
            blob_url=f"file://{self.folder / 'blobs'}",
            rpc_url=f"{self.chain.url}/v3/{RPC_KEY}",
            deployment=str(self.folder / "deployment.json"),
        )
        (self.folder / "orchestrator.toml").write_text(to_toml(config))
        words = ("-m", "rollcall", "serve", "--config", str(self.folder / "orchestrator.toml"))
        secrets = {"ROLLCALL_KEY": f"0x{self.key}", "ROLLCALL_REDIS_PASSWORD": password}
        return Command("orchestrator", (sys.executable, *words, *options), secrets)

    def said_by(self, command: Command) -> str:
        """Run a command that ends, and return all that it says."""
        environment = {**os.environ, **command.environment}
        done = subprocess.run(
            command.argv, env=environment, capture_output=True, text=True, check=False
        )
        return done.stdout + done.stderr


@pytest.fixture
def serving(ground: Ground, tmp_path: Path) -> Iterator[Serving]:
    chain = DevChainServer(ground.w3.provider.rpc, 0)
    Thread(target=chain.serve_forever, daemon=True).start()
    with Processes(tmp_path / "logs") as processes:
        market = Serving(tmp_path, ground, processes, chain)
        processes.start(redis_command(tmp_path / "redis", market.redis_port, PASSWORD))
        wait_for_redis(processes, market.redis_port, PASSWORD)
        yield market
    chain.shutdown()
    chain.server_close()


def test_an_orchestrator_that_loses_redis_and_its_chain_tells_no_secret(serving: Serving) -> None:
    running = serving.processes.start(serving.command())
    wait_for_http(serving.processes, "orchestrator", f"{serving.url}/readyz")
    with Connection(serving.url, new_key(), chain_id=CHAIN_ID) as connection:
        token = connection._token()
        connection.send("GET", "runs")
    said = [httpx.get(f"{serving.url}{path}").text for path in ("/metrics", "/readyz", "/v1/runs")]
    serving.chain.shutdown()
    serving.chain.server_close()
    said.append(httpx.get(f"{serving.url}/readyz", timeout=60).text)
    serving.processes.kill("redis")
    said += [httpx.get(f"{serving.url}{path}", timeout=60).text for path in ("/readyz", "/v1/runs")]
    while "Redis does not serve" not in running.log.read_text():
        serving.processes.check(may_end=("redis",)) if running.process.poll() is not None else None
    running.process.terminate()
    running.process.wait()
    text = "\n".join([*said, running.log.read_text()])
    assert "does not serve" in text
    for secret in (serving.key, PASSWORD, RPC_KEY, token):
        assert secret not in text


def test_a_wrong_password_is_one_line_with_its_remedy(serving: Serving) -> None:
    for wrong in ("", "wrong-guess"):
        said = serving.said_by(serving.command(password=wrong))
        [line] = said.strip().splitlines()
        assert "set ROLLCALL_REDIS_PASSWORD" in line
        assert PASSWORD not in line
        assert not wrong or wrong not in line


def test_a_chain_that_is_away_is_named_by_its_host(serving: Serving) -> None:
    serving.chain.shutdown()
    serving.chain.server_close()
    said = serving.said_by(serving.command())
    assert f"no chain at {serving.chain.url}/…" in said
    assert RPC_KEY not in said
    assert serving.key not in said


def test_printed_settings_hold_neither_key_nor_password(serving: Serving) -> None:
    said = serving.said_by(serving.command("--print-config"))
    assert f"redis://127.0.0.1:{serving.redis_port}/0" in said
    assert PASSWORD not in said
    assert serving.key not in said


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{PASSWORD}@redis:6379/0",
        f"rediss://market:{PASSWORD}@redis:6379/0",
        f"redis://:{PASSWORD}#half@redis:6379/0",
        f"redis://:{PASSWORD}/half@redis:6379/0",
        f"unix:///run/redis.sock?db=0&password={PASSWORD}",
    ],
)
def test_settings_take_no_password_and_do_not_repeat_it(url: str) -> None:
    shown = to_toml(OrchestratorConfig.model_construct(redis_url=url))
    assert PASSWORD in shown  # what --print-config would show, were it taken
    with pytest.raises(UserError, match="ROLLCALL_REDIS_PASSWORD") as raised:
        load(OrchestratorConfig, None, [f"redis_url={url}"])
    assert PASSWORD not in str(raised.value)


@pytest.mark.parametrize("url", ["rediss://market@redis:6379/0", "unix:///run/redis.sock?db=0"])
def test_settings_take_a_user_and_a_socket(url: str) -> None:
    assert load(OrchestratorConfig, None, [f"redis_url={url}"]).redis_url == url


def test_a_key_pasted_for_an_address_is_not_repeated() -> None:
    key = "0x" + new_key().hex()
    with pytest.raises(UserError, match="is not an address") as raised:
        address_of_text(key)
    assert key[12:] not in str(raised.value)
    with pytest.raises(UserError, match="trainer_address") as raised:
        load(LaunchConfig, None, [f"trainer_address={key}"])
    assert key[12:] not in str(raised.value)


def test_a_setting_that_is_no_table_is_named_without_its_value() -> None:
    with pytest.raises(UserError, match="is a value already") as raised:
        load(OrchestratorConfig, None, ["host=x", f"host.part={PASSWORD}"])
    assert PASSWORD not in str(raised.value)


def test_errors_and_traces_name_a_node_by_its_host(
    ground: Ground, capsys: pytest.CaptureFixture[str]
) -> None:
    address = f"http://user:{PASSWORD}@127.0.0.1:{free_port()}/v3/{RPC_KEY}?apikey={RPC_KEY}"
    with pytest.raises(requests.RequestException) as foreign:
        HTTPProvider(address, exception_retry_configuration=None).make_request("eth_chainId", [])
    assert RPC_KEY in str(foreign.value)  # the library's own words
    configure_logging("worker")
    import structlog

    try:
        Node.at(address, patience=ONCE).chain_id()
    except ChainUnreachable as error:
        said = str(error)
        assert RPC_KEY in traceback.format_exc()
        structlog.get_logger().exception("a defect")
    with pytest.raises(UserError) as raised:
        connect(address, ground.deployment, None)
    logged = capsys.readouterr().err
    assert "Traceback" in logged
    for text in (said, str(raised.value), logged):
        assert "127.0.0.1" in text
        assert RPC_KEY not in text
        assert PASSWORD not in text


def test_no_child_of_a_role_inherits_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    key = new_key()
    monkeypatch.setenv("ROLLCALL_KEY", key.hex())
    show = [sys.executable, "-c", "import os; print(dict(os.environ))"]

    def child() -> str:
        return subprocess.run(show, capture_output=True, text=True, check=True).stdout

    assert key.hex() in child()
    assert take_key() == key
    assert key.hex() not in child()
