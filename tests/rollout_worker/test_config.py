"""A worker's settings: a file becomes one frozen config, and what is misspelt is named."""

from pathlib import Path

import pytest

from protocol.user_error import UserError
from rollcall.frame.settings import load
from rollout_worker.config import WorkerConfig

GOOD = """
orchestrator = "http://127.0.0.1:8000"
data_dir = "data"
runs = [3, 1]
[chain]
rpc_url = "http://127.0.0.1:8545"
deployment = "deployment.json"
[engine]
name = "transformers"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "worker.toml"
    path.write_text(text)
    return path


def test_a_file_becomes_a_frozen_config(tmp_path: Path) -> None:
    config = load(WorkerConfig, written(tmp_path, GOOD))
    assert config.runs == (3, 1)
    assert config.engine.name == "transformers"
    assert config.data_dir == Path("data")


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("group_per_call = 4", "groups_per_call"),
        ("engine.max_sequence = 4", "engine.max_sequences"),
        ("chain.rpc = 'x'", "chain.rpc_url"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_known_one(
    tmp_path: Path, line: str, meant: str
) -> None:
    text = GOOD
    if "." in line.split("=", maxsplit=1)[0]:
        table, _, rest = line.partition(".")
        text = text.replace(f"[{table}]", f"[{table}]\n{rest}")
    else:
        text = f"{line}\n{text}"
    with pytest.raises(UserError, match=f"did you mean {meant}"):
        load(WorkerConfig, written(tmp_path, text))


def test_a_wrong_value_is_named_with_its_bound(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"groups_per_call: .*greater than or equal to 1"):
        load(WorkerConfig, written(tmp_path, "groups_per_call = 0\n" + GOOD))
