"""Split an answer into numbers, words and signs; everything that is none of them refuses the answer.

A number may have thousands apart by a comma, a space, an apostrophe or an underscore, a fraction
behind it (`3 1/2`), an exponent of two digits and scales (`18 hundred`, `1.8k`). Digits beside digits
are two numbers. Left out: decimal commas but behind other thousands (`1.800,00`), since `3,5` may be a
list of two, and `1,234` has thousands here.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from protocol.environments.dress import without_dress

MAX_DIGITS = 64

_SCALES = {
    **{"k": 10**3, "m": 10**6, "bn": 10**9, "hundred": 10**2, "thousand": 10**3, "lakh": 10**5},
    **{"million": 10**6, "crore": 10**7, "billion": 10**9, "trillion": 10**12},
    **{"十": 10, "百": 10**2, "千": 10**3, "万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8},
}
_LETTER = r"A-Za-z\x80-\U0010ffff"
_TOKEN = re.compile(
    rf"""
    (?P<space>\ +)
  | (?P<percent>%(?!["\ ]*%)|(?i:per\ ?cent|pct)(?![A-Za-z]))
  | (?P<silent>["'`\#_$] | [A-Z]{{1,3}}(?=\$)
      | (?:USD|EUR|GBP|JPY|INR|CNY|RMB|CAD|AUD|NZD|CHF|SGD|HKD|PHP|SEK|NOK|DKK|RM|Rs|Rp|R)\.?
        (?=\s?-?[\d.]))
  | (?P<refused>0[xXbBoO][\dA-Fa-f] | (?<=[{_LETTER}])-(?=[$\d.]) | !(?=[=\d(]) | \|(?=-)
      | (?<=\b[A-Za-z]\ )-(?=\ *[$\d.(]) | -\ *$)
  | (?P<mixed>(?P<whole>\d+)(?:\ and)?\ +(?P<top>[1-9]\d*)/(?P<bottom>\d+)(?![\d./]))
  | (?P<number>
      (?:(?P<foreign>[1-9]\d{{0,2}}(?:(?P<dot>[.\ '])\d{{3}}(?:(?P=dot)\d{{3}})*,\d\d|(?:\.\d{{3}}){{2,}})
        (?![\d,]|\.\d))
      | (?: [1-9]\d{{0,2}}(?P<gap>[ ,'_])\d{{3}}(?:(?P=gap)\d{{3}})*(?!\d|(?P=gap)\d)
        | [1-9]\d?(?:,\d\d)+,\d{{3}}(?!\d|,\d) | \d+ )
        (?:\.\d+)?(?:[eE][+-]?\d\d?(?![\d.]))?
      | (?<![{_LETTER}\d.)])\.\d+(?:[eE][+-]?\d\d?(?![\d.]))? )
      (?P<scales>(?:(?:["*\ ]*(?i:hundred|thousand|lakh|million|crore|billion|trillion)s?
        |\ ?(?:k|bn)|[KM])(?![A-Za-z]) | \ ?(?:千(?![克米])|[十百万萬亿億]))*))
  | (?P<times>×+ | [xX](?=\ *[\d(.$]))
  | (?P<verb>(?i:times|(?:multiplied|divided)\ by|over|plus|minus|of)(?![{_LETTER}\d_]))
  | (?P<root>\\sqrt(?![A-Za-z]))
  | (?P<name>\\(?!(?:approx|simeq?|cong|equiv|propto|pm|mp|not|in|neq?|[lg](?:eq?|t|eqslant))
      (?![A-Za-z]))[A-Za-z]+)
  | (?P<equals>:?=+>? | -+> | : | (?i:is|are|was|were|equals?|makes|gives|because|since
      |so|i\.e\.|or(?=\ +[($]*\d))(?![{_LETTER}\d_']))
  | (?P<word>(?:No\.(?=\ of)|[A-Za-z][A-Za-z\d_]*|[\x80-\U0010ffff])+(?:'[{_LETTER}]+)*
      (?:"?\^(?:\d|\{{-?\d\}}|\(-?\d\))(?!\d))?)
  | (?P<dash>(?<=[{_LETTER}]\ )-+(?=\ ))
  | (?P<stop>(?<=[{_LETTER}])-(?=[{_LETTER}]) | [/.,]-(?!\d) | [.,](?!\d) | [;!|])
  | (?P<separator>[.,])
  | (?P<star>\*+)
  | (?P<open>[(\[{{]) | (?P<close>[)\]}}])
  | (?P<operator>[-+/^])
    """,
    re.VERBOSE | re.ASCII,
)

_SIGNS = {"plus": "+", "minus": "-", "-": "-", "divided by": "/", "over": "/", "**": "^"}
"""What these are between two numbers; all other such words and signs multiply."""

_DRESS_OF_SIGNS = {"star": "silent", "times": "word", "verb": "word", "dash": "stop"}
"""What these are where they do not stand between two numbers."""


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of an answer; `value` is what a number, with fraction and scales, is worth.

    `is_attached` says that no space stands between it and what comes before.
    """

    kind: str
    text: str
    is_attached: bool
    value: Fraction | None = None


def tokens_of(text: str) -> list[Token] | None:
    """Split a text into tokens, or return None at the first that no answer has."""
    plain = without_dress(text)
    if plain is None or sum(character in "0123456789" for character in plain) > MAX_DIGITS:
        return None
    tokens: list[Token] = []
    position = 0
    is_attached = True
    while position < len(plain):
        match = _TOKEN.match(plain, position)
        if match is None or match.lastgroup == "refused":
            return None
        position = match.end()
        kind = str(match.lastgroup)
        if kind == "space":
            is_attached = False
            continue
        tokens.append(Token(kind, match[0], is_attached, _value(match)))
        is_attached = is_attached or kind != "silent"
    return _with_operators(tokens)


def _value(match: re.Match[str]) -> Fraction | None:
    """Return what a number token is worth; a mixed number's fraction must be a proper one."""
    if match["mixed"] and int(match["top"]) < int(match["bottom"]):
        return int(match["whole"]) + Fraction(int(match["top"]), int(match["bottom"]))
    if not match["number"]:
        return None
    digits = match["number"].removesuffix(match["scales"])
    if match["foreign"]:
        digits = re.sub("[. ']", "", digits).replace(",", ".")
    value = Fraction(digits.replace(match["gap"] or ",", ""))
    for scale in re.findall("[a-z]+|[^\\x00-\\x7f]", match["scales"].lower()):
        value *= _SCALES[scale.removesuffix("s")]
    return value


def _with_operators(tokens: list[Token]) -> list[Token] | None:
    """Decide what `x`, `*`, `of` and a dash behind a word are: arithmetic between numbers, else dress.

    None where it cannot be told: `*8* 9` is no product.
    """
    decided: list[Token] = []
    for i, token in enumerate(tokens):
        if token.kind not in _DRESS_OF_SIGNS:
            decided.append(token)
            continue
        word = token.text.lower()
        is_star, is_of = token.kind == "star", word == "of"
        spaces = [not near.is_attached for near in tokens[i : i + 2]]
        is_sign = _is_number_near(tokens[:i][::-1], "" if is_star else "word")
        is_sign = is_sign and _is_number_near(tokens[i + 1 :], "word" if is_of else "")
        if is_sign and is_star and (len(word) > 2 or spaces[0] != spaces[1]):
            return None
        is_sign = is_sign and (not is_of or _is_share(tokens[:i]))
        if is_sign or (is_star and spaces == [True, True] and i > 0):
            decided.append(replace(token, kind="operator", text=_SIGNS.get(word, "*")))
        else:
            decided.append(replace(token, kind=_DRESS_OF_SIGNS[token.kind]))
    return decided


def _is_number_near(tokens: Sequence[Token], unit: str) -> bool:
    """Say whether a number comes before anything else but brackets, signs, dress and a `unit`."""
    skipped = ("silent", "percent", "open", "close", "root", unit)
    near = next((t for t in tokens if t.kind not in skipped and t.text not in "-+/"), None)
    return near is not None and near.value is not None


def _is_share(tokens: Sequence[Token]) -> bool:
    """Say whether what ends here is a share of something: `50%`, `1/2`, `0.5`."""
    told = [t for t in tokens if t.kind not in ("silent", "open", "close")]
    sign, last = told[-2:] if len(told) > 1 else (told[-1], told[-1])
    return last.kind == "percent" or sign.text == "/" or (last.value or 1) < 1
