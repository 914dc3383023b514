"""`rollcall demo` as a person runs it: real vLLM, a real cheat, every claim, both reports."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.stage.waiting import started

STEPS = 30


@dataclass(frozen=True, slots=True)
class Demo:
    """One run of the command, which all tests here look at."""

    folder: Path
    code: int
    said: str


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    folder = tmp_path_factory.mktemp("demo")
    words = [
        *(sys.executable, "-m", "rollcall", "demo"),
        *("--steps", str(STEPS), "--report", str(folder), "--plain"),
    ]
    with started(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        said, _ = process.communicate()
    return Demo(folder, process.returncode, said)


@pytest.fixture(scope="module")
def folder(demo: Demo) -> Path:
    return demo.folder


@pytest.fixture(scope="module")
def report(folder: Path) -> dict[str, Any]:
    body: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return body


def test_every_claim_holds_and_the_exit_code_says_so(demo: Demo, report: dict[str, Any]) -> None:
    broken = [claim for claim in report["claims"] if not claim["holds"]]
    assert (broken, demo.code) == ([], 0), demo.said
    assert "Traceback" not in demo.said


def test_the_report_has_what_a_reader_compares(report: dict[str, Any]) -> None:
    figures = report["measured"]
    assert 0 < figures["patch_bytes_mean"] < figures["full_copy_bytes"]
    assert 0 <= figures["trainer_share_waited"] <= 1
    assert set(figures["tokens_per_second"]) == {
        "worker-vllm",
        "worker-transformers",
        "worker-cheat",
    }
    assert all(0 <= share <= 1 for share in figures["share_waited"].values())
    assert len(report["steps"]) == STEPS + 1


def test_work_on_vllm_was_bought_and_trained_on(report: dict[str, Any]) -> None:
    vllm = next(worker for worker in report["workers"] if worker["name"] == "worker-vllm")
    assert vllm["engine"] == "vllm-cpu"
    trained = [g for g in report["groups"] if g["worker"] == vllm["address"]]
    assert any(group["trained_in"] >= 0 for group in trained)


def test_the_picture_is_drawn(folder: Path) -> None:
    assert (folder / "report.png").read_bytes().startswith(b"\x89PNG")
