"""Memory that a replay takes at a large vocabulary: by blocks, and with everything materialised.

Each figure is how far a child process's resident set peaks, while it replays one completion with a
random model, above what it was before: interpreter, libraries and weights. Materialised means as
wide as the vocabulary for all positions at once, in the plainest torch: it grows with their number, so
fewer do. The peak is Linux's, which alone lets a process set it back.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.replay.cost import Shape
from protocol.rollout import Lease, Rollout
from rollout_worker.engines.causal import CausalModel
from rollout_worker.engines.gumbel import gumbel
from rollout_worker.replay.measure import ReplayModel, claims_of, rows_of

HIDDEN = 64
Run = Callable[[Lease, NDArray[Any]], object]


@dataclass(frozen=True, slots=True)
class Asked:
    """One replay to measure."""

    way: str
    """`blocks` or `materialised`."""
    vocabulary: int
    num_tokens: int
    spread: float = 1.0
    """Factor on the random model's logits."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What one replay took."""

    way: str
    vocabulary: int
    num_tokens: int
    spread: float
    before_mib: float
    grown_mib: float
    cpu_seconds: float


def measure(asked: Sequence[Asked]) -> list[Memory]:
    """Measure one after another in a child process of one thread."""
    command = [sys.executable, "-m", "benchmarks.replay.memory"]
    given = json.dumps([asdict(one) for one in asked])
    done = subprocess.run(command, input=given, check=True, stdout=subprocess.PIPE, text=True)
    return [Memory(**found) for found in json.loads(done.stdout.splitlines()[-1])]


def _measured(asked: Asked) -> Memory:
    shape = Shape(
        HIDDEN,
        2,
        asked.vocabulary,
        prompt_tokens=64,
        completion_tokens=asked.num_tokens,
        spread=asked.spread,
    )
    [lease] = shape.workload(1).leases(salt=0)
    lease = lease.model_copy(update={"seeds": lease.seeds[:1]})
    tokens = np.random.default_rng(2).integers(3, asked.vocabulary, size=asked.num_tokens)
    with tempfile.TemporaryDirectory(prefix="rollcall-memory-") as folder:
        model_dir = shape.write(Path(folder))
        run = _by_blocks(model_dir) if asked.way == "blocks" else _materialised(model_dir)
    run(lease, tokens[:8])  # libraries allocate what they keep
    before, began = _forget_peak_mib(), time.process_time()
    run(lease, tokens)
    seconds = time.process_time() - began
    return Memory(
        **asdict(asked),
        before_mib=before,
        grown_mib=_status_mib("VmHWM") - before,
        cpu_seconds=seconds,
    )


def _by_blocks(model_dir: Path) -> Run:
    model = ReplayModel(model_dir)
    return lambda lease, tokens: model.findings([(lease, _group(tokens))])


def _materialised(model_dir: Path) -> Run:
    model = CausalModel(model_dir, device="cpu")

    @torch.inference_mode()
    def run(lease: Lease, tokens: NDArray[Any]) -> None:
        rows = rows_of([(lease, _group(tokens))], model.vocabulary_size)
        claims = claims_of(rows, model.device)
        ids = torch.tensor([row.completed.context() for row in rows])
        hidden_NH = model.decoder(input_ids=ids).last_hidden_state[0, -len(tokens) :]
        scaled_NV = model.logits(hidden_NH) / claims.temperatures_N[:, None]
        scaled_NV.log_softmax(dim=1)
        (scaled_NV + gumbel(claims.seeds_N, claims.positions_N, scaled_NV.shape[1])).max(dim=1)

    return run


def _group(tokens: NDArray[Any]) -> tuple[Rollout]:
    return (Rollout.of(tokens, np.full(len(tokens), -1.0)),)


def _forget_peak_mib() -> float:
    """Set the process's peak back to what it holds now, and return that."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status_mib("VmRSS")


def _status_mib(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(field))) / 1024


def table(rows: Sequence[Memory]) -> str:
    """Return the figures as a Markdown table."""
    lines = [
        "| way | vocabulary | tokens | logits apart | grown by, MiB | CPU seconds |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row.way} | {row.vocabulary:,} | {row.num_tokens:,} | × {row.spread:g} | "
            f"{row.grown_mib:,.0f} | {row.cpu_seconds:.1f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    torch.set_num_threads(1)
    _asked = [Asked(**one) for one in json.load(sys.stdin)]
    print(json.dumps([asdict(_measured(one)) for one in _asked]))
