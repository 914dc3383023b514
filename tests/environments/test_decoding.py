"""The text that a reward reads of sampled tokens."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from protocol.environments.arithmetic import Arithmetic
from protocol.environments.base import FULL_SCORE
from protocol.environments.decoding import GAP, Decoder
from protocol.environments.numerals import number

TOKENIZER = Tokenizer.from_file(str(Path(__file__).parents[2] / "models/start/tokenizer.json"))
PAD, BOS, EOS, PAST = 0, 1, 2, 1_000_000


def ids(text: str) -> list[int]:
    found: list[int] = TOKENIZER.encode(text).ids
    return found


@pytest.mark.parametrize("silent", [PAD, BOS, EOS, PAST])
def test_a_silent_token_does_not_join_what_stands_on_its_sides(silent: int) -> None:
    tokens = [*ids("#1"), silent, *ids("8")]
    assert TOKENIZER.decode(tokens, skip_special_tokens=True) == "#18", "as a library decodes it"
    assert Decoder(TOKENIZER, [EOS]).text(tokens) == f"#1{GAP}8"
    assert number(f"1{GAP}8") is None


@pytest.mark.parametrize("silent", [[], [PAD], [PAST, BOS], [PAD] * 9, [EOS, PAD]])
def test_silent_tokens_at_the_edges_are_no_part_of_an_answer(silent: list[int]) -> None:
    problem = Arithmetic({}).problem(0)
    decoder = Decoder(TOKENIZER, [EOS])
    for ending in ([], [EOS]):
        text = decoder.text([*silent, *ids(problem.solution), *silent, *ending])
        assert text == problem.solution
        assert Arithmetic({}).score(problem, text) == FULL_SCORE


def test_a_run_of_silent_tokens_leaves_one_mark() -> None:
    assert Decoder(TOKENIZER, [EOS]).text([*ids("1"), PAD, PAST, BOS, *ids("2")]) == f"1{GAP}2"


def test_only_the_last_token_can_be_the_end() -> None:
    spoken = ids("7")[0]
    assert Decoder(TOKENIZER, [spoken]).text([spoken, spoken, spoken]) == "77"
    assert Decoder(TOKENIZER, [spoken]).text([]) == ""
