"""The images that the Dockerfile describes: all that roles read, and an unprivileged user.

No container engine is here: what docker would do is read from the files, by its rules.
"""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.stage.containers import ROOT, build_context, checkout, copied, stages, tracked

DOCKERFILE = stages((ROOT / "Dockerfile").read_text())
ROLES = {"orchestrator", "trainer", "verifier", "worker", "launch"}
PACKAGES = (
    *("protocol", "local", "client", "ledger", "audit", "orchestrator"),
    *("rollout_worker", "trainer", "devchain", "rollcall"),
)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("", {"a", "b.py", "d/a", "d/b.py", "d/e/b.py", "d/e/.env"}),
        ("a", {"b.py", "d/a", "d/b.py", "d/e/b.py", "d/e/.env"}),
        ("**/a\n# b.py\n\n/d/e/", {"b.py", "d/b.py"}),
        ("*\n!d", {"d/a", "d/b.py", "d/e/b.py", "d/e/.env"}),
        ("*\n!d\nd/e", {"d/a", "d/b.py"}),
        ("*\n!d/*.py", {"d/b.py"}),
        ("*\n!**/*.py", {"b.py", "d/b.py", "d/e/b.py"}),
        ("*\n!d/**/*.py", {"d/b.py", "d/e/b.py"}),
        ("d/**\n!d/?", {"a", "b.py", "d/a", "d/e/b.py", "d/e/.env"}),
        ("!a\n*", set()),
    ],
)
def test_a_context_is_read_as_docker_reads_it(tmp_path: Path, text: str, kept: set[str]) -> None:
    for name in ("a", "b.py", "d/a", "d/b.py", "d/e/b.py", "d/e/.env"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert build_context(tmp_path, text) == kept


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkout(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="module")
def context(source: Path) -> set[str]:
    """What a build from a fresh checkout is sent."""
    return build_context(source, (ROOT / ".dockerignore").read_text())


@pytest.fixture(scope="module")
def image(source: Path, context: set[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the base image's COPY lines make of it."""
    folder = tmp_path_factory.mktemp("image")
    for name in copied(DOCKERFILE["base"], context):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((source / name).read_bytes())
    return folder


def test_every_file_that_is_sent_is_copied_and_every_source_is_sent(context: set[str]) -> None:
    assert copied(DOCKERFILE["base"], context) == context
    for stage in DOCKERFILE.values():
        for name, arguments in stage:
            for source in arguments.split()[:-1] if name in {"COPY", "ADD"} else []:
                assert copied([("COPY", f"{source} .")], context), source


def test_an_image_installs_all_that_roles_run(image: Path) -> None:
    command = "pip wheel -q --no-deps --no-build-isolation --no-index -w wheels ."
    subprocess.run([sys.executable, "-m", *command.split()], cwd=image, check=True)
    [wheel] = (image / "wheels").glob("rollcall-*.whl")
    held = {n for n in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in n}
    needed = {
        name
        for name in tracked()
        if (name.startswith(tuple(f"{package}/" for package in PACKAGES)) and name.endswith(".py"))
        or name.startswith(("orchestrator/store/lua/", "contracts/artifacts/"))
    }
    assert held == {*needed, "contracts/__init__.py"}


def test_an_image_has_the_starting_model_and_what_is_pinned(image: Path) -> None:
    for folder in ("models/start", "requirements"):
        there = {str(path.relative_to(image)) for path in (image / folder).iterdir()}
        assert there == {n for n in tracked() if n.startswith(folder) and not n.endswith(".md")}


def test_every_image_runs_as_a_user_without_privilege() -> None:
    assert set(DOCKERFILE) == {"base", "anvil", *ROLES}
    for name, stage in DOCKERFILE.items():
        users = [arguments for instruction, arguments in stage if instruction == "USER"]
        assert users == (
            [] if name in ROLES else ["1000:1000" if name == "anvil" else "10001:10001"]
        )
        assert name not in ROLES or stage[0] == ("FROM", f"base AS {name}")


def test_what_an_image_makes_for_its_user_is_what_that_user_writes() -> None:
    made = " ".join(arguments for name, arguments in DOCKERFILE["base"] if name == "RUN")
    assert "useradd --uid 10001 --gid 10001" in made
    for folder in ("-m 0700 /data", "/deployment"):
        assert f"install -d -o 10001 -g 10001 {folder}" in made


def test_no_image_is_given_a_secret() -> None:
    for stage in DOCKERFILE.values():
        for name, arguments in stage:
            assert name not in {"ARG", "ADD", "VOLUME"}
            assert "KEY" not in arguments.upper() or name == "RUN", arguments
