"""The seam through which vLLM's hidden states reach a `Tape`: methods mixed into its worker.

Both model runners keep the hidden states that logits come from until they sample. Recording wraps the
one call that does, on the runner of this worker, and reads beside it which request each row is and how
far it has come. Nothing is recorded, and nothing is wrapped, before the first request that asks.

Rows of prompts that are only part read have logits too, which vLLM throws away; their place is
negative. A request that was preempted goes on at the place it had reached. What GPUs have follows their
runner's source; `make test-gpu` holds it to a replay, and has not been run yet.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rollout_worker.activations import Tape


class RecordsActivations:
    """Methods that vLLM mixes into its worker; called through `collective_rpc`."""

    model_runner: Any
    vllm_config: Any
    _tape: Tape | None = None
    _slots: dict[str, int]
    """Request → its rollout on the tape."""
    _is_wrapped: bool = False

    def start_recording(self, num_requests: int) -> None:
        """Record the next `num_requests` requests, in the order in which they are first seen."""
        if not self._is_wrapped:
            if self.vllm_config.use_v2_model_runner:
                self._wrap_sample()
            else:
                self._wrap_sample_tokens()
            self._is_wrapped = True
        self._tape, self._slots = Tape(num_requests), {}

    def recorded(self, lengths: dict[str, int]) -> dict[str, bytes]:
        """Return each request's proofs; `lengths` has its tokens by vLLM's outer name."""
        assert self._tape is not None
        # Inside, a request is called by its outer name, a dash and eight random characters.
        names = [request.rpartition("-")[0] for request in self._slots]
        proofs = self._tape.proofs([lengths[name] for name in names])
        return dict(zip(names, proofs, strict=True))

    def stop_recording(self) -> None:
        """Forget what was recorded, whatever became of the requests."""
        self._tape = None

    def _wrap_sample_tokens(self) -> None:
        """Model Runner V1, which the CPU has: what was computed waits in `execute_model_state`."""
        runner = self.model_runner
        inner: Callable[..., Any] = runner.sample_tokens

        def sample_tokens(*args: Any, **kwargs: Any) -> Any:
            state = runner.execute_model_state
            if self._tape is not None and state is not None:
                batch = runner.input_batch
                requests = list(batch.req_ids)
                ran = state.scheduler_output.num_scheduled_tokens
                scheduled = np.array([ran[request] for request in requests])
                computed = batch.num_computed_tokens_cpu[: len(requests)] + scheduled
                prompts = batch.num_prompt_tokens[: len(requests)]
                self._record(requests, computed - prompts, state.sample_hidden_states)
            return inner(*args, **kwargs)

        runner.sample_tokens = sample_tokens

    def _wrap_sample(self) -> None:
        """Model Runner V2, which GPUs have."""
        runner = self.model_runner
        inner: Callable[..., Any] = runner.sample

        def sample(hidden_states: Tensor, input_batch: Any, *args: Any, **kwargs: Any) -> Any:
            if self._tape is not None:
                computed = input_batch.num_computed_tokens_np + input_batch.num_scheduled_tokens
                prompts = runner.req_states.prompt_len.np[input_batch.idx_mapping_np]
                rows = hidden_states[input_batch.logits_indices]
                self._record(list(input_batch.req_ids), computed - prompts, rows)
            return inner(hidden_states, input_batch, *args, **kwargs)

        runner.sample = sample

    def _record(self, requests: Sequence[str], places: NDArray[Any], hidden_BH: Tensor) -> None:
        """Write the rows that sample a token of the completion; one row per request."""
        assert self._tape is not None
        if len(requests) != len(hidden_BH):
            raise RuntimeError(
                f"{len(hidden_BH)} rows of logits for {len(requests)} requests: activation "
                "commitments know no speculative decoding"
            )
        live = [i for i, place in enumerate(places.tolist()) if place >= 0]
        if not live:
            return
        slots = [self._slots.setdefault(requests[i], len(self._slots)) for i in live]
        rows = hidden_BH if len(live) == len(requests) else hidden_BH[live]
        self._tape.write(slots, [int(places[i]) for i in live], rows)
