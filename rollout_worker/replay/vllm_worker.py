"""The seam through which vLLM replays claims: methods mixed into its worker.

A replay is a prefill, so claims travel as prompts, and vLLM would keep the logits of a prompt's last
position only. Its prompt log-probabilities say nothing about the tokens that were not claimed, and the
noise makes winners of those. So the hidden states of every position are taken where both model runners
keep them until they sample, and compared there, by blocks: only what was decided leaves the worker.

Left out: sharing a prompt's prefill. vLLM's prefix cache would also pass over completion positions
that siblings have in common, and those would have no hidden states; requests must not read it.

Suffixes: N completion positions of a step, S positions of a step, H hidden, V vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rollout_worker.replay.contest import Claims, Decided, decide

_BYTES_PER_LOGIT = 4
"""Of a whole row: bfloat16 or, where a head computes in it, float32."""


@dataclass(frozen=True, slots=True)
class Sequences:
    """Claims about the completions of consecutive requests, one row of claims after another."""

    first_request: int
    """vLLM's number of the first; the others count on from there."""
    prompt_lengths: Sequence[int]
    lengths: Sequence[int]
    """Tokens of each completion."""
    claims: Claims
    """On the CPU."""


class _Replay:
    """The claims of a run of requests, and what was decided of them so far."""

    def __init__(self, sequences: Sequences) -> None:
        self._sequences = sequences
        self._claims = sequences.claims
        ends_B = torch.tensor(list(sequences.lengths)).cumsum(0)
        self._starts = [0, *ends_B[:-1].tolist()]
        self._winners_N = torch.zeros_like(self._claims.tokens_N)
        self._margins_N = torch.zeros_like(self._claims.temperatures_N)
        self._logprobs_N = torch.zeros_like(self._claims.temperatures_N)
        self._is_decided_N = torch.zeros_like(self._claims.tokens_N, dtype=torch.bool)

    def wanted(self, request: str, computed: int, scheduled: int) -> tuple[range, range]:
        """Return which claims a step's positions of a request decide, and which positions those are."""
        # Inside, a request is called by its outer number, a dash and eight random characters.
        row = int(request.rpartition("-")[0]) - self._sequences.first_request
        if not 0 <= row < len(self._starts):
            return range(0), range(0)
        first = self._sequences.prompt_lengths[row] - 1
        begin = max(computed, first)
        end = min(computed + scheduled, first + self._sequences.lengths[row])
        start = self._starts[row] - first
        return range(begin + start, end + start), range(begin - computed, end - computed)

    def claims_at(self, where_N: Tensor, device: torch.device) -> Claims:
        return Claims(
            self._claims.tokens_N[where_N].to(device),
            self._claims.seeds_N[where_N].to(device),
            self._claims.positions_N[where_N].to(device),
            self._claims.temperatures_N[where_N].to(device),
        )

    def keep(self, where_N: Tensor, decided: Decided) -> None:
        """Write what was decided. A preempted request is computed, and written, again."""
        self._winners_N[where_N] = decided.winners_N.cpu()
        self._margins_N[where_N] = decided.margins_N.cpu()
        self._logprobs_N[where_N] = decided.logprobs_N.cpu()
        self._is_decided_N[where_N] = True

    def decided(self) -> Decided:
        if not bool(self._is_decided_N.all()):
            missing = int((~self._is_decided_N).sum())
            raise RuntimeError(
                f"vLLM computed no hidden states for {missing} of {len(self._is_decided_N)} claimed "
                "tokens: is its prefix cache read?"
            )
        return Decided(self._winners_N, self._margins_N, self._logprobs_N)


class ReplaysClaims:
    """Methods that vLLM mixes into its worker; called through `collective_rpc`."""

    model_runner: Any
    vllm_config: Any
    _replay: _Replay | None = None
    _buffer_bytes: int
    _watches_prefill: bool = False

    def start_replay(self, sequences: Sequences, buffer_bytes: int) -> None:
        """Compare the coming requests with what is claimed of them; see `decide` for the buffer."""
        if not self._watches_prefill:
            if self.vllm_config.use_v2_model_runner:
                self._watch_sample()
            else:
                self._watch_sample_tokens()
            self._watches_prefill = True
        self._replay, self._buffer_bytes = _Replay(sequences), buffer_bytes

    def end_replay(self) -> None:
        """Forget the claims, whatever became of them."""
        self._replay = None

    def replayed(self) -> Decided:
        """Return what was decided; `RuntimeError` where a position was never computed."""
        assert self._replay is not None
        return self._replay.decided()

    def _watch_sample_tokens(self) -> None:
        """Model Runner V1, which the CPU has: what was computed waits in `execute_model_state`."""
        runner = self.model_runner
        inner: Callable[..., Any] = runner.sample_tokens

        def sample_tokens(*args: Any, **kwargs: Any) -> Any:
            state = runner.execute_model_state
            if self._replay is not None and state is not None:
                requests = list(runner.input_batch.req_ids)
                ran = state.scheduler_output.num_scheduled_tokens
                computed = runner.input_batch.num_computed_tokens_cpu[: len(requests)].tolist()
                self._compare(requests, computed, [ran[r] for r in requests], state.hidden_states)
            return inner(*args, **kwargs)

        runner.sample_tokens = sample_tokens

    def _watch_sample(self) -> None:
        """Model Runner V2, which GPUs have."""
        runner = self.model_runner
        inner: Callable[..., Any] = runner.sample

        def sample(hidden_states: Tensor, input_batch: Any, *args: Any, **kwargs: Any) -> Any:
            if self._replay is not None:
                self._compare(
                    list(input_batch.req_ids),
                    input_batch.num_computed_tokens_np.tolist(),
                    input_batch.num_scheduled_tokens.tolist(),
                    hidden_states,
                )
            return inner(hidden_states, input_batch, *args, **kwargs)

        runner.sample = sample

    @torch.inference_mode()
    def _compare(
        self,
        requests: Sequence[str],
        computed: Sequence[int],
        scheduled: Sequence[int],
        hidden_SH: Tensor,
    ) -> None:
        """Decide the claims that this step's positions stand before. Requests lie side by side."""
        replay = self._replay
        assert replay is not None
        claims: list[int] = []
        places: list[int] = []
        offset = 0
        for request, before, ran in zip(requests, computed, scheduled, strict=True):
            of_request, in_step = replay.wanted(request, before, ran)
            claims += of_request
            places += [offset + place for place in in_step]
            offset += ran
        if not claims:
            return
        # vLLM's head gives whole rows: half the buffer is for them, half for the contest.
        size, vocabulary_size = self._buffer_bytes // 2, self._vocabulary_size()
        height = max(1, size // (_BYTES_PER_LOGIT * vocabulary_size))
        for first in range(0, len(claims), height):
            where_N = torch.tensor(claims[first : first + height])
            places_N = torch.tensor(places[first : first + height], device=hidden_SH.device)
            logits_NV: Tensor = self.model_runner.get_model().compute_logits(hidden_SH[places_N])
            decided = decide(
                replay.claims_at(where_N, hidden_SH.device),
                partial(_part, logits_NV),
                vocabulary_size,
                buffer_bytes=size,
            )
            replay.keep(where_N, decided)

    def _vocabulary_size(self) -> int:
        return int(self.vllm_config.model_config.get_vocab_size())


def _part(logits_NV: Tensor, places: slice, tokens: slice) -> Tensor:
    return logits_NV[places, tokens]
