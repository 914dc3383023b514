"""Read the number that an answer states, exactly, and refuse what states none or more than one.

An answer is one number among words, or arithmetic; an equation states what all its sides state. Words
may be a unit or a sentence of any language, but not one that doubts, denies or changes the number.
`answers.md` has the forms with their values. Left out: numbers in words.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from protocol.environments.expressions import worked_out
from protocol.environments.tokens import Token, tokens_of

MAX_SIDES = 8


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_DOUBTING = _words("""
    not no never none nor neither cannot hardly barely either maybe perhaps possibly probably likely
    might may could guess guessing suspect assume assuming suppose presumably supposedly apparently
    doubt doubtful unclear unsure uncertain unknown wrong incorrect false mistake unless oops sorry
    about around approximately approx roughly nearly almost circa ca exceeds ish hex hexadecimal octal
    binary nicht kein keine nie vielleicht ungefähr etwa environ presque pas casi nunca quizás talvez
    forse aproximadamente quasi não не около может
""")
"""Words of doubt and denial, and of other bases, wherever they stand."""

_DOUBTING_PARTS = _words(
    "不是 大约 大約 约为 約 或 可能 大概 也许 至少 最多 以上 以下 左右 ない 또는"
)
"""The same in scripts that write words without spaces."""

_CHANGING = _DOUBTING | _words("""
    or if but except than least most minimum maximum max between versus vs plus minus negative oder ou
    или mindestens höchstens
""")
"""Beside a number these bound it; in a label they do not, as in `The maximum is 72`."""

_CHANGING_BEFORE = _CHANGING | _words("""
    over under above below near close up some within without past beyond from instead rather short shy
    min half twice double triple third quarter sin cos tan sqrt log ln exp
""")
"""Harmless behind a number, as in `72 left over`."""

_NAMING = _words("step part question problem example case method option")
"""Directly before a number these make it a name."""

_LABELLING = _NAMING | _words("of for in after all day week month year")
"""A number behind these, on the first side of an equation, belongs to what that side names."""

_NO_UNITS = _words("""
    x y z i e pi π θ α β γ δ λ σ φ infinity squared cubed doubled factorial halves thirds fifths tenths
    hundredths thousandths mil mille mila tausend tsd mn mln mio mrd millionen milliarden millones
    milliards тысяч тысячи тыс миллионов
""")
"""What stands directly behind a number and makes it another."""

_ADDED = _words("""
    a an half one two three four five six seven eight nine ten eleven twelve fifteen twenty thirty forty
    fifty sixty seventy eighty ninety
""")
"""What an "and" must not add to a number, as in `72 dollars and fifty cents`."""

_UNIT_POWER = re.compile(r"(?:[cdkm]?m|ft|in|yd|mi)[23]", re.ASCII)
_NO_TOKEN = Token("", "", is_attached=False)


@dataclass(frozen=True, slots=True)
class _Reading:
    """What a side of an answer comes to; plain is a number that needs no arithmetic."""

    value: Fraction
    is_plain: bool
    is_percent: bool


def number(text: str) -> Fraction | None:
    """Return the one number that a text in dress states without arithmetic, or None."""
    readings = _readings(text)
    values = {reading.value if reading and reading.is_plain else None for reading in readings}
    return values.pop() if len(values) == 1 else None


def states(text: str, value: Fraction, *, expressions: bool) -> bool:
    """Say whether an answer states `value`, with each side of an equation that has a number.

    Arithmetic alone is enough only with `expressions`: where the question is arithmetic itself,
    repeating it would be an answer. Beside `72%` other sides may say 0.72.
    """
    readings = _readings(text)
    equal = [reading for reading in readings if reading and reading.value == value]
    is_percent = any(reading.is_plain and reading.is_percent for reading in equal)
    for reading in readings:
        if reading is None:
            return False
        is_hundredth = is_percent and reading.value * 100 == value
        is_in_percent = reading.is_plain and reading.is_percent and reading.value == value * 100
        if not (reading.value == value or is_hundredth or is_in_percent):
            return False
    return any(expressions or reading.is_plain for reading in equal)


def _readings(text: str) -> list[_Reading | None]:
    """Return what each side states that does more than name the others; None for what none can."""
    tokens = tokens_of(text)
    if tokens is None:
        return [None]
    sides, asides = _sides(tokens)
    if len(sides) + len(asides) > MAX_SIDES:
        return [None]
    last = max((at for at, side in enumerate(sides) if _has_number(side)), default=0)
    return [
        _read(side)
        for at, side in enumerate(sides + asides)
        if not _is_label(side, is_followed=at < last)
    ]


def _sides(tokens: Sequence[Token]) -> tuple[list[list[Token]], list[list[Token]]]:
    """Split at signs and words of equality, and from what stands in brackets behind a number."""
    sides: list[list[Token]] = [[]]
    asides: list[list[Token]] = []
    at = 0
    while at < len(tokens):
        token, side = tokens[at], sides[-1]
        end = _closing(tokens, at)
        inside = tokens[at + 1 : end]
        before = next((t for t in reversed(side) if t.kind != "silent"), _NO_TOKEN)
        if token.kind == "equals":
            sides.append([])
        elif not _has_number(inside):
            side.append(token)
        elif not _has_number(side):
            is_call = token.is_attached and (before.kind in ("word", "name") or before.text == "^")
            side.append(Token("name", "", is_attached=True) if is_call else token)
            at = end if is_call else at
        elif before.kind in ("word", "stop") or (
            not token.is_attached and before.kind in ("number", "mixed", "close", "percent")
        ):
            if not _is_converted(side, inside):
                asides += [aside for group in _sides(inside) for aside in group]
            at = end
        else:
            side.append(token)
        at += 1
    return sides, asides


def _closing(tokens: Sequence[Token], at: int) -> int:
    """Return where the bracket opened at a token closes; 0 where none is, or never closes."""
    depth = 0
    for end in range(at, len(tokens)):
        depth += {"open": 1, "close": -1}.get(tokens[end].kind, 0)
        if depth <= 0:
            return end if end > at else 0
    return 0


def _has_number(tokens: Sequence[Token]) -> bool:
    return any(token.value is not None for token in tokens)


def _is_converted(side: Sequence[Token], inside: Sequence[Token]) -> bool:
    """Say whether what is in brackets gives the number before them in another unit: `(345 K)`."""
    units = [_units(tokens) for tokens in (side, inside)]
    is_sure = not any(_says(token, _CHANGING) for token in inside)
    return all(units) and units[0] != units[1] and is_sure


def _units(tokens: Sequence[Token]) -> set[str]:
    told = [token for token in tokens if token.kind != "silent"]
    behind = [after for token, after in pairwise(told) if token.value is not None]
    units = {token.text.lower() for token in behind if token.kind == "word"}
    return units | {token.text for token in tokens if token.text == "$"}


def _is_label(side: Sequence[Token], *, is_followed: bool) -> bool:
    """Say whether a side only names the others: `x`, `Total cost (in $)` or `The sum of 3 and 4`."""
    at = next((i for i, token in enumerate(side) if token.value is not None), len(side))
    if at < len(side):
        words = [token for token in side[:at] if token.kind != "silent"] or [_NO_TOKEN]
        is_named = words[0].kind == "word" and words[-1].text.lower() in _LABELLING
        if not (is_followed and is_named) or any(token.kind == "operator" for token in side):
            return False
    return not any(_says(token, _DOUBTING) for token in side)


def _says(token: Token, words: frozenset[str]) -> bool:
    """Say whether a token is one of these words, or doubts in any case."""
    word = token.text.lower()
    is_doubt = word.endswith("n't") or any(part in word for part in _DOUBTING_PARTS)
    return token.kind == "word" and (word in words or is_doubt)


def _read(side: Sequence[Token]) -> _Reading | None:
    """Return what a side comes to, where the words around its numbers leave that as it stands.

    It reaches from its first number to its last, with the signs and brackets around them.
    """
    tokens = [token for token in side if token.kind != "silent"]
    numbers = [i for i, token in enumerate(tokens) if token.value is not None]
    if not numbers:
        return None
    first, last = numbers[0], numbers[-1] + 1
    while first and (tokens[first - 1].kind in ("open", "root") or _sign(tokens[first - 1])):
        first -= 1
    while last < len(tokens) and tokens[last].kind in ("close", "percent"):
        last += 1
    core = tokens[first:last]
    before, after = (
        [token for token in around if token.kind not in ("open", "close", "percent")]
        for around in (tokens[:first], tokens[last:])
    )
    is_added = core[0].text == "+" and before != []
    if is_added or not (_may_precede(before) and _may_follow(after)):
        return None
    is_percent = any(token.kind == "percent" for token in core)
    is_plain = len(numbers) == 1 and not any(token.kind == "root" for token in core)
    value = _signed(core) if is_plain else worked_out(_without_units(core))
    return None if value is None else _Reading(value, is_plain, is_percent)


def _signed(core: Sequence[Token]) -> Fraction | None:
    """Return the only number with its only sign."""
    signs = "".join(map(_sign, core))
    value = next(token.value for token in core if token.value is not None)
    return {"": value, "+": value, "-": -value}.get(signs)


def _sign(token: Token) -> str:
    """Return the sign that a token may be, or nothing."""
    if token.kind == "word" and token.text.lower() in ("minus", "negative"):
        return "-"
    return token.text if token.kind == "operator" and token.text in "-+" else ""


def _may_precede(tokens: Sequence[Token]) -> bool:
    """Say whether these may stand before a number: its sign is gone already."""
    last = tokens[-1].text.lower() if tokens else ""
    if last in _NO_UNITS or last in _NAMING:
        return False
    return all(
        token.kind == "stop" or (token.kind == "word" and not _says(token, _CHANGING_BEFORE))
        for token in tokens
    )


def _may_follow(tokens: Sequence[Token]) -> bool:
    """Say whether this may stand behind a number: a unit, a rate, a sentence."""
    words = [token.text.lower() if token.kind == "word" else "" for token in [*tokens, _NO_TOKEN]]
    has_digits = any("0" <= character <= "9" for character in words[0].partition("^")[0])
    if has_digits and tokens[0].is_attached and not _UNIT_POWER.fullmatch(words[0]):
        return False
    for i, token in enumerate(tokens):
        is_sum = words[i] == "and" and (i == 0 or words[i + 1] in _ADDED)
        is_unit = words[i] != "" and not is_sum and not _says(token, _CHANGING)
        is_per = token.text == "/" and words[i + 1] != ""
        is_dash = token.text == "-" and words[i + 1] not in _NO_UNITS
        if not (is_unit or is_per or is_dash or token.kind == "stop"):
            return False
    return words[0] not in _NO_UNITS


def _without_units(tokens: Sequence[Token]) -> list[Token]:
    """Return arithmetic without its units, `$2/egg * 9 eggs`; a word that is none of them stays."""
    kept: list[Token] = []
    for i, token in enumerate(tokens):
        is_unit = i > 0 and token.kind == "word" and not _sign(token) and _may_follow([token])
        is_per = token.text == "/" and tokens[i + 1].kind == "word"
        if not (is_unit or is_per):
            kept.append(token)
    return kept
