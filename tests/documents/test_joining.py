"""docs/joining.md: its commands exist with their options, and its unit is one that systemd takes.

The deeds themselves are those of docs/across-machines.md, which `tests/market/test_by_hand.py` runs.
"""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.main import get_command

from rollcall.__main__ import app
from rollout_worker.config import RoleConfig
from tests.documents.lines import ROOT

PAGE = (ROOT / "docs/joining.md").read_text("utf-8")
COMMANDS = re.findall(r"(?:^|[(`]|&& )(rollcall [a-z][^`)\n]*)", PAGE, re.MULTILINE)


def test_the_page_has_its_ten_lines() -> None:
    block = PAGE.partition("## In ten lines\n\n```bash\n")[2].partition("```")[0]
    assert len(block.splitlines()) == 10
    assert len(COMMANDS) >= 12


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_takes_what_it_is_given(line: str) -> None:
    command, words = get_command(app), shlex.split(line.partition(" > ")[0], comments=True)[1:]
    while words and hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    known = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= known


def test_what_it_says_of_settings_is_so() -> None:
    assert RoleConfig.model_fields["cache_bytes"].default == 1 << 30


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_the_unit_is_one(tmp_path: Path) -> None:
    [unit] = re.findall(r"```ini\n(.*?)```", PAGE, re.DOTALL)
    there = re.sub(r"(ExecStart=)\S+", r"\1/bin/true", unit).replace("User=rollcall\n", "")
    file = tmp_path / "rollcall-worker.service"
    file.write_text(there)
    words = ["systemd-analyze", "verify", "--man=no", str(file)]
    found = subprocess.run(words, capture_output=True, text=True, check=False)
    assert [line for line in found.stderr.splitlines() if str(file) in line] == []
    assert found.returncode == 0, found.stderr
