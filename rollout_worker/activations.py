"""Capture the last hidden states that tokens were sampled from, and compare them at replay.

Only the 128 largest of 32 positions are needed (`protocol.activations`), so an engine keeps the hidden
states of at most 32 positions per rollout, and picks the largest where they are: a device sends 128
places and values for 32 tokens, whatever the width. Polynomials are made at the end, all together.

The hidden state of completion token k is that of its last context token, after the final norm: what
its logits came from. Suffixes: B rows of a step, N completion positions, H hidden.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from protocol.activations import (
    DECODE_BATCHING_SIZE,
    TOPK,
    Deviation,
    Points,
    Proofs,
    num_proofs,
    proof_bytes,
    require_enough,
)


class Tape:
    """The hidden states of many growing completions, 32 positions each at most.

    Example: `Tape(2)`, then per step `write([0, 1], [k, k], hidden_BH)`, then `proofs([5, 40])`.
    """

    def __init__(self, num_rollouts: int) -> None:
        self._num_rollouts = num_rollouts
        self._newest: Tensor | None = None
        """Rollouts × 32 × H: the positions of each rollout's unfinished batch."""
        self._chosen: dict[tuple[int, int], Points] = {}
        """(rollout, batch) → its largest, one row of points."""
        self._num_written = [0] * num_rollouts

    def write(self, rollouts: Sequence[int], places: Sequence[int], hidden_BH: Tensor) -> None:
        """Keep the hidden states that the tokens at these places of these rollouts come from.

        Places of one rollout follow each other. A batch is complete when the next one begins, not
        before: an engine that runs a step beyond a completion's end spoils nothing.
        """
        newest = self._opened(hidden_BH)
        begun = [(r, p // DECODE_BATCHING_SIZE) for r, p in zip(rollouts, places, strict=True)]
        self._begin(begun)
        where_B = torch.tensor([list(rollouts), list(places)], device=hidden_BH.device)
        newest[where_B[0], where_B[1] % DECODE_BATCHING_SIZE] = hidden_BH.bfloat16()
        for rollout, place in zip(rollouts, places, strict=True):
            self._num_written[rollout] = max(self._num_written[rollout], place + 1)

    def extend(self, rollout: int, place: int, hidden_NH: Tensor) -> None:
        """Keep what follows each other in one rollout from a place on, as a prefill gives it."""
        newest = self._opened(hidden_NH)
        while len(hidden_NH):
            begin = place % DECODE_BATCHING_SIZE
            part, hidden_NH = hidden_NH.tensor_split([DECODE_BATCHING_SIZE - begin])
            self._begin([(rollout, place // DECODE_BATCHING_SIZE)])
            newest[rollout, begin : begin + len(part)] = part.bfloat16()
            place += len(part)
        self._num_written[rollout] = max(self._num_written[rollout], place)

    def proofs(self, lengths: Sequence[int]) -> list[bytes]:
        """Return the proofs of each rollout's first `length` tokens, one after another in bytes.

        Raises `BadProof` where the model has too few activations to commit to, and `RuntimeError` where
        a rollout is longer than what was written.
        """
        wanted = self._finish(lengths)
        if not wanted:
            return [b""] * len(lengths)
        data = Proofs.through(_joined([self._chosen[key] for key in wanted])).to_bytes()
        ends = np.cumsum([num_proofs(n) * proof_bytes() for n in lengths]).tolist()
        return [data[a:b] for a, b in zip([0, *ends], ends, strict=False)]

    def deviations(
        self, activations: Sequence[bytes], lengths: Sequence[int]
    ) -> list[tuple[Deviation, ...]]:
        """Compare each rollout's proofs, none where it has none, with what was written; raises as `proofs`."""
        self._finish(lengths)
        found: list[tuple[Deviation, ...]] = []
        for rollout, (data, length) in enumerate(zip(activations, lengths, strict=True)):
            count = num_proofs(length)
            if not data:
                found.append(())
                continue
            points = _joined([self._chosen[rollout, batch] for batch in range(count)])
            found.append(tuple(Proofs.from_bytes(data, count=count).deviations(points)))
        return found

    def _finish(self, lengths: Sequence[int]) -> list[tuple[int, int]]:
        """Choose the unfinished batches' largest, and return all that these lengths have."""
        short = [r for r, n in enumerate(lengths) if n > self._num_written[r]]
        if short:
            r = short[0]
            raise RuntimeError(
                f"rollout {r} has {lengths[r]} tokens, hidden states of {self._num_written[r]} were seen"
            )
        tails: dict[int, list[tuple[int, int]]] = {}
        for rollout, length in enumerate(lengths):
            last = num_proofs(length) - 1
            if length and (rollout, last) not in self._chosen:
                tails.setdefault(length - last * DECODE_BATCHING_SIZE, []).append((rollout, last))
        for count, batches in tails.items():
            self._choose(batches, count)
        return [(r, b) for r, n in enumerate(lengths) for b in range(num_proofs(n))]

    def _opened(self, hidden_BH: Tensor) -> Tensor:
        if self._newest is None:
            shape = (self._num_rollouts, DECODE_BATCHING_SIZE, hidden_BH.shape[1])
            self._newest = torch.zeros(shape, dtype=torch.bfloat16, device=hidden_BH.device)
        return self._newest

    def _begin(self, batches: Sequence[tuple[int, int]]) -> None:
        """Choose the largest of what these batches follow, before it is written over."""
        complete = [(r, b - 1) for r, b in batches if b and (r, b - 1) not in self._chosen]
        if complete:
            self._choose(complete, DECODE_BATCHING_SIZE)

    def _choose(self, batches: Sequence[tuple[int, int]], count: int) -> None:
        assert self._newest is not None
        of_B = torch.tensor([rollout for rollout, _ in batches], device=self._newest.device)
        points = _largest(self._newest[of_B, :count])
        for i, key in enumerate(batches):
            self._chosen[key] = Points(points.indices[i : i + 1], points.bits[i : i + 1])


@torch.inference_mode()
def prove(hidden_NH: Tensor) -> bytes:
    """Return the proofs of one completion whose hidden states are all at hand."""
    return Proofs.through(_points(hidden_NH)).to_bytes()


@torch.inference_mode()
def compare(activations: bytes, hidden_NH: Tensor) -> list[Deviation]:
    """Compare a completion's proofs with recomputed hidden states; raises `BadProof`."""
    proofs = Proofs.from_bytes(activations, count=num_proofs(len(hidden_NH)))
    return proofs.deviations(_points(hidden_NH))


def _points(hidden_NH: Tensor) -> Points:
    """Return the largest of each 32 positions, the last of which may be fewer."""
    hidden = hidden_NH.bfloat16()
    whole = len(hidden) // DECODE_BATCHING_SIZE * DECODE_BATCHING_SIZE
    parts = []
    if whole:
        parts.append(_largest(hidden[:whole].reshape(-1, DECODE_BATCHING_SIZE, hidden.shape[1])))
    if whole < len(hidden):
        parts.append(_largest(hidden[None, whole:]))
    return _joined(parts)


def _largest(hidden_BNH: Tensor) -> Points:
    flat = hidden_BNH.flatten(1)
    require_enough(flat.shape[1])
    indices = flat.abs().topk(TOPK, dim=1).indices
    bits = flat.gather(1, indices).view(torch.int16)
    return Points(indices.cpu().numpy(), bits.cpu().numpy().view(np.uint16))


def _joined(points: Sequence[Points]) -> Points:
    return Points(
        np.concatenate([part.indices for part in points]),
        np.concatenate([part.bits for part in points]),
    )
