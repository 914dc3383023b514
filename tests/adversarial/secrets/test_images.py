"""Keys that lie in a checkout are in no image and in nothing that a build is sent.

Whoever can pull an image, or reads a builder's cache, would hold every party's key.
"""

from pathlib import Path

import pytest

from rollcall.demo.containers import write_containers
from tests.stage.containers import ROOT, build_context, checkout, copied, stages

EVERYTHING_BUT = """
.git
.venv
out
report
build
**/__pycache__
contracts/node_modules
.mypy_cache
.ruff_cache
"""
"""A list of what to leave out: it lacks whatever its author did not think of."""
COPIES_ALL = "FROM python AS base\nCOPY requirements requirements\nCOPY . .\n"
STRAY = (
    *(
        ".git/config",
        ".venv/bin/activate",
        "build/bench/intake.json",
        "out/market/redis/redis.conf",
    ),
    *("report/key", "protocol/.env", "protocol/__pycache__/run.pyc", ".mypy_cache/key.json"),
    *(
        "rollcall/worker.key",
        "orchestrator/store/lua/dump.rdb",
        "contracts/node_modules/a/index.js",
    ),
    *("models/start/id_ed25519", "models/key.json", "deployment.json", "worker.toml", "id_rsa.pem"),
    *("contracts/key.json", "contracts/artifacts/.env", "requirements/pip.conf", "keys/alice.py"),
)
"""Where a secret may lie in a checkout that is worked in."""


@pytest.fixture(scope="module")
def worked_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with the containers' secrets written, and copies of them strewn about."""
    folder = checkout(tmp_path_factory.mktemp("checkout"))
    write_containers(folder, steps=2)
    for name in STRAY:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text((folder / ".env").read_text())
    return folder


def leaking(folder: Path, files: set[str]) -> set[str]:
    """Return the files that hold a private key or the password."""
    lines = (folder / ".env").read_text().split()
    secrets = [line.partition("=")[2].removeprefix("0x").encode() for line in lines]
    assert len(secrets) == 5
    return {name for name in files if any(s in (folder / name).read_bytes() for s in secrets)}


def test_no_secret_of_a_checkout_is_sent_to_a_build(worked_in: Path) -> None:
    every = {str(path.relative_to(worked_in)) for path in worked_in.rglob("*") if path.is_file()}
    lying_about = leaking(worked_in, every)
    assert lying_about >= {".env", "compose/redis/redis.conf", *STRAY}
    context = build_context(worked_in, (ROOT / ".dockerignore").read_text())
    assert leaking(worked_in, context) == set()
    assert context.isdisjoint(lying_about)


def test_a_list_of_what_to_leave_out_puts_every_key_into_every_image(worked_in: Path) -> None:
    context = build_context(worked_in, EVERYTHING_BUT)
    assert leaking(worked_in, copied(stages(COPIES_ALL)["base"], context)) >= {
        *(".env", "compose/redis/redis.conf", "rollcall/worker.key", "id_rsa.pem", "worker.toml"),
    }


def test_an_image_copies_named_folders_alone(worked_in: Path) -> None:
    """The second defence: also of a context with everything in it, no image has what lies at its top."""
    every = build_context(worked_in, "")
    for stage in stages((ROOT / "Dockerfile").read_text()).values():
        files = copied(stage, every)
        assert files.isdisjoint(
            {".env", ".git/config", "worker.toml", "id_rsa.pem", "keys/alice.py"}
        )
        assert not any(name.startswith("compose/") for name in files)
