"""Warm-start a lab model as the starting model was: the same sloppy sums, the same loss, in pieces.

`python -m benchmarks.attacks.training large` trains the larger model, `… sibling` the other model of
the starting model's shape. Each stops after `--seconds` and goes on where it stopped when called
again, so that it fits between other work. Unlike `rollcall.demo.warm_start` the forward pass is in bfloat16
and the loop is our own, since TRL's cannot be cut at a second. Left out: measuring accuracy beyond
the share of right answers that the bench samples anyway.
"""

import argparse
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import Qwen3Config, Qwen3ForCausalLM

from benchmarks.attacks.models import Recipe, model_folder, recipes
from protocol.environments.arithmetic import Arithmetic
from rollcall.demo import warm_start

IGNORED = -100


@dataclass(slots=True)
class Study:
    """A model under training: everything that the next piece needs."""

    model: Any
    optimizer: torch.optim.AdamW
    step: int

    @classmethod
    def begin(cls, recipe: Recipe) -> "Study":
        torch.manual_seed(recipe.seed)
        tokenizer = warm_start.build_tokenizer()
        model = Qwen3ForCausalLM(config_of(recipe, tokenizer))
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.0
        )
        return cls(model, optimizer, 0)

    def save(self, path: Path) -> None:
        """Write the state under a temporary name first, so that an interrupt leaves the old one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
        }
        new = path.with_suffix(".new")
        torch.save(state, new)
        new.rename(path)

    def restore(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = int(state["step"])


def config_of(recipe: Recipe, tokenizer: Any) -> Qwen3Config:
    """Return the recipe's architecture over the starting model's vocabulary."""
    return Qwen3Config(
        vocab_size=warm_start.VOCABULARY_SIZE,
        hidden_size=recipe.hidden_size,
        intermediate_size=recipe.intermediate_size,
        num_hidden_layers=recipe.num_layers,
        num_attention_heads=recipe.num_heads,
        num_key_value_heads=2,
        head_dim=recipe.head_dim,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )


def examples_of(recipe: Recipe) -> list[tuple[list[int], list[int]]]:
    """Return prompts and completions as ids, the completion with its end-of-sequence token."""
    tokenizer = warm_start.build_tokenizer()
    teacher = warm_start.Recipe(seed=recipe.seed, num_examples=recipe.num_steps * recipe.batch_size)
    return [
        (
            tokenizer.encode(example["prompt"], add_special_tokens=False),
            [*tokenizer.encode(example["completion"], add_special_tokens=False), 2],
        )
        for example in warm_start.sloppy_examples(teacher, Arithmetic({}))
    ]


def batch_of(examples: Sequence[tuple[list[int], list[int]]]) -> tuple[Tensor, Tensor]:
    """Pad on the right; return ids and, where a completion's token is to be predicted, its id."""
    width = max(len(prompt) + len(completion) for prompt, completion in examples)
    ids_BS = torch.zeros(len(examples), width, dtype=torch.int64)
    targets_BS = torch.full((len(examples), width), IGNORED)
    for row, (prompt, completion) in enumerate(examples):
        end = len(prompt) + len(completion)
        ids_BS[row, :end] = torch.tensor([*prompt, *completion])
        targets_BS[row, len(prompt) - 1 : end - 1] = torch.tensor(completion)
    return ids_BS, targets_BS


def rate_at(step: int, recipe: Recipe) -> float:
    """Return the learning rate: 20 steps of warm-up, then a cosine to 0, as the starting model had."""
    if step < 20:
        return recipe.learning_rate * (step + 1) / 20
    done = (step - 20) / max(1, recipe.num_steps - 20)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def train(recipe: Recipe, *, checkpoint: Path, seconds: float) -> Study:
    """Go on until the recipe ends or the time is up, and write where it stands."""
    study = Study.begin(recipe)
    if checkpoint.exists():
        study.restore(checkpoint)
    examples = examples_of(recipe)
    ends_at = time.monotonic() + seconds
    while study.step < recipe.num_steps and time.monotonic() < ends_at:
        start = study.step * recipe.batch_size
        ids_BS, targets_BS = batch_of(examples[start : start + recipe.batch_size])
        for group in study.optimizer.param_groups:
            group["lr"] = rate_at(study.step, recipe)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits_BSV = study.model(input_ids=ids_BS).logits
        loss = cross_entropy(logits_BSV.float().flatten(0, 1), targets_BS.flatten())
        study.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(study.model.parameters(), 1.0)
        study.optimizer.step()
        study.step += 1
        if study.step % 25 == 0:
            print(
                f"step {study.step}: loss {float(loss.detach()):.4f}", file=sys.stderr, flush=True
            )
    study.save(checkpoint)
    return study


def study_on(name: str, *, cache: Path, seconds: float) -> bool:
    """Train a lab model for a while; return whether it is finished and lies in its folder."""
    recipe, folder = recipes()[name], model_folder(name, cache)
    checkpoint = cache / "training" / f"{name}.pt"
    study = train(recipe, checkpoint=checkpoint, seconds=seconds)
    if study.step < recipe.num_steps:
        return False
    study.model.eval().to(torch.bfloat16).save_pretrained(folder)
    warm_start.build_tokenizer().save_pretrained(folder)
    checkpoint.unlink()
    return True


def made(name: str, cache: Path) -> Path:
    """Return the folder of a lab model, which is trained now where it is not there yet."""
    folder = model_folder(name, cache)
    if not (folder / "model.safetensors").exists():
        print(f"training {name}: minutes, once; an interrupt keeps the last", file=sys.stderr)
        while not study_on(name, cache=cache, seconds=60.0):
            pass
    return folder


def main() -> int:
    """Train for a while; return 0 where the model is finished and 3 where more calls are needed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attacks.training")
    parser.add_argument("model", choices=sorted(recipes()))
    parser.add_argument("--seconds", type=float, default=150.0)
    parser.add_argument("--cache", type=Path, default=Path("build/attacks"))
    options = parser.parse_args()
    if not study_on(options.model, cache=options.cache, seconds=options.seconds):
        print(f"{options.model} is not finished: call again to go on")
        return 3
    print(f"{options.model} is in {model_folder(options.model, options.cache)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
