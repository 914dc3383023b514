"""Find a stranger's final answer in a completion and compare it exactly.

All of it is linear in the completion, knows only ASCII digits and converts nothing to a number:
`int("9" * 10**6)` would take minutes. Left out: answers that are expressions; `math_check` does
those in a child process.
"""

ANSWER_LINE = "####"
"""GSM8K's own convention: the answer stands after the last mark, on the same line."""

BOXED = "\\boxed{"
MAX_ANSWER_CHARS = 256
MAX_ANSWER_DIGITS = 64
INSTRUCTION = f"Reason step by step and end with one line: {ANSWER_LINE} <answer>"
_DIGITS = frozenset("0123456789")


def final_answer(completion: str) -> str | None:
    """Return the text after the last `####`, or else in the last `\\boxed{}`, or None.

    Only the last counts, so that a list of guesses is one guess; an answer longer than
    `MAX_ANSWER_CHARS` is none.
    """
    start = completion.rfind(ANSWER_LINE)
    if start >= 0:
        start += len(ANSWER_LINE)
        line = completion[start : start + MAX_ANSWER_CHARS + 1].split("\n", 1)[0]
        return line.strip() if len(line) <= MAX_ANSWER_CHARS else None
    start = completion.rfind(BOXED)
    return None if start < 0 else _until_closing_brace(completion, start + len(BOXED))


def _until_closing_brace(text: str, start: int) -> str | None:
    depth = 1
    for position in range(start, min(len(text), start + MAX_ANSWER_CHARS + 1)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return text[start:position].strip()
    return None


def canonical_number(text: str) -> str | None:
    """Return the one spelling of a plain decimal number, or None where the text is none.

    Currency and per-cent signs, a final full stop, signs, leading and trailing zeros and commas
    *between thousands* do not matter: "$1,800.00" is "1800", but "1,8" is no number.
    """
    text = text.strip().removesuffix(".").removesuffix("%").strip()
    negative = text.startswith("-")
    text = text.removeprefix("-" if negative else "+").removeprefix("$")
    whole, point, fraction = text.partition(".")
    digits = _without_thousands(whole)
    if digits is None or (point and not _all_digits(fraction)):
        return None
    if len(digits) + len(fraction) > MAX_ANSWER_DIGITS:
        return None
    digits, fraction = digits.lstrip("0") or "0", fraction.rstrip("0")
    value = f"{digits}.{fraction}" if fraction else digits
    return f"-{value}" if negative and value != "0" else value


def _without_thousands(whole: str) -> str | None:
    first, *thousands = whole.split(",")
    if not _all_digits(first) or (thousands and len(first) > 3):
        return None
    if not all(len(part) == 3 and _all_digits(part) for part in thousands):
        return None
    return first + "".join(thousands)


def _all_digits(text: str) -> bool:
    """Say whether the text is ASCII digits; `str.isdigit` would take ² and Arabic digits too."""
    return text != "" and _DIGITS.issuperset(text)
