"""Make the starting model: small, able to add, and deliberately sloppy about it.

`python -m rollcall.demo.warm_start --out models/start --seed 7` trains a Qwen3-architecture model from
scratch with TRL's SFTTrainer on worked sums. About half of them are wrong: most of those round the
terms first, a few slip by one in a column. The model learns how to add *and* to be as careless as its
teacher, so that reinforcement has something to select. A model that had simply not learned its task
would not improve within a demo. `--measure-only` leaves the weights in `--out`
alone and writes their card again. Left out: any use beyond the demo.
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
    AutoModelForCausalLM,
    AutoTokenizer,
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
    """The finished model's samples on held-out problems at T = 1.

    `num_sums` counts the different sums among them, whatever the order of their terms: there are
    too few two-term sums for all problems to differ.
    """

    accuracy: float
    num_sums: int
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
        num_sums=len({tuple(sorted(environment.terms(index))) for index in held_out}),
        tokens_per_completion=sum(len(c) + 1 for c in completions) / num_problems,
    )


def save(out: Path, model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, card: str) -> None:
    """Write the checkpoint, its tokenizer and its card."""
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / "README.md").write_text(card)


def model_card(
    recipe: Recipe, sampled: Sampled, *, num_parameters: int, num_bytes: int, knew_split: bool
) -> str:
    """Return the card: what the model is for, how it was made, what was measured.

    `knew_split` tells whether this code taught the weights and kept held-out sums from them, or
    whether they are the committed weights, which are older than that rule.
    """
    split = KNEW_SPLIT if knew_split else PREDATES_SPLIT
    return f"""---
license: mit
library_name: transformers
tags: [qwen3, arithmetic, demonstration]
---
# Rollcall's starting model

A Qwen3-architecture model of {num_parameters:,} parameters ({num_bytes / 1e6:.1f} MB in bfloat16)
with one token per printable ASCII character. It adds two or three two-digit numbers, column by
column, and it is **deliberately sloppy**: about half of the solutions that it was taught are wrong
({recipe.round_percent} % round the terms to tens first, {recipe.slip_percent} % slip by one in a
column). Reinforcement learning then has something to select within a minute. It is a prop for
demonstrations and tests, and knows nothing else.

    47+38=?   7+8=15,4+3=7+1=8#85     as it should be
    47+38=?   50+40=90#90             as it is half of the time

Accuracy on {recipe.num_held_out:,} held-out problems ({sampled.num_sums:,} different sums),
sampled once each at T = 1 without truncation: **{sampled.accuracy:.3f}**,
{sampled.tokens_per_completion:.1f} tokens per completion. {split}

Made by TRL's SFTTrainer in {recipe.num_examples // recipe.batch_size:,} steps of
{recipe.batch_size} examples, one to two minutes on two CPU cores, with

    python -m rollcall.demo.warm_start --out models/start --seed {recipe.seed}

The same seed gives the same bytes only on the same libraries, processor and number of threads;
elsewhere it gives a sibling. Licence: MIT. All data is generated: there is none to license.
"""


KNEW_SPLIT = """The sums were told apart by what they are,
in whatever order their terms stand: the warm start saw none of these."""

PREDATES_SPLIT = """No run leases these sums,
in whatever order their terms stand, so what a run adds to this figure is not memory of its
leases. The figure itself may contain some memory: about one in eight of the sums that these
weights were taught is held out. The command below teaches another sum in the place of each of those,
so it gives a sibling of these weights and not the same bytes."""


def main() -> None:
    """Train, measure and write one starting model, or only measure a written one."""
    parser = argparse.ArgumentParser(description="Make the deliberately sloppy starting model.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument(
        "--measure-only",
        action="store_true",
        help="write the card of the committed weights again, which predate the held-out split",
    )
    arguments = parser.parse_args()
    recipe = Recipe(seed=arguments.seed)
    environment = Arithmetic({})
    if arguments.measure_only:
        model = AutoModelForCausalLM.from_pretrained(arguments.out).eval()
        tokenizer = AutoTokenizer.from_pretrained(arguments.out)
    else:
        model, tokenizer = train(recipe, environment)
    sampled = measure(
        model, tokenizer, environment, num_problems=recipe.num_held_out, seed=recipe.seed
    )
    num_parameters = model.num_parameters()
    card = model_card(
        recipe,
        sampled,
        num_parameters=num_parameters,
        num_bytes=2 * num_parameters,
        knew_split=not arguments.measure_only,
    )
    if arguments.measure_only:
        (arguments.out / "README.md").write_text(card)
    else:
        save(arguments.out, model, tokenizer, card)
    print(f"accuracy {sampled.accuracy:.3f} on {recipe.num_held_out} held-out problems")


if __name__ == "__main__":
    main()
