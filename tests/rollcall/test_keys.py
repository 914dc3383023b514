"""Keys come from the environment, and what is wrong with one is said without showing it."""

import subprocess

import pytest
from typer.testing import CliRunner

from protocol.signing import address_of
from protocol.user_error import UserError
from rollcall.__main__ import app
from rollcall.frame.keys import key_from_environment, new_key


def test_a_missing_key_is_asked_for_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROLLCALL_KEY", raising=False)
    with pytest.raises(UserError, match="set ROLLCALL_KEY"):
        key_from_environment()


@pytest.mark.parametrize("prefix", ["", "0x"])
def test_a_key_is_read_with_and_without_its_prefix(
    monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    key = new_key()
    monkeypatch.setenv("ROLLCALL_KEY", prefix + key.hex())
    assert key_from_environment() == key


@pytest.mark.parametrize("text", ["07" * 31, "07" * 33, "00" * 32, "zz" * 32])
def test_what_is_no_key_is_refused_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("ROLLCALL_KEY", text)
    with pytest.raises(UserError, match="ROLLCALL_KEY") as raised:
        key_from_environment()
    assert text not in str(raised.value)


def test_a_shell_takes_what_key_prints_for_a_party(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = CliRunner().invoke(app, ["key", "--name", "WORKER"]).output
    words = ["bash", "-c", 'eval "$0" && echo $WORKER $WORKER_KEY', printed]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    address, key = said
    assert address == address_of(bytes.fromhex(key.removeprefix("0x")))
    monkeypatch.setenv("ROLLCALL_KEY", key)
    assert CliRunner().invoke(app, ["key", "--address"]).output.strip() == address
