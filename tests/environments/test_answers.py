"""Where the final answer of a completion is."""

import time

import pytest

from protocol.environments.answers import MAX_ANSWER_CHARS, final_answer, is_text
from protocol.environments.dress import has_digit


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("so it is\n#### 18", "18"),
        ("#### 17\n#### 18\nbecause", "18"),
        ("####", None),
        ("the answer is 18", None),
        ("\\boxed{18}", "18"),
        ("\\boxed{17} then \\boxed{\\frac{36}{2}}.", "\\frac{36}{2}"),
        ("\\boxed{18", None),
        ("\\boxed{17} #### 18", "18"),
        ("#### 17\nso \\boxed{18}", "18"),
        ("#### = \\boxed{18}", "= \\boxed{18}"),
        ("#### Step 2: add\n\\fbox{18}", "18"),
        ("\\boxed 18$ it is", "18"),
        ("$-\\boxed{18}$", "-(18)"),
        ("\u2212\\boxed{18}", "-(18)"),
        ("a \\boxed{18}", "18"),
        ("#### " + "1" * (MAX_ANSWER_CHARS - 1), "1" * (MAX_ANSWER_CHARS - 1)),
        ("#### " + "1" * (MAX_ANSWER_CHARS + 1), None),
    ],
)
def test_only_the_last_answer_counts(completion: str, answer: str | None) -> None:
    assert final_answer(completion, has_digit) == answer


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("#### 18\n####", "18"),
        ("#### 18 ####\n#### ", "18"),
        ("#### 18\n#### Thank you!", "18"),
        ("#### 18\n##", "18"),
        ("#### 18\n\n#### Answer\n", "18"),
        ("#### 18\n#### ≈19", "≈19"),
        ("#### 18\n#### １９", "１９"),
        ("####\n\n\n18", "18"),
        ("####\n\n\n\n\n18", None),
        ("#### Final answer:\n18 eggs\n19 eggs", "18 eggs"),
        ("#### Final Answer (in dollars):\n$18", "$18"),
        ("#### ✅ Final Answer\n\n**18**", "**18**"),
        ("#### Total Cost\n---\n18", "18"),
        ("#### Respuesta final:\n18", "18"),
        ("#### 最终答案\n18", "18"),
        ("#### Answer:\n```python\n18\n```", "18"),
        ("#### Answer\n| Total |\n|---|\n| 18 |", "| 18 |"),
        ("#### 18\n#### Explanation:\nShe had 17 of them", "18"),
        ("#### Why\nShe had 18 eggs", None),
        ("#### 18\n#### Why\nShe had 19 eggs", "18"),
        ("####\n" * 15 + "#### 18" + "\n####" * 15, "18"),
        ("#### 18" + "\n####" * 16, None),
    ],
)
def test_a_mark_that_says_nothing_is_passed_over(completion: str, answer: str | None) -> None:
    assert final_answer(completion, has_digit) == answer


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("#### 50 kilobytes\n" * 3 + "#### 5", "50 kilobytes"),
        ("#### 50\n" * 2 + "#### 5", "50"),
        ("#### 50\n#### 5", "5"),
        ("#### 50\n" * 2 + "#### 5\n", "5"),
        ("#### 50\n" * 2 + "#### 5 so", "5 so"),
        ("#### 51\n#### 50\n#### 5", "5"),
    ],
)
def test_a_repetition_cut_in_the_middle_is_no_new_answer(completion: str, answer: str) -> None:
    assert final_answer(completion, has_digit) == answer


@pytest.mark.parametrize("completion", ["#### not e6", "e6", "#### e6 e6", "#### ≈e6", "#### é6"])
def test_a_text_answer_is_exact(completion: str) -> None:
    assert is_text("#### e6", "e6")
    assert not is_text(completion, "e6")


@pytest.mark.parametrize(
    "completion",
    [
        *("#" * 10**6, "####" * 10**6, "#### \n" * 10**5, "#### Answer\n" * 10**5),
        *("\\boxed{" * 10**6, "\\fbox " * 10**5, "#### " + "9" * 10**6, "####" + "\n" * 10**6),
    ],
)
def test_a_long_completion_is_searched_in_linear_time(completion: str) -> None:
    started = time.perf_counter()
    assert not is_text(completion, "9")
    final_answer(completion, has_digit)
    assert time.perf_counter() - started < 60, "milliseconds when linear, hours when quadratic"
