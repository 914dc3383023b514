"""Problems from reasoning-gym 0.1.25 under our own scorers.

reasoning-gym generates well, but its scorers are not fit for strangers: nine execute the answer,
one pays for garbage, and its items `(seed, i)` and `(seed + 1, i - 1)` are equal. So only the
generators listed here are used (they do not depend on PYTHONHASHSEED and have one exact answer),
each item from a fresh generator with a 256-bit hashed seed, and its answer is compared by
`answers`. Left out: every other generator, until somebody has read it.
"""

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from importlib import import_module

from protocol.environments import answers
from protocol.environments.answers import INSTRUCTION, is_number, is_text
from protocol.environments.base import (
    FULL_SCORE,
    INDEX_LIMIT,
    Config,
    Problem,
    environment_digest,
    integer_setting,
    item_seed,
    with_defaults,
)
from protocol.errors import Malformed


@dataclass(frozen=True, slots=True)
class Generator:
    """One generator that was read and found fit, with bounds on its settings.

    `gap` is how far each `max_…` must exceed its `min_…`: base_conversion never ends when its
    two bases are equal, and writes zero as nothing at all in most of them. `numeric` answers may be spelt differently, others must match exactly.
    """

    module: str
    title: str
    defaults: Config
    bounds: Mapping[str, tuple[int, int]]
    gap: int
    numeric: bool


def allowed_generators() -> dict[str, Generator]:
    """Return the allow-list by environment name."""
    return {
        "chain_sum": Generator(
            module="reasoning_gym.arithmetic.chain_sum",
            title="ChainSum",
            defaults={"min_terms": 2, "max_terms": 6, "min_digits": 1, "max_digits": 4},
            bounds={"terms": (1, 64), "digits": (1, 18)},
            gap=0,
            numeric=True,
        ),
        "gcd": Generator(
            module="reasoning_gym.arithmetic.gcd",
            title="GCD",
            defaults={"min_numbers": 2, "max_numbers": 2, "min_value": 1, "max_value": 1000},
            bounds={"numbers": (2, 16), "value": (1, 10**9)},
            gap=0,
            numeric=True,
        ),
        "base_conversion": Generator(
            module="reasoning_gym.algorithmic.base_conversion",
            title="BaseConversion",
            defaults={"min_base": 2, "max_base": 16, "min_value": 1, "max_value": 1000},
            bounds={"base": (2, 36), "value": (1, 10**9)},
            gap=1,
            numeric=False,
        ),
    }


class Generated:
    """An environment over one allowed generator."""

    def __init__(self, name: str, config: Config) -> None:
        self._name = name
        self._generator = allowed_generators()[name]
        self.config = with_defaults(config, {"seed": 0, **self._generator.defaults})
        integer_setting(self.config, "seed", low=0, high=INDEX_LIMIT - 1)
        self._settings = _checked_settings(self._generator, self.config)
        module = import_module(self._generator.module)
        self._dataset_class = getattr(module, f"{self._generator.title}Dataset")
        self._config_class = getattr(module, f"{self._generator.title}Config")
        self._digest = environment_digest(
            name,
            self.config,
            sources=(__file__, *answers.SOURCES),
            libraries=("reasoning-gym",),
            extra=f"python {sys.version_info.major}.{sys.version_info.minor}".encode(),
        )

    @property
    def name(self) -> str:
        return self._name

    @property
    def digest(self) -> bytes:
        """Cover the Python version too: `random.Random.randint` is only stable within one."""
        return self._digest

    @property
    def agreed_config(self) -> Config:
        return self.config

    @property
    def num_problems(self) -> int | None:
        return None

    def problem(self, index: int) -> Problem:
        seed = int.from_bytes(item_seed(self._name, self.config, index), "big")
        generator_config = self._config_class(seed=seed, size=1, **self._settings)
        item = self._dataset_class(generator_config)[0]
        gold = str(item["answer"])
        return Problem(
            prompt=f"{str(item['question']).strip()}\n{INSTRUCTION}\n",
            gold=gold,
            solution=f"{answers.ANSWER_LINE} {gold}",
        )

    def score(self, problem: Problem, completion: str) -> int:
        if self._generator.numeric:
            is_right = is_number(completion, Fraction(problem.gold), expressions=False)
        else:
            question = problem.prompt.removesuffix(f"\n{INSTRUCTION}\n")
            is_right = is_text(completion, problem.gold, _spellings(question, problem.gold))
        return FULL_SCORE if is_right else 0


_CONVERSION = re.compile(r"convert the (\S+) number (\w+) to (\S+)$", re.ASCII)
_BASES = {2: ("binary", "0b"), 8: ("octal", "0o"), 16: ("hex(?:adecimal)?", "0x")}


def _spellings(question: str, gold: str) -> str:
    """Return how people write a numeral with its base, alone or behind the one it is converted from."""
    conversion = _CONVERSION.search(question)
    if conversion is None:
        return "(?!)"
    given, _ = _numeral(conversion[2], conversion[1])
    wanted, base = _numeral(gold, conversion[3])
    return f"(?:{given}(?: (?:converted )?(?:in|to) {base})? (?:=|is|equals) )?{wanted}"


def _numeral(digits: str, name: str) -> tuple[str, str]:
    """Return patterns for a numeral and for the names of its base, as `base-5` or `binary`."""
    base = {"binary": 2, "hexadecimal": 16}.get(name) or int(name.removeprefix("base-"))
    other, prefix = _BASES.get(base, ("(?!)", ""))
    names = f"(?i:base[ -]?{base}|{other})"
    before = f"(?:(?:in )?{names}(?: number| representation)?(?: is)? )?(?:{prefix})?"
    return f"{before}{digits}(?: ?_ ?{base}| (?:in )?{names})?", names


def _checked_settings(generator: Generator, config: Config) -> dict[str, int]:
    """Return the settings after our own checks: reasoning-gym's are `assert`s, gone under -O."""
    settings: dict[str, int] = {}
    for noun, (low, high) in generator.bounds.items():
        smallest = integer_setting(config, f"min_{noun}", low=low, high=high)
        largest = integer_setting(config, f"max_{noun}", low=low, high=high)
        if largest < smallest + generator.gap:
            raise Malformed(
                f"max_{noun} = {largest} must be at least {generator.gap} above "
                f"min_{noun} = {smallest}"
            )
        settings |= {f"min_{noun}": smallest, f"max_{noun}": largest}
    return settings
