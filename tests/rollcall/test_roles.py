"""Each role is found by the command that starts it."""

import pytest
from typer.testing import CliRunner

from rollcall.__main__ import app


@pytest.mark.parametrize(
    ("command", "own"),
    [
        ("serve", "lease_grace_seconds = "),
        ("join", "groups_per_call = "),
        ("verify", "data_dir = "),
        ("train", "work_dir = "),
    ],
)
def test_a_role_prints_the_settings_that_it_starts_with(command: str, own: str) -> None:
    done = CliRunner().invoke(app, [command, "--print-config"])
    assert done.exit_code == 0, done.exception
    assert own in done.output
