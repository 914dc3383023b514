"""Forms of answers by what they are worth: files of lines `gold: form ¦ form`, read by tests.

`⏎` is a line break and `⟨U+2212⟩` a character by its number, here as on the page of answers.
"""

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path


def forms(name: str) -> Iterator[tuple[Fraction, str]]:
    """Yield gold and form of each entry of a file."""
    for line in (Path(__file__).parent / f"{name}.txt").read_text("utf-8").splitlines():
        gold, _, cells = line.partition(": ")
        yield from ((Fraction(gold), written(cell)) for cell in cells.split(" ¦ "))


def written(cell: str) -> str:
    """Return what an entry holds, with the characters that are given by number."""
    text = re.sub(r"⟨U\+([0-9A-F]+)⟩", lambda match: chr(int(match[1], 16)), cell)
    return text.replace("⏎", "\n")
