"""Whether every role can open a model folder, found by opening it as each does.

The files are looked at first: what they refuse is told at once, and nothing is opened. Then the trainer's packed forward,
an engine and a replayer open the policy in turn, each held to the library's plain forward. vLLM takes half a minute to
start, so of it only the config is looked at. Left out: this machine's memory, which must hold the model thrice in float32.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from client.model_folder import (
    CONFIG,
    TOKENIZER,
    architecture_of,
    end_tokens,
    read_policy,
    require_model,
)
from client.policies import write_model_folder
from protocol.architectures import why_unknown
from protocol.precision import ComputeDtype
from protocol.user_error import UserError, one_line
from rollcall.rehearsal.findings import Finding, complaint


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model folder, and what a run would ask of it."""

    folder: Path
    dtype: ComputeDtype
    max_prompt_tokens: int
    max_tokens: int
    temperature: float = 1.0

    @property
    def longest(self) -> int:
        return self.max_prompt_tokens + self.max_tokens


def look_at_folder(candidate: Candidate) -> Iterator[Finding]:
    """Yield what is wrong with the folder; its weights are opened only where the files are right."""
    if damaged := complaint(lambda: require_model(candidate.folder)):
        yield damaged
        return
    looks = (_require_known, _require_ends, _require_tokenizer, _require_policy)
    refused = [found for look in looks if (found := complaint(lambda look=look: look(candidate)))]  # type: ignore[misc]
    yield from refused
    if not refused:
        yield from _opened(candidate)


def _require_known(candidate: Candidate) -> None:
    reason = why_unknown(
        (candidate.folder / CONFIG).read_bytes(),
        max_prompt_tokens=candidate.max_prompt_tokens,
        max_tokens=candidate.max_tokens,
    )
    if reason is not None:
        raise UserError(f"{candidate.folder}: {reason}")


def _require_ends(candidate: Candidate) -> None:
    ends, size = end_tokens(candidate.folder), architecture_of(candidate.folder).vocab_size
    if ends[-1] >= size:
        raise UserError(
            f"{candidate.folder}: eos_token_id {ends[-1]} is none of the {size} tokens of the model "
            "(vocab_size): correct it in config.json or generation_config.json"
        )


def _require_tokenizer(candidate: Candidate) -> None:
    """Raise `UserError` unless every token of the tokenizer is one of the model's; a model may have more."""
    from tokenizers import Tokenizer

    path, size = candidate.folder / TOKENIZER, architecture_of(candidate.folder).vocab_size
    try:
        ids = Tokenizer.from_file(str(path)).get_vocab(True).values()
    except Exception as error:  # the library raises nothing narrower
        raise UserError(f"{path} is no tokenizer ({one_line(error)}): fetch it anew") from error
    if (largest := max(ids, default=0)) >= size:
        raise UserError(
            f"{path} has token {largest}, the model {size} tokens (vocab_size): they do not belong "
            "together; take both from one model"
        )


def _require_policy(candidate: Candidate) -> None:
    read_policy(candidate.folder)


def _opened(candidate: Candidate) -> Iterator[Finding]:
    """Open the policy as a trainer does, and as worker and verifier do, from the folder that they write."""
    known = architecture_of(candidate.folder).known
    if known is not None and not known.is_in_vllm:
        yield Finding(
            f"vLLM has no {known.name} of its own: workers and verifiers of the run set engine.name and "
            "replay.engine to transformers",
            is_fatal=False,
        )
    policy = read_policy(candidate.folder)
    with tempfile.TemporaryDirectory(prefix="rollcall-rehearsal-") as scratch:
        config = (candidate.folder / CONFIG).read_bytes()
        served = write_model_folder(Path(scratch) / "model", config, policy)
        del policy
        roles: dict[str, Callable[[], None]] = {
            "trainer": lambda: _train(candidate.folder, candidate),
            "worker": lambda: _sample(served, candidate),
            "verifier": lambda: _replay(served, candidate),
        }
        for role, opens in roles.items():
            try:
                opens()
            except (MemoryError, RuntimeError) as error:
                # Torch raises RuntimeErrors for want of memory.
                yield Finding(
                    f"no {role} could be opened here ({one_line(error)}): take a larger machine"
                )
            except Exception as error:  # noqa: BLE001 - libraries raise anything for what a folder holds
                yield Finding(f"no {role} can open {candidate.folder}: {one_line(error)}")


def _train(folder: Path, candidate: Candidate) -> None:
    from trainer.model import open_policy

    open_policy(
        folder,
        device="cpu",
        compute_dtype=candidate.dtype,
        temperature=candidate.temperature,
        logits_chunk=64,
    )


def _sample(folder: Path, candidate: Candidate) -> None:
    from rollout_worker.engines.registry import open_engine

    engine = open_engine(
        "transformers", folder, dtype=candidate.dtype, max_model_len=candidate.longest
    )
    with closing(engine):
        pass


def _replay(folder: Path, candidate: Candidate) -> None:
    from rollout_worker.config import ReplayConfig
    from rollout_worker.replay.registry import open_replayer

    config = ReplayConfig.model_validate({"engine": "transformers"})
    open_replayer(config, folder, dtype=candidate.dtype, max_model_len=candidate.longest)
