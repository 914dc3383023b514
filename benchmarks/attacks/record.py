"""What the lab keeps: sampled groups, and what a replay saw in them, as .npz files.

Sampling and replaying take minutes, everything after them seconds; so a figure can be asked anew
without a model. A record's name holds all that it depends on but the code: remove the cache after a
change to an engine or to replay.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from protocol.rollout import Rollout
from protocol.verdict import ReplayStats

STATS = tuple(ReplayStats.model_fields)


@dataclass(frozen=True, slots=True)
class Sampled:
    """Groups as a worker hands them in. `lengths_GR` counts tokens of each rollout, G × R."""

    lengths_GR: NDArray[np.int64]
    tokens_N: NDArray[np.uint32]
    logprobs_N: NDArray[np.float32]

    @classmethod
    def of(cls, groups: Sequence[Sequence[Rollout]]) -> "Sampled":
        rollouts = [r for group in groups for r in group]
        return cls(
            np.array([[len(r.tokens) // 4 for r in group] for group in groups], dtype=np.int64),
            np.concatenate([r.token_ids() for r in rollouts]).astype(np.uint32),
            np.concatenate([r.worker_logprobs() for r in rollouts]).astype(np.float32),
        )

    def groups(self) -> list[tuple[Rollout, ...]]:
        ends = np.cumsum(self.lengths_GR.ravel())[:-1]
        tokens, logprobs = np.split(self.tokens_N, ends), np.split(self.logprobs_N, ends)
        rollouts = [Rollout.of(t, p) for t, p in zip(tokens, logprobs, strict=True)]
        size = self.lengths_GR.shape[1]
        return [tuple(rollouts[i : i + size]) for i in range(0, len(rollouts), size)]

    def num_tokens(self) -> NDArray[np.int64]:
        """Return the tokens of each group."""
        return np.asarray(self.lengths_GR.sum(axis=1))

    def differs_from(self, other: "Sampled") -> NDArray[np.bool_]:
        """Return which rollouts are not the other's, G × R."""
        pairs = zip(self.groups(), other.groups(), strict=True)
        return np.array(
            [[a.tokens != b.tokens for a, b in zip(mine, its, strict=True)] for mine, its in pairs]
        )


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay saw: margins and gaps of every token in nats, and each rollout's signed stats."""

    lengths_GR: NDArray[np.int64]
    margins_N: NDArray[np.float32]
    gaps_N: NDArray[np.float32]
    stats_GRS: NDArray[np.int64]

    def stats(self) -> list[ReplayStats]:
        """Return each group's."""
        totals_GS, place = self.stats_GRS.sum(axis=1), STATS.index("max_margin_nanonats")
        totals_GS[:, place] = self.stats_GRS[:, :, place].max(axis=1)
        return from_rows(totals_GS)

    def of_rollouts(self) -> list[ReplayStats]:
        """Return each rollout's, group by group."""
        return from_rows(self.stats_GRS.reshape(-1, len(STATS)))

    def num_tokens(self) -> NDArray[np.int64]:
        """Return the tokens of each group."""
        return np.asarray(self.lengths_GR.sum(axis=1))


@dataclass(frozen=True, slots=True)
class Names:
    """What condemned groups C were called: a hypothesis each, or nothing, and stats as leased and under it."""

    names_C: NDArray[np.str_]
    stats_CS: NDArray[np.int64]
    explained_CS: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Compared:
    """What commitments to activations saw. Rows P are TOPLOC's proofs, N positions (GRAIL's sketches).

    `deviations_P3` is exponent mismatches, mean and median mantissa error; `sketch_N` the distance of
    two sketches and `zero_N` that of a constant zero.
    """

    proofs_G: NDArray[np.int64]
    deviations_P3: NDArray[np.float64]
    lengths_G: NDArray[np.int64]
    positions_N: NDArray[np.int64]
    sketch_N: NDArray[np.int64]
    zero_N: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a verifier of inverse-CDF sampling saw at each position, the verifier's own weights in force."""

    lengths_GR: NDArray[np.int64]
    peaks_N: NDArray[np.float32]
    """The largest probability."""
    misses_N: NDArray[np.float32]
    """How far the uniform lies from the claimed token's interval; 0 inside it."""


Kept = Sampled | Replayed | Names | Compared | Drawn
K = TypeVar("K", Sampled, Replayed, Names, Compared, Drawn)


def rows_of(stats: Sequence[ReplayStats]) -> NDArray[np.int64]:
    """Return one row of integers for each."""
    rows = [[int(getattr(one, name)) for name in STATS] for one in stats]
    return np.array(rows, dtype=np.int64).reshape(-1, len(STATS))


def from_rows(rows: NDArray[np.int64]) -> list[ReplayStats]:
    """Undo `rows_of`."""
    return [ReplayStats(**dict(zip(STATS, row, strict=True))) for row in rows.tolist()]


def write(kept: Kept, path: Path) -> None:
    """Write a record under a temporary name, then rename: an interrupt leaves no half file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new.npz")
    np.savez_compressed(new, **{name: getattr(kept, name) for name in kept.__slots__})
    new.rename(path)


def read(kind: type[K], path: Path) -> K | None:
    """Return the record, or None where there is none yet."""
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as data:
        return kind(**{name: data[name] for name in kind.__slots__})
