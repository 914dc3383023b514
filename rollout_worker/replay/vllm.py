"""Replay on vLLM: the prefill, and the comparison, happen inside its worker.

Beside `replay.ReplayModel`, for verifiers that have vLLM: its kernels, its paging, and the arithmetic
of the workers who sample with it. Prompts are not shared (`vllm_worker.py` says why).
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from protocol.policies.manifest import Weights
from protocol.rollout import Lease, Rollout
from rollout_worker.engines.vllm import VllmEngine
from rollout_worker.replay.contest import Decided
from rollout_worker.replay.measure import Findings, Row, claims_of, findings_of, rows_of
from rollout_worker.replay.vllm_worker import Sequences


class VllmReplay:
    """`Replayer` on an open vLLM engine, which it uses and does not close.

    `buffer_bytes` bounds logits and noise, 64 MiB where it is left out; what vLLM holds is the
    engine's to bound.
    """

    def __init__(
        self, engine: VllmEngine, model_dir: Path, *, buffer_bytes: int | None = None
    ) -> None:
        self._engine = engine
        config = json.loads((model_dir / "config.json").read_text())
        self._vocabulary_size = int(config["vocab_size"])
        self._buffer_bytes = buffer_bytes or 64 << 20

    def load(self, weights: Weights) -> None:
        """Replace every weight; raises `ValueError` where names or shapes do not fit."""
        self._engine.load(weights)

    def findings(self, groups: Sequence[tuple[Lease, Sequence[Rollout]]]) -> list[list[Findings]]:
        """Measure every position of every rollout; `ValueError` for what no model can read."""
        rows = rows_of(groups, self._vocabulary_size)
        if not rows:
            return [[] for _ in groups]
        longest = max(len(row.completed.prompt) + len(row.completed.tokens) for row in rows)
        if longest > self._engine.max_model_len:
            raise ValueError(
                f"{longest} tokens do not fit max_model_len {self._engine.max_model_len}: raise it"
            )
        decided = self._engine.with_llm(lambda llm: self._compared(llm, rows))
        found = iter(findings_of(rows, decided))
        return [[next(found) for _ in rollouts] for _, rollouts in groups]

    def _compared(self, llm: Any, rows: Sequence[Row]) -> Decided:
        from vllm import SamplingParams

        sequences = Sequences(
            first_request=llm.request_counter.counter,
            prompt_lengths=[len(row.completed.prompt) for row in rows],
            lengths=[len(row.completed.tokens) for row in rows],
            claims=claims_of(rows, torch.device("cpu")),
        )
        # vLLM must draw a token after a prompt; nobody looks at it.
        sampling = SamplingParams(
            max_tokens=1,
            temperature=0.0,
            ignore_eos=True,
            detokenize=False,
            skip_reading_prefix_cache=True,
        )
        llm.collective_rpc("start_replay", args=(sequences, self._buffer_bytes))
        try:
            llm.generate(
                [{"prompt_token_ids": row.completed.context()} for row in rows],
                sampling,
                use_tqdm=False,
            )
            [decided] = llm.collective_rpc("replayed")
        finally:
            llm.collective_rpc("end_replay")
        return decided
