"""Define what an environment is, how its items are seeded and how its digest is formed.

An environment is a pure function from an index to a problem, and from a completion to a score.
Two parties that hold the same digest compute the same prompts and the same rewards. Left out:
which indices are trained on or held out (the run decides) and where scoring runs (the caller
bounds it). Source: `protocol/wire.md` 2.2.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Protocol, TypeAlias

from protocol.canonical import Value, content_digest, encode
from protocol.environments import decoding
from protocol.errors import Malformed

Config: TypeAlias = Mapping[str, int | str]

FULL_SCORE = 10_000
"""A reward of 1 in ten-thousandths: integers, so that two machines never differ in a last bit."""

INDEX_LIMIT = 2**63
"""Indices have 63 bits on the wire; a larger one would not survive its encoding."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One prompt of an environment with its frozen answer.

    `solution` is a completion that scores full: what a warm start imitates and a test expects.

    Example:
        Problem(prompt="47+38=?", gold="85", solution="7+8=15,4+3=7+1=8#85")
    """

    prompt: str
    gold: str
    solution: str


class Environment(Protocol):
    """Prompts and their reward. Both methods are pure: no clock, no network, no hidden chance."""

    @property
    def name(self) -> str:
        """The name under which `registry.environment` makes it."""

    @property
    def digest(self) -> bytes:
        """32 bytes over source, configuration, data and library versions."""

    @property
    def agreed_config(self) -> Config:
        """The settings by which any party makes the same environment: nothing that lies in one party's folder only."""

    @property
    def num_problems(self) -> int | None:
        """Indices run from 0 to this, exclusive; None where they end only at `INDEX_LIMIT`."""

    def problem(self, index: int) -> Problem:
        """Return the problem at `index`; `IndexError` where there is none."""

    def score(self, problem: Problem, completion: str) -> int:
        """Return from 0 to `FULL_SCORE` for a stranger's completion; total: never raises, never hangs."""


class Draws:
    """An endless stream of integers from a 32-byte seed, the same in any language.

    `random.Random` is not used: only its `random()` is stable between Python versions.
    """

    def __init__(self, seed: bytes) -> None:
        self._seed = seed
        self._counter = 0

    def below(self, limit: int) -> int:
        """Return an integer in [0, limit); its bias, limit / 2**256, is beyond measurement."""
        block = content_digest(self._seed + self._counter.to_bytes(8, "big"))
        self._counter += 1
        return int.from_bytes(block, "big") % limit

    def between(self, low: int, high: int) -> int:
        """Return an integer in [low, high]."""
        return low + self.below(high - low + 1)


def item_seed(name: str, config: Config, index: int) -> bytes:
    """Return the 32-byte seed of one item.

    It hashes the configuration and not the digest, so that a comment added to a source file
    changes what is agreed (the digest) but not every prompt and every golden test.
    """
    if not 0 <= index < INDEX_LIMIT:
        raise IndexError(f"index {index} is outside [0, 2**63)")
    return content_digest(encode(["rollcall/item", name, dict(config), index]))


def environment_digest(
    name: str,
    config: Config,
    *,
    sources: Sequence[str],
    libraries: Sequence[str] = (),
    extra: bytes = b"",
) -> bytes:
    """Return the digest of an environment.

    `sources` are the `__file__`s that decide rewards, `libraries` are distributions they call,
    `extra` is whatever else decides a problem or a reward. Line endings are normalised: a checkout may rewrite them.
    """
    files = (__file__, decoding.__file__, *sources)
    texts: list[Value] = [Path(file).read_bytes().replace(b"\r\n", b"\n") for file in files]
    versions: list[Value] = [f"{library}=={version(library)}" for library in libraries]
    return content_digest(
        encode(["rollcall/environment", name, dict(config), texts, versions, extra])
    )


def integer_setting(config: Config, key: str, *, low: int, high: int) -> int:
    """Return an integer setting within its bounds, or say which value broke them."""
    value = config[key]
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise Malformed(f"{key} = {value!r} must be an integer from {low} to {high}")
    return value


def with_defaults(config: Config, defaults: Config) -> dict[str, int | str]:
    """Complete a configuration; an unknown key is an error, not a silent no-op."""
    unknown = sorted(set(config) - set(defaults))
    if unknown:
        raise Malformed(f"unknown settings {unknown}; known are {sorted(defaults)}")
    return {**defaults, **config}
