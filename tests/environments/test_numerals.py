"""Which number an answer states, in whatever dress, and what states none."""

import hashlib
import sys
import time
import unicodedata
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.environments.dress import bare, without_dress
from protocol.environments.numerals import number, states
from protocol.environments.tokens import MAX_DIGITS

PLAIN: dict[str, tuple[str, ...]] = {
    "72": (
        # Units of any word in any language, and rates.
        *("72 dollars", "72 apples.", "72 eggs", "72 people", "72 books", "72 tickets", "72 pages"),
        *(
            "72 years old",
            "72 miles per hour",
            "72 km/h",
            "72kg",
            "72 kg",
            "72h",
            "72 hours",
            "72cm",
        ),
        *("72 (apples)", "72 sq. ft.", "72 lbs.", "72-year-old", "72-hour", "72 apples a day"),
        *("72 each", "72 in total", "72 left over", "72 more", "72 fewer", "72nd", "72 m/s^2"),
        *(
            "72 m^2",
            "72 m²",
            "72m2",
            "72 km²",
            "72 km^{2}",
            "72 CO2 molecules",
            "72 people on the bus",
        ),
        *("72 яблок", "72 Äpfel", "72 manzanas", "72 pommes", "72个苹果", "72 個", "72개", "72 円"),
        *(
            "共72元",
            "72 ไข่",
            "72 بيضة",
            "72 बच्चे",
            "72℃",
            "72 °C",
            "72°F",
            "72㎏",
            "72^\\circ",
            "72 %",
        ),
        # Currencies on either side.
        *("$72", "72$", "$ 72", "\\$72", "72 \\$", "€72", "72€", "£72", "¥72", "₹72", "₽72", "72¢"),
        *(
            "US$72",
            "A$72",
            "R$72",
            "USD72",
            "USD 72",
            "72 USD",
            "72.00 USD",
            "Rs. 72",
            "Rs.72",
            "Rs 72",
        ),
        *(
            "72/-",
            "72,-",
            "$72/week",
            "$72 per week",
            "72$/hr",
            "\\pounds 72",
            "$72.00",
            "＄72",
            "72元",
        ),
        # Marks, quotes, brackets and tags.
        *(
            "72.",
            "72,",
            "72;",
            "72:",
            "72!",
            "72。",
            "72..",
            "(72)",
            "[72]",
            "{72}",
            "<72>",
            "【72】",
        ),
        *(
            "((72))",
            "'72'",
            '"72"',
            "“72”",
            "‘72’",
            "«72»",
            "「72」",
            "<answer>72</answer>",
            "<b>72</b>",
        ),
        *(
            "<answer>72",
            "72</s>",
            "72<|im_end|>",
            "72 ####",
            "#72",
            "72 ✅",
            "✓ 72",
            "72 🎉",
            "72\u200b",
        ),
        *(
            "\ufeff72",
            "72\r",
            "\t72",
            "72\u00a0",
            "**72**",
            "*72*",
            "__72__",
            "_72_",
            "`72`",
            "```72```",
        ),
        *("**72** apples", "**72 dollars**", "72*", "**$72**", "**Answer:** 72", "**Answer: 72**"),
        # LaTeX.
        *(
            "$72$",
            "$$72$$",
            "\\(72\\)",
            "\\[72\\]",
            "$\\boxed{72}$",
            "\\[ \\boxed{72} \\]",
            "\\fbox{72}",
        ),
        *("\\boxed 72", "\\boxed{\\text{Answer: }72}", "72\\%", "72\\ %", "72 \\text{ dollars}"),
        *("\\text{72 dollars}", "72\\text{ cm}^2", "72~\\text{cm}", "72 \\mathrm{~kg}", "72\\\\"),
        *("72 \\, \\text{cm}", "72^{\\circ}\\text{C}", "\\textbf{72}", "$\\mathbf{72}$", "$72\\,$"),
        *(
            "\\left(72\\right)",
            "\\displaystyle 72",
            "\\text{\\$}72",
            "\\boxed{\\boxed{72}}",
            "\\boxed{72",
        ),
        # Echoes, labels and sentences.
        *(
            "Answer: 72",
            "Answer:72",
            "The answer is 72.",
            "The final answer is $72$",
            "= 72",
            ": 72",
        ),
        *(
            "=72",
            "=> 72",
            "-> 72",
            "→ 72",
            "Total: $72.",
            "A: 72",
            "A) 72",
            "Answer (in dollars): 72",
        ),
        *(
            "答案：72",
            "答案是72",
            "Respuesta: 72",
            "La réponse est 72 €",
            "Die Antwort ist 72",
            "It's 72",
        ),
        *("Janet makes $72 per day.", "She has 72 apples left.", "72 is the answer", "Answer - 72"),
        *("Answer — 72", "72 — done", "72 – the total", "Seventy-two (72)", "72 (seventy-two)"),
        # Spellings of the number itself.
        *("0072", "72.0", "72.0000000", "+72", "7.2e1", "7.2E1", "7.2e+1", "720e-1"),
    ),
    "-5": (
        *(
            "-5",
            "\u22125",
            "\u20135",
            "\u20105",
            "\u20115",
            "\u20125",
            "\u20145",
            "\ufe635",
            "\uff0d5",
        ),
        *(
            "$-5",
            "-$5",
            "\u2212$5",
            "$\u22125$",
            "- 5",
            "**-5**",
            "-5 degrees",
            "(-5)",
            "-(5)",
            "-5.00",
        ),
        *(
            "minus 5",
            "negative 5",
            "The answer is -5",
            "Answer: \u22125",
            "\\boxed{-5}",
            "-\\$5",
            "-5°C",
        ),
    ),
    "1800": (
        *(
            "1,800",
            "$1,800.00.",
            "1 800",
            "1\u00a0800",
            "1\u202f800",
            "1\u2009800",
            "1'800",
            "1’800",
        ),
        *("1_800", "1\\,800", "1{,}800", "1,\\!800", "1\\ 800", "1~800", "1\\;800", "1.8 thousand"),
        *("1.8k", "$1.8K", "18 hundred", "1,800 dollars", "1,800 (one thousand eight hundred)"),
    ),
    "2000000": (
        "2,000,000",
        "2 000 000",
        "2 million dollars",
        "$2M",
        "2 million",
        "20 lakh",
        "2e6",
    ),
    "3.5": ("3.5", "3 1/2", "3½", "3 ½ cups", "3\\frac{1}{2}", "3 \\frac{1}{2} cups", "3 and 1/2"),
    "-3.5": ("-3.5", "-3 1/2", "\u22123½"),
    "0.5": (".5", "0.50", "$.50", "+.5"),
    "0": ("0", "-0", "0.00", "$0", "0 apples"),
}

WORKED_OUT: dict[str, tuple[str, ...]] = {
    "72": (
        *(
            "36*2",
            "36 * 2",
            "36×2",
            "36 x 2",
            "36x2",
            "36 X 2",
            "36·2",
            "36 \\times 2",
            "36 \\cdot 2",
        ),
        *("144/2", "144÷2", "144 \\div 2", "\\frac{144}{2}", "\\dfrac{144}{2}", "8^2+8", "8²+8"),
        *("\\sqrt{5184}", "(36)*2", "2*(30+6)", "100-28", "$36 * $2", "36*2 dollars", "-(8 - 80)"),
        *(
            "\\boxed{36 \\cdot 2}",
            "\\frac{\\sqrt{16}}{2} * 36",
            "2 * -(-36)",
            "144 * 2^{-1}",
            "144/2 eggs",
        ),
        *(
            "**36*2**",
            "3 boxes x 24",
            "18 eggs * 4",
            "$2/egg * 36 eggs",
            "100 eggs - 28 eggs",
            "1 1/2 * 48",
        ),
    ),
    "72000": ("7.2 \\times 10^4", "7.2 x 10^4", "7.2×10⁴", "7.2 * 10^{4}", "72 * 1,000"),
    "0.5": ("1/2", "½", "\\frac12", "\\frac{1}{2}", "\\tfrac{1}{2}"),
}

EQUATIONS: dict[str, tuple[str, ...]] = {
    "72": (
        *("x = 72", "x=72", "$x = 72$", "x = \\boxed{72}", "72 = x", "n = 72", "Total cost = $72"),
        *("36*2 = 72", "36*2 = \\boxed{72}", "x = 36*2 = 72", "72 == 72", "6 * 12 = 72 apples"),
        *(
            "Profit = 100 - 28 = 72",
            "72 = 36*2",
            "f(3) = 72",
            "gcd(72, 144) = 72",
            "\\gcd(72,144) = 72",
        ),
        *("100 eggs - 28 eggs = 72 eggs", "Total (in $) = 72", "36 x 2 = 72", "36*2=72.00"),
    ),
}

NOTHING: dict[str, tuple[str, ...]] = {
    "72": (
        # Two numbers, a range, a set, an interval.
        *(
            "72 or 73",
            "72 73",
            "1 72",
            "72 1",
            "71, 72",
            "71 72 73",
            "72, 000",
            "72; 73",
            "72 (73)",
        ),
        *(
            "{71,72}",
            "{71, 72}",
            "\\{71, 72\\}",
            "[70, 74]",
            "(70, 74)",
            "[72, 73)",
            "72-73",
            "72 - 73",
        ),
        *("70–72", "72:00", "72:73", "72/73", "72 to 80", "between 70 and 72", "from 70 to 72"),
        *(
            "72→73",
            "73->72",
            "72..73",
            "72 dollars and 50 cents",
            "72 | 73",
            "72 & 73",
            "1 (72)",
            "7 2",
        ),
        *(
            "\\boxed{71} \\boxed{72}",
            "71 \\boxed{72}",
            "*8* 9",
            "8 * 9 *2",
            "**72** **73**",
            "72 %73",
        ),
        *(
            "72$73",
            "7$2",
            "7\u200b2",
            "7*2",
            "7'2",
            "7_2",
            "72.72",
            "72.5.5",
            "72,5",
            "7,2",
            "72%72",
        ),
        # Doubt and denial.
        *(
            "not 72",
            "isn't 72",
            "72 is wrong",
            "never 72",
            "Either 72",
            "about 72",
            "around 72",
            "~72",
        ),
        *(
            "≈72",
            "\\approx 72",
            "\\sim 72",
            "nearly 72",
            "roughly 72",
            "approximately 72",
            "72 or so",
        ),
        *(
            "72ish",
            "72-ish",
            "72?",
            "72, maybe",
            "perhaps 72",
            "72 I guess",
            "at least 72",
            "at most 72",
        ),
        *(
            "72 maximum",
            "no more than 72",
            "up to 72",
            "over 72",
            "under 72",
            "less than 72",
            "72 or more",
        ),
        *("72+", "72 plus tax", "< 72", "<72", "> 72", ">72", "≤72", "≥ 72", "\\leq 72", "x < 72"),
        *(
            "x \\geq 72",
            "≠72",
            "x != 72",
            "72 != 72",
            "\\neq 72",
            "±72",
            "72 ± 1",
            "72 \\pm 1",
            "+/- 72",
        ),
        *(
            "72 \\text{ or } 73",
            "nicht 72",
            "environ 72",
            "не 72",
            "72 \\cup 73",
            "72 ∪ 73",
            "step 72",
        ),
        # Another number by what stands beside it.
        *("72 thousand", "72k", "72 million", "72万元", "72 mil", "72 тысяч", "72x", "72 x", "72π"),
        *(
            "72\\pi",
            "\\pi 72",
            "72i",
            "72 and a half",
            "half of 72",
            "twice 72",
            "72 squared",
            "72²",
        ),
        *("72^2", "72^{10}", "72 thirds", "|−72|", "\\log 72", "x-72", "-72", "−72", "0.72", "720"),
        *(
            "72e1",
            "72e999999999",
            "9e999999999",
            "0x48",
            "\\sqrt{72}",
            "72m7",
            "\\infty",
            "2 x 36 x",
        ),
        # Digits that are not ours.
        *("７２", "7２", "72\u0663", "٧٢", "①72", "72 ➊", "7²", "\u202e72", "72\0", "\ud80072"),
        # Arithmetic that is none, or comes to something else.
        *(
            "2(36)",
            "36 2",
            "36*",
            "*36*2*3",
            "36**2",
            "--72",
            "+-72",
            "72/0",
            "72/",
            "10%*720",
            "36*2%",
        ),
        *(
            "(36*2",
            "36*2)*1)",
            "10^{999999999}",
            "9^{9^{9^{9}}}",
            "(9^60)^60",
            "\\sqrt{2}*\\sqrt{2592}",
        ),
        *("36 and 2 * 1", "3 x * 24", "72 thousand * 1", "36*2.0001", "((72)*(1)", "(-1)^{1/2}"),
        # Equations whose sides disagree.
        *(
            "73 = 72",
            "71=72",
            "x = 71 = 72",
            "72 = 73",
            "36*3 = 72",
            "72 =< 72",
            "not x = 72",
            "5x = 72 5",
        ),
        *("2x = 72 = 36", "1 1 = 72", "x ≈ y = 72", "=", "x =", "72=" + "=".join(["72"] * 9)),
        *("", ".", "-", "$", "seventy-two", "\\boxed{}", "dollars", "x", "\\frac{}{}", "1" * 65),
    ),
    "0": ("1 000", "5 000", "1,000", "0x10", "0 500", "1 0", "٠", "1 00"),
    "500": ("0,500", "0 500", "1 500", ",500", "1,,500"),
    "1": ("1,8", "1.8", "1 1", "2-1 or 1", "1_0", "1 1/0", "1 5/2"),
    "-5": ("5", "(5)", "--5", "+-5", "5-", "±5"),
    "17": ("1,7", "1 7", "1\\!\\!,7", "1{,}7", "1\n7", "1\\\\7", "1\\quad 7"),
}


def cases(table: dict[str, tuple[str, ...]]) -> list[tuple[str, str]]:
    return [(gold, text) for gold, texts in table.items() for text in texts]


@pytest.mark.parametrize(("gold", "text"), cases(PLAIN))
def test_dress_does_not_change_a_number(gold: str, text: str) -> None:
    assert number(text) == Fraction(gold) or "=" in text
    assert states(text, Fraction(gold), expressions=False)
    assert not states(text, Fraction(gold) + 1, expressions=True)


@pytest.mark.parametrize(("gold", "text"), cases(WORKED_OUT))
def test_arithmetic_is_worked_out_where_it_is_no_repeated_question(gold: str, text: str) -> None:
    assert states(text, Fraction(gold), expressions=True)
    assert not states(text, Fraction(gold), expressions=False)
    assert not states(text, Fraction(gold) + 1, expressions=True)


@pytest.mark.parametrize(("gold", "text"), cases(EQUATIONS))
def test_an_equation_states_what_all_its_sides_state(gold: str, text: str) -> None:
    assert states(text, Fraction(gold), expressions=False)
    assert not states(text, Fraction(gold) + 1, expressions=True)


@pytest.mark.parametrize(("gold", "text"), cases(NOTHING))
def test_doubt_lists_and_other_numbers_state_nothing(gold: str, text: str) -> None:
    assert not states(text, Fraction(gold), expressions=True)
    assert number(text) != Fraction(gold)


def test_there_are_as_many_refusals_as_forms_of_the_kinds_that_people_report() -> None:
    assert len(cases(PLAIN)) > 250
    assert len(cases(NOTHING)) > 200


@settings(deadline=None)
@given(st.integers(min_value=-(10**30), max_value=10**30), st.sampled_from(", '_\u202f"))
def test_every_integer_survives_its_thousands(value: int, separator: str) -> None:
    assert number(f"{value:,}".replace(",", separator)) == value


@settings(deadline=None)
@given(
    st.lists(st.integers(min_value=0, max_value=99), min_size=2, max_size=6), st.sampled_from(" ,")
)
def test_a_list_is_never_a_number(values: list[int], separator: str) -> None:
    text = separator.join(map(str, values))
    for value in (*values, int("".join(map(str, values)))):
        assert not states(text, Fraction(value), expressions=True)


@settings(deadline=None)
@given(st.text(max_size=256))
def test_whatever_strangers_write_is_read_without_a_word(text: str) -> None:
    states(text, Fraction(72), expressions=True)
    bare(text)


@settings(deadline=None)
@given(st.text(alphabet="0123456789 .,-+*/^=()[]{}$\\x%e'_", max_size=64))
def test_whatever_looks_like_arithmetic_has_one_value_at_most(text: str) -> None:
    stated = [value for value in range(10) if states(text, Fraction(value), expressions=True)]
    assert len(stated) <= 1


def test_python_would_accept_foreign_digits_and_choke_on_long_ones() -> None:
    assert int("٣") == 3 and int("1_0") == 10 and Fraction("1_0") == 10
    assert number("٣") is None and number("1_0") is None
    with pytest.raises(ValueError, match="digits"):
        int("9" * 10**6)


def test_digits_are_bounded() -> None:
    nines = "9" * MAX_DIGITS
    assert number(nines) == int(nines)
    assert number(f"{nines}9") is None
    assert number(f"{nines} 9") is None


NESTED = [
    *("\\text{" * 42, "\\frac{" * 42, "(" * 256, "\\frac{1}{" * 28 + "1" + "}" * 28, "<a" * 128),
    *(
        "9^" * 64 + "9",
        "-" * 255 + "1",
        "1," * 128,
        "'" * 256,
        "\\boxed " * 36 + "9",
        "\\sqrt" * 51,
    ),
    *("1 " * 128, "$" * 255 + "9", "x^" * 128, "9*" * 64 + "9", "(" * 100 + "9" + ")" * 100),
    *("\\frac " * 42, "{" * 128 + "}" * 128, "is " * 85, "1/" * 64 + "1", "a'" * 128, "=" * 256),
]


@pytest.mark.parametrize("text", NESTED, ids=range(len(NESTED)))
def test_the_longest_answers_are_read_in_no_time(text: str) -> None:
    started = time.perf_counter()
    for _ in range(10):
        states(text, Fraction(72), expressions=True)
        bare(text)
    assert time.perf_counter() - started < 10, "ten readings take milliseconds"


def test_code_in_an_answer_is_not_run(tmp_path: Path) -> None:
    target = tmp_path / "written"
    attack = f"open('{target}', 'w').close()"
    eval(attack)  # noqa: S307 - the attack works where an answer is evaluated
    assert target.exists()
    target.unlink()
    for wrapped in (
        attack,
        f"1 + {attack}",
        f"\\text{{{attack}}}",
        f"$ {attack} $",
        f"{attack} = 18",
    ):
        states(wrapped, Fraction(18), expressions=True)
    assert not target.exists()


CLASSES = "850a4105cea7195d7681ca8fda104fec519012002e9fe3905b53f8686019c051"
"""SHA-256 over what each character becomes, under every Python from 3.10 to 3.13."""


def test_characters_are_classed_alike_by_every_python() -> None:
    """By the newest tables a digit of Unicode 15 is one for Python 3.12 and nothing for 3.11."""
    classes = "".join(f"{without_dress(chr(code))!r};" for code in range(0x20000))
    assert hashlib.sha256(classes.encode()).hexdigest() == CLASSES
    assert unicodedata.category("\U00011f52") == ("Nd" if sys.version_info >= (3, 12) else "Cn")
    assert without_dress("7\U00011f52") is None
