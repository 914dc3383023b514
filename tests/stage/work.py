"""Honest work for trainer tests: groups really sampled from the starting model, with its rewards."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zstandard
from transformers import GenerationConfig

from protocol import signing
from protocol.canonical import content_digest
from protocol.environments.arithmetic import Arithmetic
from protocol.messages import Batch, BatchGroup, RunInfo, RunStatus
from protocol.policies.manifest import entries, policy_digest
from protocol.policies.patch import from_anchor
from protocol.precision import ComputeDtype
from protocol.rollout import Rollout, Submission
from protocol.run import AuditPolicy, RunSpec
from tests.stage.bounds import thresholds
from tests.stage.desk import Desk
from trainer.batch import Group, pack, read_group
from trainer.model import Policy, load, open_model, open_policy

KEY = bytes(range(1, 33))
WORKER = signing.address_of(bytes(range(2, 34)))
MODEL = Path(__file__).parents[2] / "models" / "start"
RUN = 7


def spec(**changes: object) -> RunSpec:
    compute_dtype = ComputeDtype(str(changes.get("compute_dtype", ComputeDtype.FLOAT32)))
    environment = Arithmetic({})
    weights = from_anchor((MODEL / "model.safetensors").read_bytes())
    model_digest = policy_digest(entries(weights))
    values: dict[str, object] = {
        "name": "test",
        "environment": "arithmetic",
        "environment_digest": environment.digest,
        "num_tasks": 1 << 20,
        "held_out_start": 1 << 32,
        "num_held_out": 64,
        "model_digest": model_digest,
        "model_config_digest": content_digest((MODEL / "config.json").read_bytes()),
        "tokenizer_digest": content_digest((MODEL / "tokenizer.json").read_bytes()),
        "num_parameters": 410_368,
        "vocabulary_size": 128,
        "eos_token_id": 2,
        "group_size": 4,
        "groups_per_batch": 4,
        "max_staleness": 4,
        "max_prompt_tokens": 32,
        "max_tokens": 32,
        "rate": 1,
        "lease_seconds": 60,
        "epoch_seconds": 60,
        "max_worker_leases": 8,
        "audit": AuditPolicy(),
        "thresholds": thresholds(
            model_digest, compute_dtype=compute_dtype, match=0, margin=0, gap=0
        ),
        "orchestrator": signing.address_of(bytes(range(3, 35))),
        "trainer": signing.address_of(KEY),
    }
    return RunSpec.model_validate(values | changes)


def info(run: RunSpec) -> RunInfo:
    return RunInfo(
        run_id=RUN,
        spec=run,
        chain_id=31337,
        ledger=signing.address_of(bytes(range(4, 36))),
        token=signing.address_of(bytes(range(5, 37))),
        status=RunStatus.OPEN,
        newest_version=-1,
        epoch=0,
        budget_left_units=10**9,
        min_stake="0",
    )


def policy(*, chunk: int = 1 << 20) -> Policy:
    return open_policy(
        MODEL,
        device="cpu",
        compute_dtype=ComputeDtype.FLOAT32,
        temperature=1.0,
        logits_chunk=chunk,
    )[0]


def network() -> Any:
    """The starting model as the library runs it."""
    found = open_model(MODEL, device="cpu", compute_dtype=ComputeDtype.FLOAT32)
    load(found, from_anchor((MODEL / "model.safetensors").read_bytes()))
    return found


def sampled(
    count: int, *, group_size: int = 4, version: int = 0
) -> Sequence[tuple[BatchGroup, bytes]]:
    """Groups with their bodies, as the starting model samples them; only such as have signal."""
    return _sampled(count, group_size, version)


@lru_cache
def _sampled(count: int, group_size: int, version: int) -> Sequence[tuple[BatchGroup, bytes]]:
    torch.set_num_threads(1)
    environment, model, sampler = Arithmetic({}), policy(), network()
    vocabulary = _characters()
    found: list[tuple[BatchGroup, bytes]] = []
    torch.manual_seed(11)
    for index in range(100_000):
        problem = environment.problem(index)
        prompt = [vocabulary.index(character) for character in problem.prompt]
        rows = _generate(sampler, prompt, group_size)
        texts = ["".join(vocabulary[t] for t in row if t > 3) for row in rows]
        scores = [environment.score(problem, text) for text in texts]
        if len(set(scores)) == 1:
            continue
        rollouts = _rollouts(model, prompt, rows)
        submission = Submission(
            lease_id=content_digest(str(index).encode()),
            engine="transformers-cpu",
            prompt=tuple(prompt),
            rollouts=rollouts,
            submitted_at=1_800_000_000,
            signature=bytes(65),
        )
        body = zstandard.ZstdCompressor().compress(submission.canonical())
        entry = BatchGroup(
            work_digest=content_digest(body),
            worker=WORKER,
            index=index,
            policy_version=version,
            body=content_digest(body),
            rewards=tuple(int(score) for score in scores),
        )
        found.append((entry, body))
        if len(found) == count:
            return found
    raise AssertionError("unreachable")


def groups(count: int, *, group_size: int = 4) -> list[Group]:
    run = spec(group_size=group_size)
    return [
        read_group(entry, body, run, divide_by_deviation=False, mask_truncated=True)
        for entry, body in sampled(count, group_size=group_size)
    ]


def desk(num_steps: int, *, groups_per_batch: int = 4) -> Desk:
    """A desk with `num_steps` batches, all sampled by version 0."""
    work = sampled(num_steps * groups_per_batch)
    batches = [
        Batch(
            run_id=RUN,
            step=step,
            groups=tuple(
                entry for entry, _ in work[step * groups_per_batch : (step + 1) * groups_per_batch]
            ),
        )
        for step in range(num_steps)
    ]
    return Desk(info(spec()), batches, {entry.body: body for entry, body in work})


def _characters() -> list[str]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    return [tokenizer.id_to_token(i) or "" for i in range(128)]


@torch.no_grad()
def _generate(sampler: Any, prompt: list[int], count: int) -> list[list[int]]:
    config = GenerationConfig(
        do_sample=True, top_k=0, max_new_tokens=32, eos_token_id=2, pad_token_id=0
    )
    output = sampler.generate(torch.tensor([prompt] * count), generation_config=config)
    rows = output[:, len(prompt) :].tolist()
    return [row[: row.index(2) + 1] if 2 in row else row for row in rows]


def _rollouts(model: Policy, prompt: list[int], rows: list[list[int]]) -> tuple[Rollout, ...]:
    from trainer.batch import BatchRollout

    completions = tuple(
        BatchRollout(np.asarray(row), np.zeros(len(row), np.float32), 0.0, False, i)
        for i, row in enumerate(rows)
    )
    group = Group(b"", 0, np.asarray(prompt), completions, (0,) * len(rows))
    with torch.no_grad():
        logprobs = model.logprobs(pack([group], max_tokens=1 << 20, device="cpu")[0])[0].numpy()
    ends = np.cumsum([len(row) for row in rows])
    parts = np.split(logprobs, ends[:-1])
    return tuple(Rollout.of(row, part) for row, part in zip(rows, parts, strict=True))
