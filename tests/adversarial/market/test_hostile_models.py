"""An operator whose model breaks whatever samples from it: its workers lose that run, and no other."""

import json
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from structlog.testing import capture_logs

import rollout_worker.generate
import rollout_worker.main
from client.retry import Unreachable
from local.files import NotWritten
from orchestrator.rules.admission import admit
from protocol.architectures import why_unfit
from protocol.environments.arithmetic import Arithmetic
from protocol.messages import RunInfo
from protocol.policies.patch import from_anchor
from protocol.precision import ComputeDtype
from protocol.rollout import Lease, Rollout
from protocol.user_error import UserError
from protocol.verdict import Rejection
from rollout_worker.choose import Ability
from rollout_worker.engines.transformers import TransformersEngine
from rollout_worker.generate import generate_groups
from rollout_worker.main import attempt, sell
from rollout_worker.replay.calibrate import workload_of
from rollout_worker.session import End
from tests.stage.sampling_lab import EOS, TERMS, submission_of
from tests.stage.terms import MODEL, make_spec, run_info

HOSTILE, SOUND = 1, 2
TOKEN = "0x5FbDB2315678afecb367f032d93F642f64180aa3"


def sampled(folder: Path) -> tuple[Lease, tuple[Rollout, ...]]:
    """Sample a lease from a model whose weights are sound and whose config.json makes all of it NaN."""
    shutil.copytree(MODEL, folder / "model")
    config = json.loads((MODEL / "config.json").read_bytes()) | {"rms_norm_eps": -1e9}
    data = json.dumps(config).encode()
    assert why_unfit(data, make_spec()) is None
    (folder / "model" / "config.json").write_bytes(data)
    engine = TransformersEngine(
        folder / "model",
        device="cpu",
        dtype=ComputeDtype.FLOAT32,
        max_model_len=96,
        max_sequences=64,
    )
    engine.load(from_anchor((MODEL / "model.safetensors").read_bytes()))
    workload = workload_of(MODEL, Arithmetic({}), num_groups=1, group_size=2, max_tokens=32)
    lease = next(workload.leases(salt=0))
    [group] = generate_groups(engine, [lease], eos_token_ids=(EOS,))
    return lease, group


def test_a_worker_sends_nothing_that_its_model_made_of_no_numbers(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="log-probabilities are not finite"):
        sampled(tmp_path)


def test_what_a_model_makes_of_no_numbers_is_held_against_its_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as off:
        off.setattr(
            rollout_worker.generate,
            "finish_group",
            lambda _, done: tuple(Rollout.of(one.tokens, one.logprobs) for one in done),
        )
        lease, group = sampled(tmp_path)
    found = admit(lease, submission_of(lease, group), TERMS, newest_version=0)
    assert found is not None and found.rejection is Rejection.BAD_LOGPROB


class Routes:
    """An orchestrator's list of two runs, of which the better paid one is hostile."""

    def runs(self, **_: Any) -> tuple[RunInfo, ...]:
        return tuple(
            run_info(make_spec(rate=rate), run_id=run_id, token=TOKEN)
            for run_id, rate in ((HOSTILE, 20), (SOUND, 10))
        )


def worker() -> Any:
    return SimpleNamespace(
        routes=Routes(),
        ability=Ability("transformers-cpu", token=TOKEN, min_rate=0, wanted="any"),
        stop=threading.Event(),
        config=SimpleNamespace(poll_seconds=60.0),
    )


RAISED = [
    RuntimeError("probability tensor contains either `inf`, `nan` or element < 0"),
    torch.OutOfMemoryError("CUDA out of memory"),
    ValueError("cannot convert float NaN to integer"),
    IndexError("index out of range in self"),
    KeyError("rope"),
    ZeroDivisionError(),
    MemoryError(),
]


def at_work(error: Exception, served: list[int]) -> Any:
    """Return what works for a run: the hostile one raises, the sound one is worked for until a stop."""

    def work(seller: Any, _wallet: Any, info: RunInfo) -> End:
        served.append(info.run_id)
        if info.run_id == HOSTILE:
            raise error
        seller.stop.set()
        return End.STOPPED

    return work


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_a_model_that_breaks_its_engine_costs_a_worker_that_run_alone(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[int] = []
    monkeypatch.setattr(rollout_worker.main, "work_for", at_work(error, served))
    with capture_logs() as said:
        sell(worker(), wallet=None)  # type: ignore[arg-type]
    assert served == [HOSTILE, SOUND]
    [told] = [entry for entry in said if entry["event"] == "run refused"]
    assert (told["run"], told["code"]) == (HOSTILE, "refused")
    assert told["reason"].startswith(type(error).__name__) and "\n" not in told["reason"]


def test_a_worker_that_takes_an_engine_at_its_errors_is_ended_by_a_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    served: list[int] = []
    monkeypatch.setattr(rollout_worker.main, "work_for", at_work(RAISED[0], served))
    monkeypatch.setattr(
        rollout_worker.main,
        "attempt",
        lambda seller, wallet, info, _: rollout_worker.main.work_for(seller, wallet, info),
    )
    with pytest.raises(RuntimeError):
        sell(worker(), wallet=None)  # type: ignore[arg-type]
    assert served == [HOSTILE]


def test_where_every_run_breaks_the_engine_the_worker_ends_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def work(*_: Any) -> End:
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr(rollout_worker.main, "work_for", work)
    with pytest.raises(UserError, match=r"run 1: RuntimeError.*run 2: RuntimeError.*doctor"):
        sell(worker(), wallet=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [NotWritten("the disk is full"), Unreachable("told to stop")])
def test_what_ends_the_worker_ends_it(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout_worker.main, "work_for", at_work(error, []))
    with pytest.raises(type(error)):
        attempt(worker(), None, Routes().runs()[0])  # type: ignore[arg-type]
