"""Each role is found by the command that starts it."""

import tomllib

import pytest
from typer.testing import CliRunner

from rollcall.__main__ import app


@pytest.mark.parametrize(
    ("command", "own"),
    [
        ("serve", "lease_grace_seconds = "),
        ("join", "groups_per_call = "),
        ("launch", "budget = "),
        ("verify", "# data_dir = …  (must be set)"),
        ("train", "work_dir = "),
    ],
)
def test_a_role_prints_the_settings_that_it_starts_with(command: str, own: str) -> None:
    done = CliRunner().invoke(app, [command, "--print-config"])
    assert done.exit_code == 0, done.exception
    assert own in done.output
    tomllib.loads(done.output)
