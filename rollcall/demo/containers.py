"""`rollcall containers`: the keys, the password and the configs that `compose.yaml` hands out.

The market is the demo's, at the compose file's names and volumes. The operator is the orchestrator's
account, because its consent to another could only be signed after deployment.
"""

from pathlib import Path

from pydantic import BaseModel

from protocol.user_error import UserError
from rollcall.cli.spec import RunPlan
from rollcall.demo.market import Market, Party, Places, WorkerParty
from rollcall.demo.services import redis_config
from rollcall.frame.keys import new_key
from rollcall.frame.settings import to_toml

PLACES = Places(
    url="http://orchestrator:8000",
    rpc_url="http://anvil:8545",
    redis_url="redis://redis:6379/0",
    blobs=Path("/data/blobs"),
    deployment=Path("/deployment/deployment.json"),
    data=Path("/data"),
    host="0.0.0.0",
    port=8000,
)
FIRST_RUN = 1
"""A fresh chain numbers its runs from 1."""


def write_containers(folder: Path, *, steps: int) -> list[Path]:
    """Write `.env` and a folder for each service below `compose/`; raise `UserError` if keys exist."""
    environment = folder / ".env"
    if environment.exists():
        raise UserError(f"{environment} exists and holds keys: move it away to make new ones")
    worker = WorkerParty(Party("worker", new_key()), "vllm", groups_per_call=16)
    market = Market(folder / "compose", PLACES, RunPlan(), workers=(worker,), steps=steps)
    market.operator = market.orchestrator
    configs: dict[str, BaseModel] = {
        "orchestrator": market.orchestrator_config(),
        "launch": market.launch_config(),
        "trainer": market.trainer_config(FIRST_RUN),
        "verifier": market.verifier_config(),
        "worker": market.worker_config(worker),
    }
    texts = {f"{name}/{name}.toml": to_toml(config) for name, config in configs.items()}
    texts["redis/redis.conf"] = redis_config(market.redis_password)
    secrets = {
        "ORCHESTRATOR_KEY": _hex(market.orchestrator),
        "TRAINER_KEY": _hex(market.trainer),
        "VERIFIER_KEY": _hex(market.verifier),
        "WORKER_KEY": _hex(worker.party),
        "REDIS_PASSWORD": market.redis_password,
    }
    market.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    market.folder.chmod(0o700)
    paths = [_write(market.folder / path, text) for path, text in texts.items()]
    return [_write_private(environment, secrets), *paths]


def _write(path: Path, text: str) -> Path:
    """Write a config that its service's own user can read; on this machine only our user passes `compose/`."""
    path.parent.mkdir(exist_ok=True)
    path.parent.chmod(0o755)
    path.write_text(text)
    path.chmod(0o644)
    return path


def _write_private(path: Path, values: dict[str, str]) -> Path:
    path.touch(mode=0o600)
    path.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
    return path


def _hex(party: Party) -> str:
    return "0x" + party.key.hex()
