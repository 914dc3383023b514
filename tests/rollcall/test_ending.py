"""Whatever a command ends by is told in one line, and told apart by its exit code."""

from collections.abc import Callable

import pytest
import typer

from client.connection import refusal
from protocol.errors import Busy
from protocol.user_error import UserError
from rollcall.frame.ending import DEBUG_VARIABLE, Ending, run_to_its_end


def raising(error: BaseException) -> Callable[[], None]:
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "ending", "told"),
    [
        (UserError("no [port]: name one"), Ending.FAILED, "✗ no [port]: name one\n"),
        (Busy("come back later"), Ending.FAILED, "✗ busy: come back later\n"),
        (typer.Abort(), Ending.FAILED, "✗ nothing was done: the question was not answered\n"),
        (typer.BadParameter("no\nnumber."), Ending.MISTYPED, "✗ Invalid value: no number: `roll"),
        (KeyboardInterrupt(), Ending.STOPPED, ""),
        (OSError(28, "No space left on device"), Ending.FAILED, "✗ a file cannot be written: No"),
        (FileNotFoundError(2, "No such file", "x"), Ending.FAILED, "✗ x: No such file: look at"),
        (KeyError("x"), Ending.FAULT, "✗ a fault of this program at "),
    ],
)
def test_an_error_is_one_line_and_its_exit_code(
    error: BaseException,
    ending: Ending,
    told: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(DEBUG_VARIABLE, raising=False)
    assert run_to_its_end(raising(error)) == ending
    printed, error_line = capsys.readouterr()
    assert error_line.startswith(told)
    assert not printed
    assert error_line.count("\n") == (1 if told else 0)


def test_a_fault_names_its_place_and_hides_what_a_url_holds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(DEBUG_VARIABLE, raising=False)
    assert run_to_its_end(lambda: refusal(None, ())) == Ending.FAULT  # type: ignore[arg-type]
    assert "at client/connection.py:" in capsys.readouterr().err
    assert run_to_its_end(raising(ValueError("https://node.example/KEY"))) == Ending.FAULT
    told = capsys.readouterr().err
    assert "https://node.example/…" in told
    assert "KEY" not in told


def test_a_fault_is_shown_whole_to_those_who_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DEBUG_VARIABLE, "1")
    with pytest.raises(KeyError):
        run_to_its_end(raising(KeyError("x")))
    assert run_to_its_end(raising(UserError("no port: name one"))) == Ending.FAILED


def test_a_command_ends_as_it_asks() -> None:
    assert run_to_its_end(lambda: None) == Ending.DONE
    assert run_to_its_end(lambda: 1) == Ending.FAILED
