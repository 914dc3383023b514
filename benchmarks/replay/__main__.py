"""What it costs to verify a group, beside what it cost to sample it.

    python -m benchmarks.replay [--models start,small,wide] [--groups 64] [--rounds 3]
                                [--sequences 128] [--vocabulary 150000] [--tokens 8000] [--device cpu]
                                [--attacks build/bench/attacks-demo-float32.json]

The aim is a tenth of vLLM's cost of generating the same tokens if all is replayed, and a fiftieth per paid
token at the default draw. `start` is the demo's model; the others are random ones of 42 M and 197 M
parameters, a quarter and an eighth as many groups of them. How soon the draw catches a cheat follows
from what `python -m benchmarks.attacks` wrote.
"""

import argparse
import json
import os
import platform
import tempfile
from dataclasses import asdict
from pathlib import Path

AIM = 0.1
PEAKED = 100.0
"""Factor on the random model's logits that puts the best about 60 above the rest's middle."""
FEWER = {"start": 1, "small": 4, "wide": 8}


def main() -> None:
    """Print the tables and write JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replay")
    parser.add_argument("--models", default="start,small,wide", help="empty measures no cost")
    parser.add_argument("--groups", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sequences", type=int, default=128, help="that vLLM samples at once")
    parser.add_argument("--vocabulary", type=int, default=150_000)
    parser.add_argument("--tokens", type=int, default=8_000, help="0 measures no memory")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--attacks", type=Path, default=Path("build/bench/attacks-demo-float32.json")
    )
    parser.add_argument("--out", type=Path, default=Path("build/bench/replay.json"))
    options = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # before torch is imported
        os.environ.setdefault(name, "1")

    from benchmarks.replay import cost, draw, memory
    from protocol.run import AuditPolicy

    costs = []
    with tempfile.TemporaryDirectory(prefix="rollcall-replay-") as folder:
        for name in filter(None, options.models.split(",")):
            costs += cost.measure(
                name,
                Path(folder),
                num_groups=max(1, options.groups // FEWER[name]),
                rounds=options.rounds,
                max_sequences=options.sequences,
                device=options.device,
            )
    if costs:
        print(cost.table(costs))
        print(f"aim: 1/{1 / AIM:.0f} of generating\n")
        print(draw.cost_table(costs, AuditPolicy()))
        print(
            f"aim: {draw.MOST_COST:.0%} of generating per paid token, one rollout of a drawn group\n"
        )
    if options.attacks.exists():
        print(draw.caught_table(draw.read(options.attacks), AuditPolicy()))
        print(f"aim: {draw.LEAST_CAUGHT:.0%}; as handed in · after a prefill\n")
    else:
        print(f"{options.attacks} says how soon cheats are caught: python -m benchmarks.attacks\n")
    size, num_tokens = options.vocabulary, options.tokens
    asked = [
        memory.Asked("blocks", size, num_tokens),
        memory.Asked("blocks", size, num_tokens, spread=PEAKED),
        memory.Asked("materialised", size, num_tokens // 16),
    ]
    held = memory.measure(asked) if num_tokens else []
    if held:
        print(memory.table(held))
    result = {
        "aim": AIM,
        "sequences": options.sequences,
        "cost": [{**asdict(row), "groups_per_second": row.groups_per_second} for row in costs],
        "memory": [asdict(row) for row in held],
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform()},
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
