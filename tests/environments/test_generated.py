"""Golden rewards of the generated problems, and the faults of the scorers that we do not use."""

import math
from fractions import Fraction
from importlib import import_module
from typing import Any

import pytest

from protocol.environments.base import FULL_SCORE, Problem
from protocol.environments.generated import Generated, allowed_generators
from protocol.environments.numerals import states
from protocol.errors import Malformed

NAMES = tuple(allowed_generators())


def upstream(name: str, seed: int) -> Any:
    """Return reasoning-gym's own data set of that name."""
    generator = allowed_generators()[name]
    module = import_module(generator.module)
    config = getattr(module, f"{generator.title}Config")(seed=seed, size=100)
    return getattr(module, f"{generator.title}Dataset")(config)


@pytest.mark.parametrize(
    ("name", "gold", "completion", "score"),
    [
        ("chain_sum", "-1200", "4 - 1204 is\n#### -1,200", FULL_SCORE),
        ("chain_sum", "-1200", "\\boxed{-1200.0}", FULL_SCORE),
        ("chain_sum", "-1200", "#### 1200", 0),
        ("chain_sum", "-1200", "-1200", 0),
        ("gcd", "6", "#### 6", FULL_SCORE),
        ("gcd", "6", "#### 06", FULL_SCORE),
        ("gcd", "6", "#### 66", 0),
        ("chain_sum", "-1200", "#### \u22121 200", FULL_SCORE),
        ("chain_sum", "-1200", "#### 4 - 1204 = -1200", FULL_SCORE),
        ("chain_sum", "-1200", "#### 4 - 1205 = -1200", 0),
        ("chain_sum", "-1200", "#### 4 - 1204", 0),
        ("gcd", "6", "#### gcd(12, 18) = 6", FULL_SCORE),
        ("gcd", "6", "#### gcd(12, 18)", 0),
        ("gcd", "6", "#### 6 is the gcd of 12 and 18", 0),
        ("base_conversion", "e6", "#### e6", FULL_SCORE),
        ("base_conversion", "e6", "#### E6", 0),
        ("base_conversion", "e6", "#### 0e6", 0),
        ("base_conversion", "e6", "#### 0xe6", 0),
    ],
)
def test_golden_rewards(name: str, gold: str, completion: str, score: int) -> None:
    assert Generated(name, {}).score(Problem("", gold, ""), completion) == score


def solved_by_other_means(name: str, prompt: str) -> str:
    """Work the problem out from its prompt alone."""
    question = prompt.partition("\nReason")[0]
    if name == "chain_sum":
        terms = question.partition(": ")[2].removesuffix(" =").replace("- ", "-").replace("+ ", "")
        return str(sum(map(int, terms.split())))
    if name == "gcd":
        return str(math.gcd(*map(int, question.split(": ")[1].split(".")[0].split(", "))))
    words = question.split("convert the ")[1].split()
    bases = {"binary": 2, "hexadecimal": 16}
    source, target = (bases.get(word) or int(word.split("-")[1]) for word in (words[0], words[-1]))
    value, digits = int(words[2], source), ""
    while value:
        value, digit = divmod(value, target)
        digits = "0123456789abcdef"[digit] + digits
    return digits or "0"


@pytest.mark.parametrize("name", NAMES)
def test_answers_are_right_by_other_means(name: str) -> None:
    for index in range(100):
        problem = Generated(name, {}).problem(index)
        assert solved_by_other_means(name, problem.prompt) == problem.gold


@pytest.mark.parametrize(
    ("name", "question", "gold"),
    [
        ("chain_sum", "problem: 52 + 61 - 12 + 69 - 23 =", "147"),
        ("gcd", "numbers: 92, 20. Give only", "4"),
        ("base_conversion", "convert the hexadecimal number 382 to base-5", "12043"),
    ],
)
def test_golden_problems(name: str, question: str, gold: str) -> None:
    problem = Generated(name, {}).problem(0)
    assert question in problem.prompt
    assert problem.gold == gold


def test_words_of_an_echo_are_answers_where_they_are_numerals() -> None:
    """Ten is `a` from base 11 on, and an echo as "a" is taken off other answers."""
    subject = Generated("base_conversion", {"max_base": 36, "min_value": 10, "max_value": 999})
    problems = [subject.problem(index) for index in range(2000)]
    assert {"a", "in", "is", "my", "so", "the"} & {problem.gold for problem in problems}
    for problem in problems:
        for completion in (problem.solution, f"#### The answer is **{problem.gold}**."):
            assert subject.score(problem, completion) == FULL_SCORE, problem.gold


@pytest.mark.parametrize("name", NAMES)
def test_upstream_repeats_items_across_seeds_and_we_do_not(name: str) -> None:
    ours = [
        [Generated(name, {"seed": seed}).problem(index).prompt for index in range(20)]
        for seed in (7, 8)
    ]
    theirs = [[upstream(name, seed)[index]["question"] for index in range(20)] for seed in (7, 8)]
    assert theirs[0][1:] == theirs[1][:-1]
    assert not set(ours[0]) & set(ours[1])


def test_upstream_pays_for_a_pile_of_garbage_and_we_do_not() -> None:
    item = upstream("gcd", 1)[0]
    pile = " ".join(map(str, range(1, 1001)))
    assert upstream("gcd", 1).score_answer(pile, item) > 0
    problem = Problem(item["question"], item["answer"], "")
    assert Generated("gcd", {}).score(problem, pile) == 0
    assert Generated("gcd", {}).score(problem, f"#### {pile}") == 0


def test_the_question_is_no_answer_though_it_has_the_right_value() -> None:
    subject = Generated("chain_sum", {})
    for index in range(50):
        problem = subject.problem(index)
        question = problem.prompt.partition(": ")[2].partition(" =")[0]
        assert states(question, Fraction(problem.gold), expressions=True)
        assert subject.score(problem, f"#### {question}") == 0
        assert subject.score(problem, f"#### {question} =") == 0
        assert subject.score(problem, f"#### {question} = {problem.gold}") == FULL_SCORE


def test_upstream_writes_zero_as_nothing_so_an_empty_answer_would_be_right() -> None:
    module = import_module("reasoning_gym.algorithmic.base_conversion")
    config = module.BaseConversionConfig(seed=0, min_value=0, max_value=1, min_base=3, max_base=4)
    items = [module.BaseConversionDataset(config)[index] for index in range(20)]
    assert "" in {item["answer"] for item in items}


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("base_conversion", {"min_base": 16}),
        ("base_conversion", {"max_base": 37}),
        ("base_conversion", {"min_value": 0}),
        ("chain_sum", {"min_terms": 7}),
        ("chain_sum", {"max_digits": 19}),
        ("gcd", {"min_value": 0}),
        ("gcd", {"seed": -1}),
    ],
)
def test_settings_that_hang_or_break_a_generator_are_refused(
    name: str, config: dict[str, int | str]
) -> None:
    with pytest.raises(Malformed, match=next(iter(config))):
        Generated(name, config)


def test_settings_at_their_bounds_are_taken() -> None:
    assert Generated("base_conversion", {"min_base": 35, "max_base": 36}).problem(0)
    assert Generated("chain_sum", {"max_terms": 64, "max_digits": 18}).problem(0)
    assert Generated("chain_sum", {"min_terms": 2, "max_terms": 2}).problem(0)
