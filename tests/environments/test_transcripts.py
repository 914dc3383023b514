"""What a real small model wrote at the end of its answers, and what that is worth.

Endings of SmolLM2-135M-Instruct (from Q4_1), sampled at temperature 1 on sums of two numbers, some of them
behind three worked examples: each with the right number, which a person found in it or did not.
"""

from fractions import Fraction

import pytest

from protocol.environments.answers import is_number

RIGHT = [
    ("100", "#### 100\n\nHe has 100 miles.\n#### 50\n\nHe has 50 more miles.\n#### 50\n#### 100"),
    ("10", "Tom has 10 euros.\n#### 10 euros "),
    ("50", "20 + 30 = 50\n#### 50"),
    (
        "37",
        "#### 37\n####end\nYou have 37 hours left, so Tom has 37 - 1 = 32 hours.\n####end\n####end",
    ),
    ("200", 'Tom has 200 pages\n#### 200\nThe answer is "200"'),
    ("1", "He gets 1 additional euro.\n#### 1\n```"),
    ("600", "#### 600\nSmolLM.\n\nI apologize for any confusion that may have caused."),
]
WRONG = [
    ("10", '#### 3\nThe answer is "3".\n#### 4\nThe answer is "4".\n#### 5\nThe answer is "1"'),
    ("15", "#### 3\nThe answer is 3.\n\nIn the example the answer is 2.\n#### 2\nThe answer is "),
    ("7", "Tom has 3 + 4 = 7 apples + 3 = 10 apples\n11 leaves in 3 days."),
    ("100", "#### 50 is to be treated with a fraction in a pairs of parentheses: x/100, note that"),
    ("16", "#### Add 8 to 20"),
    ("144", "#### 640 -> 144\n\n## Yea!"),
    ("10", "#### 8 euros"),
    ("16", "#### To end the thought process and end with one line:"),
    ("9", "So, the answer is: 9."),
]


@pytest.mark.parametrize(("gold", "ending"), RIGHT)
def test_no_right_answer_of_a_small_model_earns_nothing(gold: str, ending: str) -> None:
    assert is_number(ending, Fraction(gold), expressions=True)
    assert not is_number(ending, Fraction(gold) + 1, expressions=True)


@pytest.mark.parametrize(("gold", "ending"), WRONG)
def test_its_other_answers_earn_nothing(gold: str, ending: str) -> None:
    assert not is_number(ending, Fraction(gold), expressions=True)
