"""Read the number that an answer states, exactly, and refuse what states none or more than one.

An answer is one number among words, or arithmetic; an equation states what all its sides state. Words
may be a unit or a sentence of any language, but not one that doubts, denies or changes the number.
`answers.md` has the forms with their values. Left out: numbers in words.
"""

import re
from collections.abc import Sequence
from fractions import Fraction

from protocol.environments.expressions import worked_out
from protocol.environments.tokens import Token, tokens_of

MAX_SIDES = 8
_SCALES = {
    **{"k": 10**3, "hundred": 10**2, "thousand": 10**3, "lakh": 10**5, "million": 10**6},
    **{"crore": 10**7, "billion": 10**9, "trillion": 10**12},
}
_NEGATIVE = ("minus", "negative")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_CHANGING = _words("""
    not no never none nor neither cannot or either maybe perhaps possibly probably likely might may
    could guess unsure uncertain unknown wrong incorrect false mistake if but except than about around
    approximately approx roughly nearly almost circa ca least most minimum maximum max ish between
    versus vs plus minus negative nicht kein keine nie oder ungefähr etwa mindestens höchstens pas
    environ presque ou casi nunca aproximadamente quasi não не или около
""")
"""Words of doubt and denial, wherever they stand."""

_CHANGING_BEFORE = _words("""
    over under above below near close up some within past beyond min half twice double triple
    step part question problem example case method option
""")
"""Harmless behind a number, as in `72 left over`; before it, `step 72` is no answer either."""

_NO_UNITS = _words("""
    x y z i e pi π infinity squared cubed factorial halves thirds fifths tenths hundredths thousandths
    mil mille mila tausend millionen milliarden millones milliards тысяч тысячи тыс миллионов
""")
"""What stands directly behind a number and makes it another."""

_CHINESE_SCALES = frozenset("十百千万萬億亿兆")
_BRACKETS = ("open", "close")
_UNIT_POWER = re.compile(r"(?:[cdkm]?m|ft|in|yd|mi)[23]", re.ASCII)


def number(text: str) -> Fraction | None:
    """Return the one number that a text in dress states without arithmetic, or None."""
    tokens = tokens_of(text)
    return None if tokens is None else _plain_number(tokens)


def states(text: str, value: Fraction, *, expressions: bool) -> bool:
    """Say whether an answer states `value`, with each side of an equation that has a number.

    Arithmetic alone is enough only with `expressions`: where the question is arithmetic itself,
    repeating it would be an answer.
    """
    tokens = tokens_of(text)
    if tokens is None:
        return False
    sides = _sides(tokens)
    found = is_plain = False
    for side in sides if len(sides) <= MAX_SIDES else []:
        if _is_label(side, is_named=len(sides) > 1):
            continue
        plain = _plain_number(side)
        if (_calculated(side) if plain is None else plain) != value:
            return False
        found, is_plain = True, is_plain or plain is not None
    return found and (expressions or is_plain)


def _sides(tokens: Sequence[Token]) -> list[list[Token]]:
    sides: list[list[Token]] = [[]]
    for token in tokens:
        if token.kind == "equals":
            sides.append([])
        else:
            sides[-1].append(token)
    return sides


def _is_label(side: Sequence[Token], *, is_named: bool) -> bool:
    """Say whether a side only names the others: `x`, `Total cost (in $)` or `gcd(92, 20)`."""
    kinds = {token.kind for token in side}
    if is_named and len(side) > 1 and (side[0].kind, side[1].kind) == ("word", "open"):
        kinds -= {"number", "separator"} if side[-1].kind == "close" else set()
    words = [token for token in side if token.kind == "word"]
    is_plain = kinds <= {"word", "silent", "stop", "open", "close"}
    return is_plain and not any(_changes(word.text) for word in words)


def _changes(word: str, others: frozenset[str] = frozenset()) -> bool:
    word = word.lower()
    return word in _CHANGING or word in others or word.endswith("n't")


def _plain_number(side: Sequence[Token]) -> Fraction | None:
    """Return the only number of a side, where the words around it leave it as it stands."""
    numbers = [i for i, token in enumerate(side) if token.value is not None]
    if len(numbers) != 1:
        return None
    [at] = numbers
    token = side[at]
    before = [t for t in side[:at] if t.kind not in ("silent", *_BRACKETS)]
    after = [t for t in side[at + 1 :] if t.kind not in ("silent", *_BRACKETS)]
    value = token.value or Fraction(0)
    if before and (_is_sign(before[-1]) or before[-1].text.lower() in _NEGATIVE):
        value = value if before.pop().text == "+" else -value
    while after and (scale := _scale(after[0], is_attached=after[0].start == token.end)) > 1:
        value *= scale
        after = after[1:]
    return value if _may_precede(before) and _may_follow(after, token.end) else None


def _is_sign(token: Token) -> bool:
    return token.kind == "operator" and token.text in "-+"


def _scale(token: Token, *, is_attached: bool) -> int:
    """Return what a word behind a number multiplies it by; a lone k or M is a unit."""
    if token.kind != "word" or len(token.text) == 1:
        return {"k": 10**3, "K": 10**3, "M": 10**6}.get(token.text, 1) if is_attached else 1
    return _SCALES.get(token.text.lower().removesuffix("s"), 1)


def _may_precede(tokens: Sequence[Token]) -> bool:
    """Say whether these words may stand before a number: its sign is gone already."""
    if tokens and tokens[-1].text.lower() in _NO_UNITS:
        return False
    return all(
        token.kind == "stop"
        or (token.kind == "word" and not _changes(token.text, _CHANGING_BEFORE))
        for token in tokens
    )


def _may_follow(tokens: Sequence[Token], end: int) -> bool:
    """Say whether this may stand behind a number that ends at `end`: a unit, a rate, a sentence."""
    if tokens and tokens[0].kind == "word":
        word = tokens[0].text.lower()
        is_attached = tokens[0].start == end
        has_digits = any("0" <= character <= "9" for character in word.partition("^")[0])
        is_scale = _scale(tokens[0], is_attached=is_attached) > 1
        if is_scale or word in _NO_UNITS or word[0] in _CHINESE_SCALES:
            return False
        if is_attached and has_digits and not _UNIT_POWER.fullmatch(word):
            return False
    for i, token in enumerate(tokens):
        is_per = token.text == "/" and i + 1 < len(tokens) and tokens[i + 1].kind == "word"
        is_word = token.kind == "word" and not _changes(token.text, frozenset({"and"}))
        if not (is_word or is_per or token.kind == "stop" or token.text == "-"):
            return False
    return True


def _calculated(side: Sequence[Token]) -> Fraction | None:
    """Return what the arithmetic of a side comes to, or None where it is none.

    It reaches from its first number to its last, with the signs and brackets around them.
    """
    tokens = [token for token in side if token.kind != "silent"]
    numbers = [i for i, token in enumerate(tokens) if token.value is not None]
    if any(token.text == "%" for token in side) or not numbers:
        return None
    first, last = numbers[0], numbers[-1] + 1
    while first and (tokens[first - 1].kind in ("open", "root") or _is_sign(tokens[first - 1])):
        first -= 1
    while last < len(tokens) and tokens[last].kind == "close":
        last += 1
    before = [token for token in tokens[:first] if token.kind not in _BRACKETS]
    after = [token for token in tokens[last:] if token.kind not in _BRACKETS]
    core = _without_units(tokens[first:last])
    if len(core) == 1 or not (_may_precede(before) and _may_follow(after, tokens[last - 1].end)):
        return None
    return worked_out(core)


def _without_units(tokens: Sequence[Token]) -> list[Token]:
    """Return arithmetic without its units, `$2/egg * 9 eggs`; a word that is none of them stays."""
    kept: list[Token] = []
    for i, token in enumerate(tokens):
        is_unit = i > 0 and token.kind == "word" and _may_follow([token], tokens[i - 1].end)
        is_per = token.text == "/" and tokens[i + 1].kind == "word"
        if not (is_unit or is_per):
            kept.append(token)
    return kept
