"""`python -m benchmarks.attacks`: every sampling cheat against replay, with the table and the pictures.

    python -m benchmarks.attacks [--model demo|large|smollm2] [--groups 512] [--seed 0] [--attack NAME …]
                                 [--sampler NAME …] [--replayer NAME …] [--out FILE] [--plots DIR]
                                 [--gsm8k FILE]

Models, samples and replays are kept in `--cache`, so that a second call takes seconds; an interrupt
loses a minute at most. Deterministic for a seed, on one machine and one set of libraries.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.attacks import plots
from benchmarks.attacks.bench import Policies
from benchmarks.attacks.cheats import BOTH, attacks
from benchmarks.attacks.lab import Lab, chosen, say
from benchmarks.attacks.models import NAMES
from benchmarks.attacks.rows import Peer, Row, peers, rows
from benchmarks.attacks.table import (
    aims_note,
    aims_table,
    as_json,
    honest_note,
    replay_table,
    sketch_note,
)
from protocol.errors import MarketError
from protocol.precision import ComputeDtype

CACHE = Path("build/attacks")
JSON = Path("build/bench")


def main(arguments: Sequence[str] | None = None) -> int:
    """Make what is missing, print the tables, write JSON and, where asked, Markdown and pictures."""
    options = _parser().parse_args(arguments)
    policies = Policies(
        options.model,
        options.cache,
        options.seed,
        ComputeDtype(options.dtype),
        options.gsm8k,
        options.max_tokens,
    )
    try:
        wanted = chosen(options.attack, options.model)
    except ValueError as error:
        _parser().error(str(error))
    lab = Lab(
        policies,
        wanted,
        samplers=[name for name in BOTH if name in options.sampler],
        replayers=[name for name in BOTH if name in options.replayer],
        num_groups=options.groups,
        num_calibration_groups=options.calibration_groups,
        num_compared_groups=min(options.groups, options.compared_groups),
        num_named=options.named_groups,
        compares=options.compared_groups > 0 and "transformers" in options.sampler,
    )
    try:
        lab.prepare()
    except KeyboardInterrupt:
        say("interrupted: what is done is kept, and the same command goes on from there")
        return 130
    except (ModuleNotFoundError, MarketError) as error:
        say(str(error))
        return 2
    every = {(s, r): rows(lab, s, r) for s in lab.samplers for r in lab.replayers}
    beside = peers(lab) if lab.compares else []
    text = _text(lab, every, beside)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")
    out = options.json or JSON / f"attacks-{options.model}-{options.dtype}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    flat = [row for found in every.values() for row in found]
    result = {"model": options.model, "groups": options.groups, "seed": options.seed}
    out.write_text(json.dumps(result | as_json(flat, beside), indent=1) + "\n")
    if options.plots:
        for (sampler, replayer), found in every.items():
            name = f"{options.model}-{sampler}-{replayer}"
            plots.roc(
                found,
                beside if sampler == "transformers" else [],
                options.plots / f"{name}-roc.png",
            )
            plots.delays(found, options.plots / f"{name}-delay.png")
    return 0


def _choice(lab: Lab) -> str:
    """Say how much the leased seeds leave to choose: what two honest engines do not agree on."""
    one, other = (lab.sampled(name, lab.attacks[0]) for name in lab.samplers[:2])
    count = one.lengths_GR.size
    equal = count - int(one.differs_from(other).sum())
    return (
        f"{lab.policies.model}: under the leased seeds {' and '.join(lab.samplers[:2])} give the same "
        f"completion for {equal:,} of {count:,} rollouts; near ties in the others are all there is "
        "to choose from."
    )


def _text(lab: Lab, every: dict[tuple[str, str], list[Row]], beside: Sequence[Peer]) -> str:
    parts: list[str] = []
    model = lab.policies.model
    for (sampler, replayer), found in every.items():
        num_groups, num_tokens = found[0].num_groups, found[0].num_tokens
        parts += [
            f"{model} in {lab.policies.dtype}: sampled by {sampler}, replayed by {replayer}; "
            f"{num_groups:,} groups of each attack, {num_tokens:,} tokens of honest work",
            replay_table(found, beside),
            honest_note(found),
        ]
    parts += [
        f"{model}: groups within which 95 % of such workers are found out, as handed in · after a "
        "prefill (in brackets those all of whose groups differ)",
        aims_table(every),
        aims_note(every),
    ]
    if len(lab.samplers) > 1:
        parts.append(_choice(lab))
    if beside:
        parts.append(sketch_note(beside))
    return "\n\n".join(parts)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attacks", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--model", choices=NAMES, default="demo")
    parser.add_argument("--dtype", choices=[d.value for d in ComputeDtype], default="float32")
    parser.add_argument("--groups", type=int, default=512, help="groups of each attack")
    parser.add_argument(
        "--calibration-groups", type=int, default=512, help="of each policy, for other bounds"
    )
    parser.add_argument(
        "--compared-groups", type=int, default=96, help="of each attack, for commitments; 0: none"
    )
    parser.add_argument(
        "--named-groups", type=int, default=24, help="condemned ones of each attack and pair"
    )
    parser.add_argument(
        "--max-tokens", type=int, help="of a completion, if not the environment's own"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--attack", nargs="+", default=[], choices=list(attacks()), metavar="NAME", help="all"
    )
    parser.add_argument("--sampler", nargs="+", default=list(BOTH), choices=BOTH)
    parser.add_argument("--replayer", nargs="+", default=["transformers"], choices=BOTH)
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument(
        "--gsm8k", type=Path, help="JSONL file of problems for smollm2; its own else"
    )
    parser.add_argument("--out", type=Path, help="the tables, as Markdown")
    parser.add_argument("--json", type=Path, help="every figure")
    parser.add_argument("--plots", type=Path, help="folder for the ROC and the delays")
    return parser


if __name__ == "__main__":
    sys.exit(main())
