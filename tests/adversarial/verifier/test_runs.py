"""A verifier of several runs, one of which its operator or orchestrator has broken."""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import AutoConfig

from client.retry import Unreachable
from local.voice import Voice
from protocol.architectures import why_unfit
from protocol.errors import Malformed, MarketError, Refused
from protocol.precision import ComputeDtype
from protocol.user_error import UserError
from rollout_worker.config import EngineConfig, ReplayConfig
from rollout_worker.engines.causal import CausalModel
from rollout_worker.main import opened
from rollout_worker.replay.registry import open_replayer
from rollout_worker.verify.main import step_all
from tests.stage.terms import MODEL, make_spec


@dataclass
class Counted:
    """A run's step that says how often it was taken, and may fail."""

    pause: float
    error: Exception | None = None
    taken: list[float] = field(default_factory=list)

    def step(self) -> float:
        self.taken.append(self.pause)
        if self.error is not None:
            raise self.error
        return self.pause


@pytest.mark.parametrize("error", [Malformed("no subject"), KeyError("rope"), ZeroDivisionError()])
def test_a_broken_run_does_not_keep_a_verifier_from_the_runs_after_it(error: Exception) -> None:
    broken, sound = Counted(0.1, error), Counted(0.2)
    assert step_all({1: broken, 2: sound}, most=1.0, chain=Voice("chain")) == 0.2
    assert (len(broken.taken), len(sound.taken)) == (1, 1)


@pytest.mark.parametrize("error", [UserError("no engine"), Unreachable("told to stop")])
def test_what_ends_the_verifier_ends_it(error: Exception) -> None:
    with pytest.raises(type(error)):
        step_all({1: Counted(0.1, error)}, most=1.0, chain=Voice("chain"))


def test_where_every_run_is_broken_the_verifier_still_pauses() -> None:
    assert step_all({1: Counted(0.0, Malformed("no"))}, most=1.0, chain=Voice("chain")) == 1.0


OTHERS: dict[str, dict[str, Any]] = {
    "code": {"auto_map": {"AutoConfig": "evil/model--code.X"}, "model_type": "other"},
    "kernels": {"_attn_implementation": "evil/kernels"},
    "deep": {"layers": [{"auto_map": {}}]},
}


@pytest.mark.parametrize("fields", OTHERS.values(), ids=OTHERS)
def test_no_config_has_its_readers_run_what_is_not_the_runs(fields: dict[str, Any]) -> None:
    config = json.loads((MODEL / "config.json").read_bytes())
    assert why_unfit(json.dumps(config).encode(), make_spec()) is None
    assert "libraries run what is not" in str(
        why_unfit(json.dumps(config | fields).encode(), make_spec())
    )


def test_no_library_is_asked_to_run_code_or_to_fetch_kernels(tmp_path: Path) -> None:
    """What the refused fields would do: the first asked whoever sits there, the second needs one package."""
    for name, error in (("code", "trust_remote_code=True"), ("kernels", "`kernels` is either not")):
        with pytest.raises(Exception, match=error):
            CausalModel(folder(tmp_path / name, OTHERS[name]), device="cpu")


def test_a_config_that_names_code_has_it_run_where_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By whoever answers a library's question at its terminal, as it is asked for every such model."""
    there = folder(tmp_path, {"auto_map": {"AutoConfig": "evil.Config"}, "model_type": "other"})
    (there / "evil.py").write_text(
        f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\n"
        "from transformers import LlamaConfig\nclass Config(LlamaConfig): pass\n"
    )
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        CausalModel(there, device="cpu")
    assert not (tmp_path / "ran").exists()
    AutoConfig.from_pretrained(there)  # as libraries open it that are told nothing
    assert (tmp_path / "ran").exists()
    unfit = why_unfit((there / "config.json").read_bytes(), make_spec())
    assert "auto_map" in str(unfit)


UNUSABLE: dict[str, dict[str, Any]] = {
    "heads": {"num_attention_heads": 0},
    "rope": {"rope_parameters": {"rope_type": "no such"}},
    "size": {"hidden_size": "many"},
    "pad": {"pad_token_id": 10**9},
}


@pytest.mark.parametrize("fields", UNUSABLE.values(), ids=UNUSABLE)
def test_a_model_that_does_not_open_ends_no_program(tmp_path: Path, fields: dict[str, Any]) -> None:
    there, dtype = folder(tmp_path, fields), ComputeDtype.FLOAT32
    with pytest.raises(Exception) as raised:
        CausalModel(there, device="cpu")
    assert not isinstance(raised.value, (OSError, RuntimeError, ValueError, MarketError))
    replay = ReplayConfig(engine="transformers")
    with pytest.raises(ValueError, match="the model does not open"):
        open_replayer(replay, there, dtype=dtype, max_model_len=64)
    worker: Any = SimpleNamespace(engine=EngineConfig(name="transformers"), groups_per_call=1)
    with pytest.raises(Refused, match="does not open"), opened(worker, make_spec(), there):
        pass


def folder(there: Path, fields: dict[str, Any]) -> Path:
    """Return a model folder whose config.json has these fields."""
    shutil.copytree(MODEL, there / "model")
    config = json.loads((MODEL / "config.json").read_bytes())
    (there / "model" / "config.json").write_text(json.dumps(config | fields))
    return there / "model"
