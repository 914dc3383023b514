"""Configs: one TOML file, overrides, and mistakes that are named with their remedy."""

from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from orchestrator.config import OrchestratorConfig
from protocol.user_error import UserError
from rollcall.frame.settings import _known_keys, load, template, to_toml
from rollout_worker.config import VerifierConfig, WorkerConfig
from trainer.config import TrainerConfig


class Nested(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    width: int = 3
    """How wide."""


class Place(BaseModel):
    rpc_url: str
    seconds: float = 2.0


class Placed(BaseModel):
    url: str
    place: Place


class Example(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    url: str
    """Where to."""
    seconds: float = 1.5
    names: tuple[str, ...] = ("a", "b")
    folder: Path | None = None
    nested: Nested = Nested()


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "example.toml"
    path.write_text(text)
    return path


def test_a_file_and_overrides_make_one_model(tmp_path: Path) -> None:
    path = written(tmp_path, 'url = "http://a"\n[nested]\nwidth = 4\n')
    config = load(Example, path, ["nested.width=5", "url=http://b", "seconds=2"])
    assert (config.url, config.nested.width, config.seconds) == ("http://b", 5, 2.0)


def test_an_address_on_the_command_line_stays_text() -> None:
    address = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
    assert load(Example, None, [f"url={address}"]).url == address


def test_what_is_printed_reads_back_the_same(tmp_path: Path) -> None:
    config = load(Example, None, ["url=http://b", 'names=["x", "y\\"z"]'])
    text = to_toml(config)
    assert "# Where to." in text
    assert load(Example, written(tmp_path, text)) == config


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('url = "x"\nsecond = 1', "unknown key 'second'; did you mean seconds?"),
        ('url = "x"\n[nested]\nwdith = 1', "did you mean nested.width?"),
        ("seconds = 1", "url is missing"),
        ('url = "x"\nseconds = "soon"', "seconds: "),
        ("url = ", "is not TOML"),
    ],
)
def test_a_mistake_is_named_with_its_remedy(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UserError) as raised:
        load(Example, written(tmp_path, text))
    assert words in str(raised.value)


def test_a_missing_file_says_how_to_write_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--print-config"):
        load(Example, tmp_path / "absent.toml")


def test_a_malformed_override_shows_the_form() -> None:
    with pytest.raises(UserError, match=r"a\.b=value"):
        load(Example, None, ["url"])


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(UserError, match=r"'url=\\udcff' is not UTF-8"):
        load(Example, None, ["url=\udcff"])


def test_one_of_several_kinds_of_value_is_named_once_and_by_its_key() -> None:
    needed = ["orchestrator=x", "data_dir=x", "chain.rpc_url=x", "chain.deployment=x"]
    with pytest.raises(UserError) as told:
        load(WorkerConfig, None, [*needed, "token=0x12"])
    assert (
        str(told.value) == "the settings: token: '0x12'… is not an address (0x and 40 hex digits)"
    )


@pytest.mark.parametrize("value", ["inf", "nan", "1e300", "-1", "99999999999999999999999"])
@pytest.mark.parametrize(
    "config", [WorkerConfig, VerifierConfig, TrainerConfig, OrchestratorConfig]
)
def test_no_number_is_too_much_for_what_is_done_with_it(
    config: type[BaseModel], value: str
) -> None:
    """An endless or negative wait, rate or size is refused at the start, not met at work."""
    checked = 0
    for key in _known_keys(config):
        name = key.rpartition(".")[2]
        if name.endswith(("_seconds", "_gwei", "_per_second", "_burst", "_bytes", "_sequences")):
            with pytest.raises(UserError, match=f"{key}: (Input should be|Unable to parse)"):
                load(config, None, [f"{key}={value}"])
            checked += 1
    assert checked > (0 if config is TrainerConfig else 5)


@pytest.mark.parametrize(
    "key", ["learning_rate", "absurd_ratio", "weight_decay", "threads", "steps"]
)
@pytest.mark.parametrize("value", ["inf", "nan", "-1"])
def test_a_recipe_has_numbers_that_end(key: str, value: str) -> None:
    with pytest.raises(UserError, match=f"{key}: Input should be"):
        load(TrainerConfig, None, [f"{key}={value}"])


def test_what_a_missing_table_needs_is_named_by_its_keys() -> None:
    with pytest.raises(UserError, match=r"url, place\.rpc_url are missing") as raised:
        load(Placed, None)
    assert "--print-config" in str(raised.value)
    assert load(Placed, None, ["url=x", "place.rpc_url=y"]).place.rpc_url == "y"


def test_what_cannot_be_read_and_a_value_used_as_a_table_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        load(Example, tmp_path)
    (tmp_path / "latin").write_bytes(b'url = "\xe9"')
    with pytest.raises(UserError, match="is not TOML"):
        load(Example, tmp_path / "latin")
    with pytest.raises(UserError, match="url is a value already"):
        load(Example, None, ["url=x", "url.part=y"])


def test_a_printed_template_loads_and_says_what_it_lacks(tmp_path: Path) -> None:
    text = template(Placed)
    assert "# url = …  (must be set)" in text
    with pytest.raises(UserError, match=r"url, place\.rpc_url are missing"):
        load(Placed, written(tmp_path, text))
    assert load(Placed, written(tmp_path, text), ["url=x", "place.rpc_url=y"]).place.seconds == 2.0


def test_a_section_that_is_given_a_value_names_its_keys() -> None:
    with pytest.raises(
        UserError, match=r"place is a section: set its keys, place\.rpc_url, place\.s"
    ):
        load(Placed, None, ["url=x", "place=http://a"])
