"""What goes wrong around a command, and how each command is typed where all is right.

A command is typed with places in braces, such as `{rpc}`; a trouble puts something wrong in one of them. So whether a
trouble can reach a command is seen from how that is typed.
"""

import json
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from safetensors.torch import load_file, save

from rollcall.frame.folder import hold_folder
from tests.stage.front import serving
from tests.stage.ground import Ground
from tests.stage.place import opened

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "models/start"
CHAIN = "--rpc {rpc} --deployment {deployment}"
ROLE = "--set orchestrator={market} --set data_dir={data} --set chain.rpc_url={rpc} --set chain.deployment={deployment}"
LAUNCH = (
    "--set rpc_url={rpc} --set deployment={deployment} --set orchestrator={served_at} --set plan.model={model} "
    "--set orchestrator_address={address} --set trainer_address={address} --set verifiers=['{address}']"
)
COMMANDS: dict[str, tuple[str, ...]] = {
    "demo": ("demo --steps {positive} --report {data} --plain",),
    "containers": ("containers --folder {checkout}",),
    "doctor": (
        f"doctor --orchestrator {{market}} --redis {{redis}} --folder {{folder}} {CHAIN}",
        "doctor --calibrate --model {model} --engine transformers --groups {positive}",
        "doctor --calibrate --orchestrator {market} --run {run}",
    ),
    "model check": ("model check {weights}",),
    "calibrate": ("calibrate --model {weights} --dtype {dtype}", "calibrate --check {file}"),
    "serve": (
        "{key} serve --set redis_url={redis} --set blob_url=file://{blobs} --set rpc_url={rpc} "
        "--set deployment={deployment} --set port={port}",
        "serve --config {config}",
    ),
    "join": (f"{{key}} join {ROLE} --set runs=[{{run}}]", "join --config {config}"),
    "verify": (
        f"{{key}} verify {ROLE} --set replay.device={{device}}",
        f"{{anybody}} verify {ROLE} --set runs=[{{run}}]",
        "verify --config {config}",
        f"verify --explain {{digest}} --orchestrator {{market}} --run {{run}} {CHAIN}",
    ),
    "train": (
        "{trainer} train --set orchestrator={market} --set run_id={run} --set model_dir={model} --set work_dir={data} --set device={device}",
        "train --config {config}",
    ),
    "launch": (f"{{operator}} launch {LAUNCH}", "launch --config {config}"),
    "status": (f"status --orchestrator {{market}} --worker {{address}} {CHAIN}",),
    "run list": (f"run list {CHAIN}",),
    "run show": (f"run show {{run}} {CHAIN}",),
    "run create": (f"{{operator}} run create {LAUNCH}", "run create --config {config}"),
    "run fund": (f"{{key}} run fund {{run}} {{amount}} {CHAIN}",),
    "run halt": (f"{{key}} run halt {{run}} --reason why {CHAIN}",),
    "run resume": (f"{{key}} run resume {{run}} {CHAIN}",),
    "run permit": (f"{{key}} run permit {{run}} {CHAIN}",),
    "run stop": (f"{{key}} run stop {{run}} --yes {CHAIN}",),
    "run close": (f"{{key}} run close {{run}} {CHAIN}",),
    "run refund": (f"{{key}} run refund {{run}} {CHAIN}",),
    "run replace": (f"{{key}} run replace {{run}} 0 {{address}} {CHAIN}",),
    "run retract": (f"{{key}} run retract {{run}} 0 {CHAIN}",),
    "key": ("{anybody} key --address",),
    "consent": (f"{{anybody}} consent --owner {{address}} {CHAIN}",),
    "stake": (f"{{key}} stake {{amount}} {CHAIN}",),
    "unbond": (f"{{key}} unbond {{amount}} {CHAIN}",),
    "payout": (f"{{key}} payout {{address}} {CHAIN}",),
    "withdraw": (f"{{key}} withdraw {CHAIN}",),
    "claim": (
        f"{{key}} claim --orchestrator {{market}} --run {{run}} {CHAIN}",
        f"{{key}} claim --file {{file}} {CHAIN}",
        "claim --config {config}",
    ),
    "owed": (f"{{key}} owed {ROLE} --worker {{address}}", "owed --config {config}"),
    "signer add": (f"{{key}} signer add {{address}} --consent {{consent}} {CHAIN}",),
    "signer revoke": (f"{{key}} signer revoke {{address}} {CHAIN}",),
    "signer list": (f"signer list --worker {{address}} {CHAIN}",),
    "appeal": (f"{{key}} appeal {{digest}} --reason why {CHAIN}",),
    "audit": (f"audit {{market}} --run {{run}} {CHAIN}",),
    "watch": (f"{{key}} watch {{market}} --once --state {{data}} --run {{run}} {CHAIN}",),
    "provenance": ("provenance {market} --run {run}",),
    "council pause": (f"{{key}} council pause {{positive}} --reason why {CHAIN}",),
    "council unpause": (f"{{key}} council unpause {CHAIN}",),
    "council resign": (f"{{key}} council resign guardian --yes {CHAIN}",),
}
"""By command: as typed; `{key}` and its like stand for what ROLLCALL_KEY is set to."""
DEVCHAIN = "devchain --port {port} --state {data}"
KEYS = ("key", "anybody", "trainer", "operator")


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong in which place; with `is_full` no file takes another byte."""

    place: str
    name: str
    value: str
    is_full: bool = False


class _Page(BaseHTTPRequestHandler):
    """A site that is neither a market nor a chain: a page of HTML for whatever is asked."""

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        page = b"<html><body>It works!</body></html>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    do_GET = do_POST = do_PUT = _answer

    def log_message(self, format: str, *args: Any) -> None:
        """Stay quiet."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is right in every place, and what may be wrong there."""

    right: dict[str, str]
    troubles: tuple[Trouble, ...]


@contextmanager
def surroundings(ground: Ground, redis_url: str, folder: Path) -> Iterator[Surroundings]:
    """Run a market, its chain, a Redis and a site, for the length of a `with`."""
    with ExitStack() as stack:
        place = stack.enter_context(opened(ground, redis_url, folder / "blobs"))
        front, chain = stack.enter_context(serving(place))
        site = stack.enter_context(HTTPServer(("127.0.0.1", 0), _Page))
        Thread(target=site.serve_forever, args=(0.05,), daemon=True).start()
        stack.callback(site.shutdown)
        free = stack.enter_context(socket.socket())
        free.bind(("127.0.0.1", 0))  # bound and not listening: nobody else gets the port
        ground.deployment.save(folder / "deployment.json")
        held = folder / "held"
        stack.enter_context(hold_folder(held, "data_dir"))
        page = f"127.0.0.1:{site.server_port}"
        right = {
            "market": front.url,
            "rpc": chain.url,
            "deployment": str(folder / "deployment.json"),
            "redis": redis_url + "?db=7",
            "data": "data",
            "model": str(MODEL),
            "weights": str(MODEL),
            "blobs": str(folder / "more-blobs"),
            "folder": str(folder),
            "file": str(folder / "epochs"),
            "checkout": str(ROOT),
            "dtype": "float32",
            "device": "cpu",
            "served_at": "http://market",
            "run": str(place.run_id),
            "port": "0",
            "address": ground.address("carol"),
            "digest": "0x" + "12" * 32,
            "amount": "1",
            "positive": "24",
            "consent": "0x" + "34" * 65,
            "config": str(folder / "config.toml"),
            "key": "0x" + ground.people["alice"].key.hex(),
            "anybody": "0x" + ground.people["hot"].key.hex(),
            "trainer": "0x" + ground.people["trainer"].key.hex(),
            "operator": "0x" + ground.people["operator"].key.hex(),
        }
        closed = f"http://127.0.0.1:{free.getsockname()[1]}"
        addresses = {
            "no scheme": closed.removeprefix("http://"),
            "nobody listens": closed,
            "an unknown host": "http://nosuch.invalid:8545",
            "a site": f"http://{page}",
            "no name": "http://a..b:8545",
        }
        wrong = {
            "market": {**addresses, "the chain's": chain.url},
            "rpc": {**addresses, "the market's": front.url, "none": ""},
            "redis": {
                "a site": f"redis://{page}",
                "no name": "redis://a..b:6379/0",
                "no scheme": page,
            },
            "run": {"unknown": str(place.run_id + 10**6), "negative": "-1"},
            "amount": {
                "negative": "-1",
                "no number": "much",
                "too fine": "1e-30",
                "too much": "1e30",
            },
            "positive": {"negative": "-1"},
            "address": {"short": "0x12", "a name": "alice"},
            "digest": {"short": "0xdead", "no hex": "whatever", "unknown": "0x" + "77" * 32},
            "consent": {"no hex": "whatever", "short": "0x12"},
            "dtype": {"unknown": "float17"},
            "device": {"unknown": "gpu"},
            "served_at": {"no scheme": "market:8100", "no name": "http://a..b"},
            "port": {"in use": str(site.server_port), "no port": "99999"},
            "data": {
                "a file": str(ROOT / "README.md"),
                "unwritable": "/proc/rollcall",
                "in use": str(held),
            },
            "blobs": {"a file": str(ROOT / "README.md"), "unwritable": "/proc/rollcall"},
            "folder": {"unwritable": "/proc"},
            "file": {"missing": str(folder / "nosuch"), "no epoch": str(ROOT / "README.md")},
            "checkout": {"another folder": str(folder)},
            **{name: {"none": "", "short": "0x1234", "no hex": "secret"} for name in KEYS},
            "deployment": _deployments(folder),
            "config": _configs(folder),
            "weights": _models(folder),
        }
        wrong["model"] = {**wrong["weights"], "no bounds": _without_bounds(folder)}
        for name, stranger in (("trainer", "bob"), ("operator", "nobody"), ("key", "nobody")):
            wrong[name]["another's"] = "0x" + ground.people[stranger].key.hex()
        troubles = [
            Trouble(at, name, v) for at, named in wrong.items() for name, v in named.items()
        ]
        troubles.append(Trouble("data", "full", str(folder / "full"), is_full=True))
        yield Surroundings(right, tuple(troubles))


def _written(path: Path, text: str | bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


def _deployments(folder: Path) -> dict[str, str]:
    values = json.loads((folder / "deployment.json").read_text())
    nobody = {
        name: "0x" + "11" * 20 if isinstance(v, str) and v.startswith("0x") else v
        for name, v in values.items()
    }
    return {
        "missing": str(folder / "nosuch.json"),
        "no JSON": _written(folder / "broken.json", "{"),
        "another file": _written(folder / "other.json", "{}"),
        "a folder": str(folder),
        "another chain's": _written(folder / "foreign.json", json.dumps({**values, "chain_id": 1})),
        "another ledger's": _written(folder / "nobody.json", json.dumps(nobody)),
    }


def _configs(folder: Path) -> dict[str, str]:
    return {
        "missing": str(folder / "nosuch.toml"),
        "a folder": str(folder),
        "no TOML": _written(folder / "broken.toml", "orchestrator: http://market\n"),
        "no text": _written(folder / "binary.toml", b"\x89PNG\r\n\x1a\n\xff"),
        "a typo": _written(
            folder / "typo.toml", 'orchestrater = "http://market"\nrpc_ulr = "http://node"\n'
        ),
        "unknown": _written(folder / "unknown.toml", "frobnicate = 1\n"),
        "a wrong value": _written(
            folder / "wrong.toml", "orchestrator = 5\nport = 'x'\nrun_id = 'x'\n"
        ),
        "empty": _written(folder / "empty.toml", ""),
    }


def _without_bounds(folder: Path) -> str:
    copy = folder / "models" / "unbounded"
    shutil.copytree(MODEL, copy, ignore=shutil.ignore_patterns("thresholds.json"))
    return str(copy)


def _models(folder: Path) -> dict[str, str]:
    def changed(name: str, **files: str | bytes | None) -> str:
        copy = folder / "models" / name
        shutil.copytree(MODEL, copy)
        for file, text in files.items():
            path = copy / (
                "model.safetensors" if file == "model" else file.removesuffix("_json") + ".json"
            )
            path.unlink()
            if text is not None:
                _written(path, text)
        return str(copy)

    config = json.loads((MODEL / "config.json").read_text())
    endless = {name: value for name, value in config.items() if name != "eos_token_id"}
    tied = load_file(MODEL / "model.safetensors")
    tied["lm_head.weight"] = -tied["model.embed_tokens.weight"]
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 855\n"
    weights = (MODEL / "model.safetensors").read_bytes()
    return {
        "missing": str(folder / "nosuch"),
        "no weights": changed("bare", model=None),
        "a pointer": changed("pointer", model=pointer),
        "cut weights": changed("cut", model=weights[: len(weights) // 2]),
        "a broken config": changed("config", config_json="{"),
        "experts": changed("experts", config_json=json.dumps({**config, "model_type": "mixtral"})),
        "no end": changed("endless", config_json=json.dumps(endless), generation_config_json=None),
        "another head": changed("head", model=save(tied)),
        "a broken tokenizer": changed("tokenizer", tokenizer_json="{"),
    }
