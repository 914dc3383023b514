"""Take off an answer what people put around it and nobody counts: marks, tags, LaTeX, foreign signs.

What remains is ASCII but for letters, with brackets, signs and words in place: `numerals` reads those.
Characters are classed by Unicode 3.2, which every Python carries unchanged: the newest tables differ
between releases, and with them a reward would. Left out: what a word means (`numerals`).
"""

import re
from unicodedata import ucd_3_2_0 as unicode_3_2

SILENT = '"'
"""Stands where dress was: it separates, so that digits on its sides never become one number."""

_MINUS_SIGNS = "\u2212\u2010\u2011\u2012\u2013\u2014\u2015\ufe58\ufe63\uff0d\u02d7\u2796"
_CHARACTERS = {
    **dict.fromkeys(_MINUS_SIGNS, "-"),
    **dict.fromkeys("×✕✖·⋅∙∗", "*"),
    **dict.fromkeys("÷∕⁄", "/"),
    **dict.fromkeys("’‘ʼ\uff07", "'"),
    **dict.fromkeys("→⇒➔➜", ":"),
    **dict.fromkeys("\t\r\u200b\u200c\u200d\u200e\u2060\ufeff\ufe0f\u00ad•▪", SILENT),
    **{"。": ".", "、": ",", "…": "."},
}
_CATEGORIES = {
    **{"Sc": "$", "Zs": " ", "So": SILENT, "Pi": SILENT, "Pf": SILENT},
    **{"Ps": "(", "Pe": ")"},
}
_FORMS = {"<wide>": "", "<fraction>": " ", "<super>": "^"}
"""What goes before the plain characters of these forms: `3½` is `3 1/2`, and `8²` is `8^2`."""

_LATER = (
    (range(0x20A0, 0x20D0), "$"),
    (range(0x2600, 0x27C0), SILENT),
    (range(0x1F300, 0x1FB00), SILENT),
)
"""Blocks of currencies and pictures that have grown since."""

_WRAPPER = re.compile(
    r"\\(?:boxed|fbox|framebox|[mh]box|text(?:bf|it|rm|tt|sf|sc|up|normal)?|math(?:bf|it|rm|tt|sf|bb)"
    r"|operatorname|emph|underline|ensuremath|bf|rm|it|displaystyle|textstyle|large|left|right"
    r"|bigl?|bigr|Bigl?|Bigr)(?![A-Za-z])\s*(\{?)",
    re.ASCII,
)
_LATEX = [
    (re.compile(pattern, re.ASCII), plain)
    for pattern, plain in (
        (r"\\!", ""),
        (r"\{,\}", ","),
        (r"\\[,;: ]|\\q?quad(?![A-Za-z])|(?<=\d)~(?=[\d\\])|(?<=\{)~(?=[A-Za-z])", " "),
        (r"\\\$|\\(?:pounds|euro)(?![A-Za-z])", "$"),
        (r"\\([%#_])", r"\1"),
        (r"\\\{", "("),
        (r"\\\}", ")"),
        (r"\\[()\[\]\\]", SILENT),
        (r"\^\s*\{?\s*\\(?:circ|degree)(?![A-Za-z])\s*\}?|\\degree(?![A-Za-z])", SILENT),
        (r"\\(?:times|cdot|ast)(?![A-Za-z])", "*"),
        (r"\\div(?![A-Za-z])", "/"),
        (r"\\(gcd|min|max)(?![A-Za-z])", r"\1"),
        (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
        (r"(?<=\d)\s*\\frac\s*\{\s*(\d+)\s*\}\s*\{\s*(\d+)\s*\}", r" \1/\2"),
        (r"\\frac\s*(\d)\s*(\d)", r"((\1)/(\2))"),
    )
]
_INNERMOST = [
    (re.compile(r"\\frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", re.ASCII), r"((\1)/(\2))"),
    (re.compile(r"(\\sqrt|\^)\s*\{([^{}]*)\}", re.ASCII), r"\1(\2)"),
]
_TAGS = [
    (re.compile(r"<\|[A-Za-z_]+\|>|</?[A-Za-z][A-Za-z_-]*[1-6]?\s*/?>", re.ASCII), SILENT),
    (re.compile(r"<([^<>=]*\d[^<>=]*)>", re.ASCII), rf"{SILENT}\1{SILENT}"),
]

_ECHO = re.compile(
    r"(?:(?:the|a|my|our|so|thus|therefore|hence|in|final|answer|answers|ans|result|solution"
    r"|conclusion|summary|total|value|is|are|was)\b[\s:=,.]*)+",
    re.IGNORECASE | re.ASCII,
)
_EDGES = f" {SILENT}'`$*_~#()[]{{}}<>.,:;!="


def without_dress(text: str) -> str | None:
    """Return the text in plain characters without tags and LaTeX, or None where it has others.

    None is for what changes a number or hides one: digits of other scripts, relations as ≈ and ≤,
    control characters. The text must be short: every step here is quadratic at worst.
    """
    plain = [_plain(character) for character in text]
    if None in plain:
        return None
    text = "".join(filter(None, plain))
    for pattern, replacement in [*_TAGS, *_LATEX]:
        text = pattern.sub(replacement, text)
    text = _unwrapped(text)
    previous = None
    while text != previous:
        previous = text
        for pattern, replacement in _INNERMOST:
            text = pattern.sub(replacement, text)
    return text


def bare(text: str) -> str | None:
    """Return a text answer without dress, echoes of the instruction, and marks at its edges."""
    undressed = without_dress(text)
    if undressed is None:
        return None
    undressed = undressed.strip(_EDGES)
    echo = _ECHO.match(undressed)
    return undressed[echo.end() if echo else 0 :].strip(_EDGES)


def has_digit(text: str) -> bool:
    """Say whether there is a digit of any script: a number that cannot be read is one all the same."""
    return any(
        "0" <= character <= "9" or unicode_3_2.category(character)[0] == "N" for character in text
    )


def _plain(character: str) -> str | None:
    if " " <= character <= "~":
        return character
    if character in _CHARACTERS:
        return _CHARACTERS[character]
    category = unicode_3_2.category(character)
    if category[0] in "LM":
        return character
    if category == "Cn":
        return next((plain for block, plain in _LATER if ord(character) in block), None)
    form = unicode_3_2.decomposition(character).partition(" ")[0]
    if category not in _CATEGORIES and category != "Nd" and form in _FORMS:
        plain = _FORMS[form] + unicode_3_2.normalize("NFKC", character).replace("⁄", "/")
        return plain if plain.isascii() else None
    return _CATEGORIES.get(category)


def _unwrapped(text: str) -> str:
    """Replace each wrapping command by what it wraps; one cut off wraps the rest."""
    while (wrapper := _WRAPPER.search(text)) is not None:
        start = end = wrapper.end()
        if wrapper[1]:
            end = closing_brace(text, start)
        inside = text[start:end]
        text = f"{text[: wrapper.start()]}{SILENT}{inside}{SILENT}{text[end + len(wrapper[1]) :]}"
    return text


def closing_brace(text: str, start: int) -> int:
    """Return where the brace opened before `start` closes, or the end of the text."""
    depth = 1
    for position in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return position
    return len(text)
