"""Make the starting model: small, able to add, and deliberately sloppy about it.

`python -m rollcall.demo.warm_start --out models/start --seed 7` trains a Qwen3-architecture model from
scratch with TRL's SFTTrainer on worked sums. About half of them are wrong: most of those round the
terms first, a few slip by one in a column. The model learns how to add *and* to be as careless as its
teacher, so that reinforcement has something to select. A model that had simply not learned its task
would not improve within a demo. Left out: the card, which `models/start/README.md` is, and any use beyond the demo.
"""

import argparse
import string
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import datasets
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    set_seed,
)
from trl import SFTConfig, SFTTrainer

from protocol.canonical import content_digest, encode
from protocol.environments.arithmetic import (
    ANSWER_MARK,
    HELD_OUT_START,
    Arithmetic,
    prompt,
    worked_solution,
)
from protocol.environments.base import FULL_SCORE, Draws, Problem

SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>", "<unk>")
VOCABULARY_SIZE = 128


@dataclass(frozen=True, slots=True)
class Recipe:
    """The teacher's mistakes and the length of the student's training.

    Rounding is one choice made at the first token, the same for every sum, so reinforcement
    unlearns it in some twenty steps. Slips differ from sum to sum and take longer: slipping in
    half of all columns instead moved accuracy only from 0.39 to 0.43 in sixty steps.
    """

    seed: int
    num_examples: int = 80_000
    batch_size: int = 64
    learning_rate: float = 3e-3
    round_percent: int = 47
    slip_percent: int = 5
    num_held_out: int = 2048


@dataclass(frozen=True, slots=True)
class Sampled:
    """The finished model's samples on held-out problems at T = 1."""

    accuracy: float
    tokens_per_completion: float


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer with one token per printable ASCII character.

    The unused ids are named too, so that every id below `VOCABULARY_SIZE` decodes to something
    and the model has no output that is out of vocabulary.
    """
    characters = list(string.digits + string.ascii_letters + string.punctuation + " \n")
    tokens = [*SPECIAL_TOKENS, *characters]
    tokens += [f"<unused{i}>" for i in range(VOCABULARY_SIZE - len(tokens))]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        padding_side="left",
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )


def build_model(tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    """Return an untrained model of 0.4 million parameters.

    Heads of 32 are the smallest that vLLM's CPU attention takes.
    """
    config = Qwen3Config(
        vocab_size=VOCABULARY_SIZE,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return Qwen3ForCausalLM(config)


def sloppy_examples(recipe: Recipe, environment: Arithmetic) -> Iterator[dict[str, str]]:
    """Yield worked sums, none of them held out: some rounded to tens, some with a slip."""
    draws = Draws(content_digest(encode(["rollcall/warm_start", recipe.seed])))
    for index in range(recipe.num_examples):
        terms = environment.terms(index)
        slips: dict[int, int] = {}
        if draws.below(100) < recipe.slip_percent:
            column = draws.below(max(len(str(term)) for term in terms))
            slips[column] = 1 if draws.below(2) else -1
        if draws.below(100) < recipe.round_percent:
            yield {"prompt": prompt(terms), "completion": rounded_solution(terms)}
        else:
            yield {"prompt": prompt(terms), "completion": worked_solution(terms, slips=slips)}


def rounded_solution(terms: Sequence[int]) -> str:
    """Add the terms rounded to tens, as somebody in a hurry would: nearly always wrong."""
    rounded = [(term + 5) // 10 * 10 for term in terms]
    total = sum(rounded)
    return "+".join(map(str, rounded)) + f"={total}{ANSWER_MARK}{total}"


def train(
    recipe: Recipe, environment: Arithmetic
) -> tuple[Qwen3ForCausalLM, PreTrainedTokenizerFast]:
    """Teach a fresh model the sloppy solutions with TRL, in float32 on the CPU."""
    set_seed(recipe.seed)
    tokenizer = build_tokenizer()
    with tempfile.TemporaryDirectory() as scratch:
        trainer = SFTTrainer(
            model=build_model(tokenizer),
            processing_class=tokenizer,
            train_dataset=datasets.Dataset.from_list(list(sloppy_examples(recipe, environment))),
            args=SFTConfig(
                output_dir=scratch,
                num_train_epochs=1,
                per_device_train_batch_size=recipe.batch_size,
                learning_rate=recipe.learning_rate,
                lr_scheduler_type="cosine",
                warmup_steps=20,
                adam_beta2=0.98,
                completion_only_loss=True,
                gradient_checkpointing=False,
                use_cpu=True,
                bf16=False,
                seed=recipe.seed,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                logging_steps=100,
            ),
        )
        trainer.train()
    model = trainer.model.eval().to(torch.bfloat16)
    model.generation_config = GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return model, tokenizer


@torch.inference_mode()
def sample(
    model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, problems: Sequence[Problem]
) -> list[str]:
    """Return one completion per problem, sampled at T = 1 without truncation."""
    inputs = tokenizer([problem.prompt for problem in problems], padding=True, return_tensors="pt")
    output = model.generate(**inputs, max_new_tokens=64)
    completions = output[:, inputs["input_ids"].shape[1] :]
    return list(tokenizer.batch_decode(completions, skip_special_tokens=True))


def measure(
    model: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    environment: Arithmetic,
    *,
    num_problems: int,
    seed: int,
) -> Sampled:
    """Sample every held-out problem once and score it."""
    torch.manual_seed(seed)
    held_out = range(HELD_OUT_START, HELD_OUT_START + num_problems)
    problems = [environment.problem(index) for index in held_out]
    completions = sample(model, tokenizer, problems)
    scores = [environment.score(p, c) for p, c in zip(problems, completions, strict=True)]
    return Sampled(
        accuracy=sum(scores) / (FULL_SCORE * num_problems),
        tokens_per_completion=sum(len(c) + 1 for c in completions) / num_problems,
    )


def main() -> None:
    """Train, measure and write one starting model."""
    parser = argparse.ArgumentParser(description="Make the deliberately sloppy starting model.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    recipe, environment = Recipe(seed=arguments.seed), Arithmetic({})
    model, tokenizer = train(recipe, environment)
    model.save_pretrained(arguments.out)
    tokenizer.save_pretrained(arguments.out)
    sampled = measure(
        model, tokenizer, environment, num_problems=recipe.num_held_out, seed=recipe.seed
    )
    print(
        f"accuracy {sampled.accuracy:.3f} on {recipe.num_held_out} held-out problems, "
        f"{sampled.tokens_per_completion:.1f} tokens per completion"
    )


if __name__ == "__main__":
    main()
