"""Search for minutes with atheris, which follows coverage: `python -m tests.fuzz.campaign NAME… --seconds 300`.

Without names, every decoder is searched, one after the other. An input that breaks a decoder is printed as a
line for `crashes/`; `--keep` puts the shortest of what reached new code into `found/`.
"""

import argparse
import contextlib
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from rollcall.frame.roles import RECURSION_LIMIT
from tests.fuzz import kept
from tests.fuzz.mutations import mutated

ROOT = Path(__file__).parents[2]
HOME = ROOT / "build" / "atheris"
ATHERIS = "atheris==3.0.0"
"""In a folder of its own, as Slither is: not every machine has a build of it, and nothing else needs it."""
OURS = ["protocol", "local", "audit", "client", "ledger", "orchestrator", "jwt", "msgpack.fallback"]
MOST_INPUT = 1 << 14
MOST_MIB = 2048
MOST_SECONDS = 20
"""For one input. A hang is minutes: slow machines are not."""


def install() -> None:
    """Set atheris up, once; raise `CalledProcessError` where it cannot be had."""
    if not (HOME / ATHERIS).exists():
        command = f"-m pip install -q --no-deps --upgrade --target {HOME} {ATHERIS}"
        subprocess.run([sys.executable, *command.split()], check=True)
        (HOME / ATHERIS).touch()


def search(name: str, seconds: int, *, keep: bool = False) -> list[bytes]:
    """Search one decoder in a process of its own; return the inputs that broke it."""
    install()
    with tempfile.TemporaryDirectory() as root:
        found, broken = Path(root, "found"), Path(root, "broken")
        found.mkdir()
        broken.mkdir()
        for number, data in enumerate(kept.inputs(name)):
            (found / str(number)).write_bytes(data)
        options = f"-max_total_time={seconds}", f"-artifact_prefix={broken}/", str(found)
        status = _run(name, *options)
        if keep:
            kept.find(name, [path.read_bytes() for path in found.iterdir()])
        crashes = [path.read_bytes() for path in broken.iterdir()]
        assert crashes or status == 0, f"the search of {name} ended with status {status}"
        return crashes


def _run(name: str, *options: str) -> int:
    limits = f"-max_len={MOST_INPUT} -rss_limit_mb={MOST_MIB} -timeout={MOST_SECONDS}".split()
    child = [sys.executable, "-m", "tests.fuzz.campaign", "--child", name, "--"]
    places = os.pathsep.join((str(HOME), str(ROOT)))
    environment = os.environ | {"PYTHONPATH": places}
    return subprocess.run([*child, *limits, *options], env=environment, check=False).returncode


def _child(name: str, options: list[str]) -> None:
    import atheris

    with atheris.instrument_imports(include=OURS):
        from tests.fuzz.decoders import BY_NAME

    decoder = BY_NAME[name]

    def mutator(data: bytes, most: int, seed: int) -> bytes:
        rng = random.Random(seed)
        if rng.random() < 0.3:
            return bytes(atheris.Mutate(data, most))
        return mutated(data, decoder.form, rng, is_named=decoder.is_named)[:most]

    sys.setrecursionlimit(RECURSION_LIMIT)
    atheris.Setup([sys.argv[0], *options], decoder, custom_mutator=mutator)
    atheris.Fuzz()


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        _child(sys.argv[2], sys.argv[4:])
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=[])
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_args()
    crashes = 0
    for name in arguments.names or kept.names():
        for data in search(name, arguments.seconds, keep=arguments.keep):
            crashes += 1
            print(f"crashes/{name}.txt: {data.hex()}")
    sys.exit(bool(crashes))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
