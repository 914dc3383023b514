"""Honest work for trainer tests: groups really sampled from the starting model, with its rewards."""

import itertools
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
import zstandard
from transformers import GenerationConfig

from protocol.canonical import content_digest
from protocol.environments.arithmetic import Arithmetic
from protocol.messages import BatchGroup
from protocol.policies.patch import from_anchor
from protocol.precision import ComputeDtype
from protocol.rollout import Rollout, Submission, read_submission
from protocol.run import RunSpec
from tests.stage.terms import MODEL, digest_of, make_spec, person
from trainer.batch import Group, group_of, pack
from trainer.model import Policy, load, open_model, open_policy

KEY = bytes(person("trainer").key)
WORKER = person("alice").address


def spec(**changes: object) -> RunSpec:
    """Return a run of the starting model; `changes` are fields of RunSpec."""
    return make_spec(**terms(**changes))


def terms(**changes: Any) -> dict[str, Any]:
    """Return the fields of RunSpec in which such a run is its own."""
    fields: dict[str, Any] = {
        "num_tasks": 1 << 20,
        "held_out_start": 1 << 32,
        "num_held_out": 64,
        "model_digest": start_digest(),
        "group_size": 4,
        "groups_per_batch": 4,
        "max_staleness": 4,
        "max_prompt_tokens": 32,
        "max_tokens": 32,
    }
    return fields | changes


@cache
def start_digest() -> bytes:
    return digest_of(from_anchor((MODEL / "model.safetensors").read_bytes()))


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


@cache
def _sampled(count: int, group_size: int, version: int) -> Sequence[tuple[BatchGroup, bytes]]:
    found: list[tuple[BatchGroup, bytes]] = []
    for index in itertools.count():
        prompt = tuple(_characters().index(c) for c in Arithmetic({}).problem(index).prompt)
        rollouts, scores = completions(index, prompt, group_size)
        if len(set(scores)) == 1:
            continue
        submission = Submission(
            lease_id=content_digest(str(index).encode()),
            engine="transformers-cpu",
            prompt=prompt,
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
            rewards=scores,
        )
        found.append((entry, body))
        if len(found) == count:
            return found
    raise AssertionError("unreachable")


@cache
def completions(
    index: int, prompt: tuple[int, ...], count: int
) -> tuple[tuple[Rollout, ...], tuple[int, ...]]:
    """Return what the starting model samples for a task, the same each time, and its rewards."""
    torch.set_num_threads(1)
    torch.manual_seed(index)
    environment, vocabulary = Arithmetic({}), _characters()
    rows = _generate(_sampler(), list(prompt), count)
    texts = ["".join(vocabulary[t] for t in row if t > 3) for row in rows]
    scores = tuple(int(environment.score(environment.problem(index), text)) for text in texts)
    return _rollouts(_reference(), list(prompt), rows), scores


def groups(count: int, *, group_size: int = 4) -> list[Group]:
    run = spec(group_size=group_size)
    return [
        made(entry, body, run, mask_truncated=True)
        for entry, body in sampled(count, group_size=group_size)
    ]


def made(entry: BatchGroup, body: bytes, run: RunSpec, *, mask_truncated: bool) -> Group:
    """Return what a trainer makes of a body that it holds for the entry's work."""
    submission = read_submission(body, run.most_submission_bytes)
    return group_of(
        entry, submission, run, divide_by_deviation=False, mask_truncated=mask_truncated
    )


@cache
def _sampler() -> Any:
    return network()


@cache
def _reference() -> Policy:
    return policy()


@cache
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
    group = Group(b"", b"", 0, np.asarray(prompt), completions, (0,) * len(rows))
    with torch.no_grad():
        logprobs = model.logprobs(pack([group], max_tokens=1 << 20, device="cpu")[0])[0].numpy()
    ends = np.cumsum([len(row) for row in rows])
    parts = np.split(logprobs, ends[:-1])
    return tuple(Rollout.of(row, part) for row, part in zip(rows, parts, strict=True))
