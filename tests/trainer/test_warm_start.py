"""The committed starting model is what its card says, and its recipe makes such a model."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from protocol.environments.arithmetic import HELD_OUT_START, Arithmetic, is_held_out
from protocol.environments.base import FULL_SCORE
from rollcall.demo.warm_start import (
    VOCABULARY_SIZE,
    Recipe,
    build_tokenizer,
    measure,
    rounded_solution,
    sloppy_examples,
    train,
)

START = Path(__file__).parents[2] / "models/start"


def test_the_checkpoint_is_small() -> None:
    assert sum(path.stat().st_size for path in START.iterdir()) <= 5_000_000
    model = AutoModelForCausalLM.from_pretrained(START)
    assert model.num_parameters() <= 2_000_000
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert model.config.model_type == "qwen3"
    assert model.config.vocab_size == VOCABULARY_SIZE


def test_the_committed_tokenizer_is_the_one_that_the_code_builds() -> None:
    committed, built = AutoTokenizer.from_pretrained(START), build_tokenizer()
    assert committed.get_vocab() == built.get_vocab()
    assert (committed.pad_token_id, committed.bos_token_id, committed.eos_token_id) == (0, 1, 2)
    assert len(committed) == VOCABULARY_SIZE


def test_every_prompt_and_solution_survives_the_tokenizer() -> None:
    tokenizer = AutoTokenizer.from_pretrained(START)
    for index in range(200):
        problem = Arithmetic({}).problem(index)
        for text in (problem.prompt, problem.solution):
            ids = tokenizer(text)["input_ids"]
            assert len(ids) == len(text)
            assert tokenizer.decode(ids) == text
    assert (
        tokenizer("a b\n~")["input_ids"]
        == tokenizer("a b\n~", add_special_tokens=False)["input_ids"]
    )
    assert tokenizer("é")["input_ids"] == [tokenizer.unk_token_id]


def test_a_solution_has_ten_to_forty_tokens() -> None:
    lengths = [len(Arithmetic({}).problem(index).solution) + 1 for index in range(2000)]
    assert min(lengths) >= 10
    assert max(lengths) <= 40
    assert sum(lengths) / len(lengths) < 26


def test_about_half_of_what_is_taught_is_wrong() -> None:
    environment = Arithmetic({})
    examples = list(sloppy_examples(Recipe(seed=7, num_examples=2000), environment))
    scores = [
        environment.score(environment.problem(index), example["completion"])
        for index, example in enumerate(examples)
    ]
    assert [example["prompt"] for example in examples[:3]] == [
        environment.problem(index).prompt for index in range(3)
    ]
    assert 0.45 < sum(scores) / (FULL_SCORE * len(scores)) < 0.60


def test_rounding_is_wrong_unless_its_errors_cancel() -> None:
    assert rounded_solution((47, 38)) == "50+40=90#90"
    assert rounded_solution((44, 36)) == "40+40=80#80"
    assert rounded_solution((98, 84, 89)) == "100+80+90=270#270"


def test_its_held_out_accuracy_is_that_of_its_card_and_leaves_room_to_learn() -> None:
    model = AutoModelForCausalLM.from_pretrained(START)
    tokenizer = AutoTokenizer.from_pretrained(START)
    sampled = measure(model, tokenizer, Arithmetic({}), num_problems=1024, seed=3)
    claimed = float((START / "README.md").read_text().split(": **")[1].split("**")[0])
    assert 0.42 < sampled.accuracy <= 0.60
    assert abs(sampled.accuracy - claimed) < 0.07, "four standard errors of 1,024 samples"
    assert sampled.tokens_per_completion < 30


def test_the_card_has_the_models_size_the_recipe_and_how_many_sums_were_measured() -> None:
    """There are too few sums of two terms for all problems to differ, whatever the order of their terms."""
    card, environment, recipe = (START / "README.md").read_text(), Arithmetic({}), Recipe(seed=7)
    held_out = range(HELD_OUT_START, HELD_OUT_START + recipe.num_held_out)
    num_sums = len({tuple(sorted(environment.terms(index))) for index in held_out})
    count = AutoModelForCausalLM.from_pretrained(START).num_parameters()
    for fact in (
        f"{count:,} parameters ({2 * count / 1e6:.1f} MB in bfloat16)",
        f"{recipe.round_percent} % round the terms to tens first, {recipe.slip_percent} % slip by one",
        f"{recipe.num_held_out:,} held-out problems ({num_sums:,} different sums)",
        f"{recipe.num_examples // recipe.batch_size:,} steps of\n{recipe.batch_size} examples",
        f"python -m rollcall.demo.warm_start --out models/start --seed {recipe.seed}",
    ):
        assert fact in card


def test_held_out_sums_are_never_taught() -> None:
    recipe, environment = Recipe(seed=7, num_examples=5000), Arithmetic({})
    taught = [example["prompt"] for example in sloppy_examples(recipe, environment)]
    sums = [[int(term) for term in text.removesuffix("=?").split("+")] for text in taught]
    assert not any(is_held_out(terms) for terms in sums)
    assert Recipe(seed=7).num_examples <= HELD_OUT_START


@pytest.mark.slow
def test_a_short_course_already_teaches_the_form() -> None:
    environment = Arithmetic({})
    model, tokenizer = train(Recipe(seed=1, num_examples=9600), environment)
    sampled = measure(model, tokenizer, environment, num_problems=512, seed=1)
    assert sampled.tokens_per_completion < 40
    assert sampled.accuracy < 0.6
