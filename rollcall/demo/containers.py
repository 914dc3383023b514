"""`rollcall containers`: the keys and configs that `compose.yaml` mounts.

The market is the demo's, at the compose file's names and volumes. The operator is the orchestrator's
account, because its consent to another could only be signed after deployment.
"""

from pathlib import Path

from pydantic import BaseModel

from protocol.user_error import UserError
from rollcall.cli.spec import RunPlan
from rollcall.demo.market import Market, Party, Places, WorkerParty
from rollcall.frame.keys import new_key
from rollcall.frame.settings import to_toml

PLACES = Places(
    url="http://orchestrator:8000",
    rpc_url="http://anvil:8545",
    redis_url="redis://redis:6379/0",
    blobs=Path("/data/blobs"),
    deployment=Path("/data/deployment.json"),
    data=Path("/data"),
    host="0.0.0.0",
    port=8000,
)
FIRST_RUN = 1
"""A fresh chain numbers its runs from 1."""


def write_containers(folder: Path, *, steps: int) -> list[Path]:
    """Write `.env` and `compose/*.toml` below `folder`; raise `UserError` if keys exist."""
    environment = folder / ".env"
    if environment.exists():
        raise UserError(f"{environment} exists and holds keys: move it away to make new ones")
    worker = WorkerParty(Party("worker", new_key()), "vllm", groups_per_call=16)
    market = Market(folder / "compose", PLACES, RunPlan(), workers=(worker,), steps=steps)
    market.folder.mkdir(parents=True, exist_ok=True)
    market.operator = market.orchestrator
    configs: dict[str, BaseModel] = {
        "orchestrator": market.orchestrator_config(),
        "launch": market.launch_config(),
        "trainer": market.trainer_config(FIRST_RUN),
        "verifier": market.verifier_config(),
        "worker": market.worker_config(worker),
    }
    paths = [_write(market.folder / f"{name}.toml", config) for name, config in configs.items()]
    parties = {
        "ORCHESTRATOR_KEY": market.orchestrator,
        "TRAINER_KEY": market.trainer,
        "VERIFIER_KEY": market.verifier,
        "WORKER_KEY": worker.party,
    }
    _write_keys(environment, parties)
    return [environment, *paths]


def _write(path: Path, config: BaseModel) -> Path:
    path.write_text(to_toml(config))
    return path


def _write_keys(path: Path, parties: dict[str, Party]) -> None:
    path.touch(mode=0o600)
    path.write_text("".join(f"{name}=0x{party.key.hex()}\n" for name, party in parties.items()))
