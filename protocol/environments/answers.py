"""Find a stranger's final answer in a completion and compare it exactly.

All of it is linear in the completion, and what is found is short. Left out: what an answer means;
`dress` takes off what nobody counts, and `numerals` reads the number.
"""

import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import islice

from protocol.environments import dress, expressions, numerals, tokens
from protocol.environments.dress import bare, closing_brace, has_digit, stripped
from protocol.environments.numerals import states

ANSWER_LINE = "####"
"""GSM8K's own convention: the answer stands after the last mark, on the same line."""

MAX_ANSWER_CHARS = 256
MAX_MARKS = 16
"""How many marks are looked at from the end, past those that a repeating model leaves empty."""

MAX_LINES = 4
"""How many lines from a mark on are looked at, empty ones and echoes among them."""

INSTRUCTION = f"Reason step by step and end with one line: {ANSWER_LINE} <answer>"

SOURCES = (
    __file__,
    *(str(module.__file__) for module in (dress, tokens, numerals, expressions)),
)
"""The files that decide whether an answer is right, for the digests of environments."""

_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*")

_MARKS = re.compile(r"""[\s"'`$*()\[\]{}.,:;!|]+""", re.ASCII)


def is_number(completion: str, value: Fraction, *, expressions: bool) -> bool:
    """Say whether a completion's final answer is this number; see `numerals.states`."""
    answer = final_answer(completion, has_digit)
    return answer is not None and states(answer, value, expressions=expressions)


def is_text(completion: str, text: str, spellings: str = "(?!)") -> bool:
    """Say whether a completion's final answer is this text, letter by letter, or a spelling of it.

    `spellings` is a regular expression for the whole answer, its marks and brackets become spaces.
    Words of an echo may be the text: ten is `a` in base 16.
    """

    def is_it(line: str) -> bool:
        plain, said = stripped(line), bare(line)
        if plain is None or said is None:
            return False
        forms = [_MARKS.sub(" ", form).strip() for form in (plain, said)]
        is_echoed = said == "" and forms[0].split()[-1:] == [text]
        return said == text or is_echoed or any(re.fullmatch(spellings, form) for form in forms)

    answer = final_answer(completion, lambda line: bare(line) != "" or is_it(line))
    return answer is not None and is_it(answer)


def final_answer(completion: str, says_something: Callable[[str], bool]) -> str | None:
    """Return the last answer: the line of a `####`, or a `\\boxed{}` that stands below all of those.

    Only the last counts, so that a list of guesses is one guess. Models repeat themselves until they
    are cut: a mark that says nothing is passed over, and so is the beginning of a line at the very end
    that stands twice above it. None where an answer exceeds `MAX_ANSWER_CHARS`.
    """
    boxes = max(completion.rfind("\\boxed"), completion.rfind("\\fbox"))
    marked = list(islice(_marked_lines(completion, says_something), 3))
    if marked and boxes < marked[0][1]:
        lines = [completion[start:end].strip() for start, end in marked]
        is_cut = marked[0][1] == len(completion) and lines[1:] == [lines[-1]] * 2
        line = lines[1] if is_cut and lines[1].startswith(lines[0]) else lines[0]
        return line if len(line) <= MAX_ANSWER_CHARS else None
    box = _BOX.match(completion, boxes) if boxes >= 0 else None
    inside = None if box is None else _boxed(completion[box.end() :][: MAX_ANSWER_CHARS + 1])
    is_negative = completion[max(boxes - 1, 0) : max(boxes, 0)] in ("-", "\u2212")
    return f"-({inside})" if inside and is_negative else inside


def _marked_lines(
    completion: str, says_something: Callable[[str], bool]
) -> Iterator[tuple[int, int]]:
    """Yield where the answers behind marks stand, from the last: bounds of a line.

    Where a mark is followed by nothing but an echo as "Answer:", the answer is on the next line.
    """
    end = len(completion)
    for _ in range(MAX_MARKS):
        mark = completion.rfind(ANSWER_LINE, 0, end)
        if mark < 0:
            return
        start, stop = mark + len(ANSWER_LINE), end
        for _ in range(MAX_LINES):
            newline = completion.find("\n", start, stop)
            line_end = stop if newline < 0 else newline
            line = completion[start : min(line_end, start + MAX_ANSWER_CHARS + 1)]
            if says_something(line):
                yield start, line_end
            if not _is_heading(line) or line_end == stop:
                break
            start = line_end + 1
        end = len(completion[:mark].rstrip("#"))


def _is_heading(line: str) -> bool:
    """Say whether a line only announces the answer: an echo, a fence, a rule."""
    plain = bare(line)
    return plain is not None and plain.strip("-|") == ""


def _boxed(text: str) -> str | None:
    """Return what a box holds whose command ends where the text begins; it may be without braces."""
    if not text.startswith("{"):
        return text.split("\n", 1)[0].split("$", 1)[0].strip() or None
    end = closing_brace(text, 1)
    return text[1:end].strip() if end < len(text) else None
