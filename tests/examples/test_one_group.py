"""The letter that a newcomer reads first runs as written, and its document shows what it prints."""

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "one-group.md"
MACHINES = {
    "this machine": "",
    "an older instruction set": "ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41",
}
SERVICES = {"vllm", "redis", "web3", "fastapi", "eth_tester"}


@cache
def ran(settings: str = "") -> subprocess.CompletedProcess[str]:
    """Run the example as a reader would, from this checkout; what it imports goes to stderr."""
    extra = dict(setting.split("=") for setting in settings.split())
    return subprocess.run(
        [sys.executable, "-X", "importtime", "examples/one_group.py"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **extra},
        capture_output=True,
        text=True,
        check=True,
    )


def table(printed: str) -> dict[str, list[str]]:
    rows = (re.split(r"\s{2,}", line.strip()) for line in printed.splitlines())
    return {label: cells for label, *cells in rows if len(cells) == 3}


def stable(printed: str) -> list[str]:
    """Return the words, without what rounding moves: nats, a digest over them, and a size under zstd."""
    told, rewards = printed.split("\nreward", 1)
    told = re.sub(r"0x[0-9a-f]{64}|\d+\.\d+(e-\d+)?|\d+(?= bytes)", "#", told)
    return f"{told} {rewards}".split()


def test_replay_rejects_the_cheats_that_admission_takes() -> None:
    rows = table(ran().stdout)
    assert rows["admission"] == ["admitted", "admitted", "admitted"]
    assert rows["verdict"] == ["accepted", "rejected", "rejected"]
    assert rows["what was done"] == ["-", "int4", "unseeded"]
    assert rows["what follows"] == ["none", "named", "named"]


def test_right_answers_are_worth_more_than_their_siblings() -> None:
    lines = ran().stdout.split("completion\n")[1].splitlines()
    lessons = [(float(reward), float(worth)) for reward, worth, _ in map(str.split, lines)]
    mean = sum(reward for reward, _ in lessons) / len(lessons)
    assert 0 < mean < 1
    assert [worth for _, worth in lessons] == [round(reward - mean, 3) for reward, _ in lessons]


@pytest.mark.parametrize("machine", MACHINES)
def test_the_document_shows_what_is_printed(machine: str) -> None:
    [shown] = re.findall(r"```text\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert stable(ran(MACHINES[machine]).stdout) == stable(shown)


def test_it_takes_no_service_and_no_vllm() -> None:
    imported = {line.split("|")[-1].strip() for line in ran().stderr.splitlines() if "|" in line}
    assert "rollout_worker.replay.measure" in imported
    assert not {module.split(".")[0] for module in imported} & SERVICES


def test_every_file_that_script_and_document_name_exists() -> None:
    prose = (ROOT / "examples" / "one_group.py").read_text() + DOCUMENT.read_text()
    named = re.findall(r"`((?:[\w-]+/)+[\w.-]*)`", prose)
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []
