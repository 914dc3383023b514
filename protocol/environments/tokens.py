"""Split an answer into numbers, words and signs; everything that is none of them refuses the answer.

A number may have thousands apart by a comma, a space, an apostrophe or an underscore, a fraction
behind it (`3 1/2`) and an exponent of two digits. Digits beside digits are two numbers. Left out:
decimal commas, since `3,5` may be a list of two, and `1,234` has thousands here.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from protocol.environments.dress import without_dress

MAX_DIGITS = 64

_LETTER = r"A-Za-z\x80-\U0010ffff"
_TOKEN = re.compile(
    rf"""
    (?P<space>\ +)
  | (?P<silent>["'`%\#_$]
      | (?:USD|EUR|GBP|JPY|INR|CNY|RMB|CAD|AUD|NZD|CHF|Rs)\.?(?=\s?-?[\d.]))
  | (?P<refused>0[xXbBoO][\dA-Fa-f] | (?<=[{_LETTER}])-(?=[$\d.]) | !(?=[=\d(]))
  | (?P<mixed>(?P<whole>\d+)(?:\ and)?\ +(?P<top>[1-9]\d*)/(?P<bottom>\d+)(?![\d./]))
  | (?P<number>
      (?: [1-9]\d{{0,2}}(?P<gap>[ ,'_])\d{{3}}(?:(?P=gap)\d{{3}})*(?!\d|(?P=gap)\d) | \d+ )
      (?:\.\d+)?(?:[eE][+-]?\d\d?(?![\d.]))?
      | (?<![{_LETTER}\d.)])\.\d+ )
  | (?P<times>[xX](?=\ *[\d(.$]))
  | (?P<root>\\sqrt(?![A-Za-z]))
  | (?P<word>(?:[A-Za-z][A-Za-z\d_]*|[\x80-\U0010ffff])+(?:'[{_LETTER}]+)*
      (?:"?\^(?:\d|\{{-?\d\}}|\(-?\d\))(?!\d))?)
  | (?P<dash>(?<=[{_LETTER}]\ )-+(?=\ ))
  | (?P<stop>-+> | ^[="\ ]*=+> | (?<=[{_LETTER}])-(?=[{_LETTER}])
      | [.,](?!\d) | [;:!] | /-(?!\d))
  | (?P<separator>[.,])
  | (?P<star>\*+)
  | (?P<equals>==?)
  | (?P<open>[(\[{{]) | (?P<close>[)\]}}])
  | (?P<operator>[-+/^])
    """,
    re.VERBOSE | re.ASCII,
)

_DRESS_OF_SIGNS = {"star": "silent", "times": "word", "dash": "stop"}
"""What these are where they do not stand between two numbers."""


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of an answer; `value` is what a number or a mixed number is worth."""

    kind: str
    text: str
    start: int
    end: int
    value: Fraction | None = None


def tokens_of(text: str) -> list[Token] | None:
    """Split a text into tokens, or return None at the first that no answer has."""
    plain = without_dress(text)
    if plain is None or sum(character in "0123456789" for character in plain) > MAX_DIGITS:
        return None
    tokens: list[Token] = []
    position = 0
    while position < len(plain):
        match = _TOKEN.match(plain, position)
        if match is None or match.lastgroup == "refused":
            return None
        position = match.end()
        kind = match.lastgroup or ""
        if kind != "space":
            tokens.append(Token(kind, match[0], match.start(), position, _value(match)))
    return _with_operators(tokens, plain)


def _value(match: re.Match[str]) -> Fraction | None:
    """Return what a number token is worth; a mixed number's fraction must be a proper one."""
    if match["number"]:
        return Fraction(match[0].replace(match["gap"] or ",", ""))
    if match["mixed"] and int(match["top"]) < int(match["bottom"]):
        return int(match["whole"]) + Fraction(int(match["top"]), int(match["bottom"]))
    return None


def _with_operators(tokens: list[Token], plain: str) -> list[Token] | None:
    """Decide what `x`, `*` and a dash behind a word are: arithmetic between two numbers, else dress.

    None where it cannot be told: `*8* 9` is no product, and `**` between numbers a power to some.
    """
    decided: list[Token] = []
    for i, token in enumerate(tokens):
        if token.kind not in _DRESS_OF_SIGNS:
            decided.append(token)
            continue
        is_star = token.kind == "star"
        before = plain[: token.start].endswith(" ")
        after = plain.startswith(" ", token.end)
        units = () if is_star else ("word",)
        is_between = _is_number_near(tokens[:i][::-1], *units) and _is_number_near(tokens[i + 1 :])
        if is_between and (len(token.text) > 1 or (is_star and before != after)):
            return None
        if is_between or (is_star and before and after and i > 0):
            sign = "-" if token.kind == "dash" else "*"
            decided.append(Token("operator", sign, token.start, token.end))
        else:
            decided.append(replace(token, kind=_DRESS_OF_SIGNS[token.kind]))
    return decided


def _is_number_near(tokens: Sequence[Token], *units: str) -> bool:
    """Say whether a number comes before anything else but brackets, signs, dress and `units`."""
    skipped = ("silent", "open", "close", "root", *units)
    near = next((t for t in tokens if t.kind not in skipped and t.text not in "-+"), None)
    return near is not None and near.value is not None
