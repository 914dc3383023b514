"""How often two sides whose logits differ a little draw the same token: seeded Gumbel, inverse CDF.

`argmax(logits + g)` moves only where the winner's lead is as small as the noise. The inverse of the
cumulative distribution over token ids moves with the noise of *all* the tokens before the drawn one,
by more than the width of a rare token's interval. Both are given the same logits, the same noise and
the same seeds, in float64: what is counted is the noise, not the rounding of a sum.

    python -m benchmarks.attacks.streams [--tokens 4000] [--seed 0] [--out FILE]
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from protocol.sampling import random_bits, winners

VOCABULARY = 20_000
NOISE = (0.005, 0.02, 0.05, 0.1)
"""Standard deviations of one logit between the two sides."""
NUM_HEAD = 16
TAILS = {"flat": 0.5, "peaked": 0.1}
"""Probability of all but the likeliest tokens: of a hot policy, and of one that is mostly sure."""
BLOCK = 250

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Cell:
    """Share of tokens that both sides agree on."""

    tail: str
    noise: float
    gumbel: float
    inverse_cdf: float
    tokens: int


def distribution(chance: np.random.Generator, tail: float, count: int) -> Array:
    """Return log-probabilities, count × vocabulary: a few likely tokens among many unlikely ones.

    Within either part logits are N(0, 1); which ids the likely ones have is drawn as well.
    """
    logits = chance.standard_normal((count, VOCABULARY))
    likely = chance.random((count, VOCABULARY)).argpartition(NUM_HEAD, axis=1)[:, :NUM_HEAD]
    is_head = np.zeros(logits.shape, dtype=bool)
    np.put_along_axis(is_head, likely, True, axis=1)
    for part, mass in ((is_head, 1 - tail), (~is_head, tail)):
        total = np.where(part, np.exp(logits), 0.0).sum(axis=1, keepdims=True)
        logits += np.where(part, np.log(mass / total), 0.0)
    return logits


def inverse_cdf(logits_NV: Array, uniforms_N: Array) -> NDArray[np.int64]:
    """Return the first token whose cumulative probability exceeds the uniform."""
    cumulative_NV = np.exp(logits_NV).cumsum(axis=1)
    total_N = cumulative_NV[:, -1]
    return np.asarray((cumulative_NV <= (uniforms_N * total_N)[:, None]).sum(axis=1))


def agreement(exact_NV: Array, error_NV: Array, seeds_N: NDArray[np.int64]) -> Array:
    """Return how many of N tokens stay the same under each noise, by either rule."""
    places_N = np.arange(len(seeds_N))
    uniforms_N = (random_bits(seeds_N, places_N, 0).astype(np.float64) + 0.5) / 2.0**32

    def drawn(logits_NV: Array) -> Array:
        gumbel_N = winners(logits_NV.astype(np.float32), seeds_N, places_N, temperature=1.0)
        return np.stack([gumbel_N, inverse_cdf(logits_NV, uniforms_N)])

    own = drawn(exact_NV)
    same = [(drawn(exact_NV + noise * error_NV) == own).sum(axis=1) for noise in NOISE]
    return np.array(same, dtype=np.float64)


def measure(tail: str, *, num_tokens: int, seed: int) -> Iterator[Cell]:
    """Draw tokens by both rules from the exact logits and from noisy ones."""
    chance = np.random.default_rng(seed)
    agreed = np.zeros((len(NOISE), 2))
    for start in range(0, num_tokens, BLOCK):
        count = min(BLOCK, num_tokens - start)
        exact = distribution(chance, TAILS[tail], count)
        error = chance.standard_normal(exact.shape)
        agreed += agreement(exact, error, chance.integers(0, 1 << 63, count))
    for noise, (gumbel, inverse) in zip(NOISE, agreed / num_tokens, strict=True):
        yield Cell(tail, noise, float(gumbel), float(inverse), num_tokens)


def table(cells: Sequence[Cell]) -> str:
    """Return one line per noise, flat tail · peaked tail."""
    lines = ["| noise of a logit | seeded Gumbel | inverse CDF |", "| ---: | ---: | ---: |"]
    for noise in NOISE:
        found = [cell for cell in cells if cell.noise == noise]
        gumbel = " · ".join(f"{cell.gumbel:.1%}" for cell in found)
        inverse = " · ".join(f"{cell.inverse_cdf:.1%}" for cell in found)
        lines.append(f"| {noise:g} | {gumbel} | {inverse} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table and write JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attacks.streams")
    parser.add_argument("--tokens", type=int, default=4_000, help="drawn for each cell")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("build/bench/streams.json"))
    options = parser.parse_args(arguments)
    cells = [
        cell
        for tail in TAILS
        for cell in measure(tail, num_tokens=options.tokens, seed=options.seed)
    ]
    shares = " · ".join(f"{tail} ({share:.0%} of the probability)" for tail, share in TAILS.items())
    print(
        f"Tokens that both sides agree on, of {options.tokens:,} and a vocabulary of {VOCABULARY:,}; "
        f"tails {shares}\n\n{table(cells)}"
    )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps([asdict(cell) for cell in cells], indent=1) + "\n")


if __name__ == "__main__":
    main()
