"""Tokens per second that a worker sells through the market, against its own engine offline.

One process, one engine. In each round the worker's loop first sells to a real orchestrator over HTTP:
leases, weights, signatures, submissions, receipts, with chain and Redis beside it. Then the same
engine generates the very requests that were sold, call by call, with nothing around it. The market's
time runs from the end of the first call to the end of the last, gaps included; the offline time is
that of the same calls. Rounds alternate, so that a noisy machine burdens both sides; the figure is
the median of the rounds' ratios. A round counts only if every token of it has a receipt.

Orchestrator, Redis and chain share this machine's cores with the engine, which a worker of its own
does not have to bear.

    python -m benchmarks.overhead [--engine vllm] [--groups-per-call 16] [--rounds 5] [--seconds 8]
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from client.policies import PolicyCache
from protocol.messages import RunInfo
from protocol.policies.manifest import Weights
from rollout_worker.engines.base import Completion, Engine, Request
from rollout_worker.main import opened
from rollout_worker.session import Seller, Shift
from rollout_worker.wallet import RunPermit, Wallet

WORKER = "seller"


@dataclass(frozen=True, slots=True)
class Call:
    """One engine call of the market's side."""

    requests: tuple[Request, ...]
    num_tokens: int
    ended_at: float


@dataclass
class Recorder:
    """An engine that notes its calls; everything else is the engine's."""

    engine: Engine
    name: str
    calls: list[Call] = field(default_factory=list)

    def load(self, weights: Weights) -> None:
        self.engine.load(weights)

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        completions = self.engine.generate(requests)
        num_tokens = sum(len(done.tokens) for done in completions)
        self.calls.append(Call(tuple(requests), num_tokens, time.perf_counter()))
        return completions

    def close(self) -> None:
        self.engine.close()


@dataclass(frozen=True, slots=True)
class Round:
    """One round's rates in tokens per second."""

    num_calls: int
    num_tokens: int
    market: float
    offline: float

    @property
    def ratio(self) -> float:
        return self.market / self.offline


def sell(
    seller: Seller, info: RunInfo, permit: RunPermit, engine: Engine, seconds: float
) -> list[Call]:
    """Run the worker's loop for a while; return its calls once everything has a receipt."""
    recorder = Recorder(engine, engine.name)
    stop = threading.Event()
    store = PolicyCache(seller.routes, run_id=info.run_id, spec=info.spec, domain=seller.domain)
    before = seller.counters.snapshot().get("tokens", 0)
    timer = threading.Timer(seconds, stop.set)
    timer.start()
    end = Shift(replace(seller, stop=stop), info, store, recorder, permit).run()
    timer.cancel()
    sold = seller.counters.snapshot().get("tokens", 0) - before
    made = sum(call.num_tokens for call in recorder.calls)
    if sold != made or len(recorder.calls) < 3:
        raise SystemExit(
            f"{sold} of {made} tokens were sold in {len(recorder.calls)} calls ({end}): no figure"
        )
    return recorder.calls


def measured(calls: Sequence[Call], engine: Engine) -> Round:
    """Generate the same calls offline and compare."""
    steady = calls[1:]
    num_tokens = sum(call.num_tokens for call in steady)
    started = time.perf_counter()
    again = sum(len(c.tokens) for call in steady for c in engine.generate(call.requests))
    offline = time.perf_counter() - started
    if again != num_tokens:
        raise SystemExit(f"offline made {again} tokens of the same seeds, the market {num_tokens}")
    market = steady[-1].ended_at - calls[0].ended_at
    return Round(len(steady), num_tokens, num_tokens / market, num_tokens / offline)


def run(
    engine_name: str, *, groups_per_call: int, rounds: int, seconds: float
) -> tuple[list[Round], dict[str, float]]:
    """Measure all rounds; return them with what the worker's own totals say."""
    from tests.stage.live import MODEL, key_of, live_market

    with (
        tempfile.TemporaryDirectory(prefix="rollcall-overhead-") as folder,
        live_market(
            Path(folder),
            workers=(WORKER,),
            verifier="verifier",
            max_worker_leases=4 * groups_per_call,
        ) as live,
    ):
        config = live.worker(
            WORKER,
            groups_per_call=groups_per_call,
            engine={"name": engine_name},
            metrics_seconds=2.0,
        )
        from rollout_worker.main import open_seller

        with (
            open_seller(config, key_of(WORKER), threading.Event()) as (seller, wallet),
            opened(config, live.spec, MODEL) as engine,
        ):
            info = joined(seller, wallet, live.run_id)
            permit = wallet.permit(info.run_id)
            found = [
                measured(sell(seller, info, permit, engine, seconds), engine) for _ in range(rounds)
            ]
            totals = seller.counters.snapshot()
    return found, {name: totals[name] for name in ("share_waited", "tokens_per_second")}


def joined(seller: Seller, wallet: Wallet, run_id: int) -> RunInfo:
    info = seller.routes.run(run_id)
    wallet.check_run(info)
    wallet.join(info)
    return info


def main() -> None:
    """Print the table and write JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead")
    parser.add_argument("--engine", choices=("vllm", "transformers"), default="vllm")
    parser.add_argument("--groups-per-call", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--out", type=Path, default=Path("build/bench/overhead.json"))
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    rounds, totals = run(
        options.engine,
        groups_per_call=options.groups_per_call,
        rounds=options.rounds,
        seconds=options.seconds,
    )
    ratio = statistics.median(entry.ratio for entry in rounds)
    print(
        f"{'round':>5} {'calls':>6} {'tokens':>8} {'market tok/s':>13} {'offline tok/s':>14} ratio"
    )
    for number, entry in enumerate(rounds, 1):
        print(
            f"{number:>5} {entry.num_calls:>6} {entry.num_tokens:>8} {entry.market:>13.0f} "
            f"{entry.offline:>14.0f} {entry.ratio:.3f}"
        )
    print(f"median ratio {ratio:.3f} (aim 0.85); waited {totals['share_waited']:.1%} of the time")
    result = {
        "engine": options.engine,
        "groups_per_call": options.groups_per_call,
        "ratio": round(ratio, 4),
        "aim": 0.85,
        "rounds": [{**asdict(entry), "ratio": round(entry.ratio, 4)} for entry in rounds],
        "worker": totals,
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform()},
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
