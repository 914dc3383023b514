"""Turn sampled tokens into the text that a reward reads.

Tokens without a text (special ones, and ids past the tokenizer, which a padded vocabulary has) would
vanish, and `12<pad>3` would be 123. They leave a mark between what stands on their sides. Left out:
where a completion ends (admission decides) and the tokenizer itself (a blob of the run's terms).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Protocol

GAP = "\ufffd"


class Tokenizer(Protocol):
    """What is needed of `tokenizers.Tokenizer`."""

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = ..., /) -> str: ...

    def get_vocab(self, with_added_tokens: bool = ..., /) -> Mapping[str, int]: ...

    def get_added_tokens_decoder(self) -> Mapping[int, Any]: ...


class Decoder:
    """The tokenizer of a run and the tokens that end its completions."""

    def __init__(self, tokenizer: Tokenizer, eos_token_ids: Collection[int]) -> None:
        added = tokenizer.get_added_tokens_decoder()
        special = {token_id for token_id, token in added.items() if token.special}
        self._tokenizer = tokenizer
        self._ends = frozenset(eos_token_ids)
        self._spoken = frozenset(tokenizer.get_vocab(True).values()) - special

    def text(self, tokens: Iterable[int]) -> str:
        """Return a completion's text, without its end and without marks at its edges."""
        ids = list(tokens)
        if ids and ids[-1] in self._ends:
            ids.pop()
        runs = groupby(ids, key=self._spoken.__contains__)
        return "".join(
            self._tokenizer.decode(list(run), False) if is_spoken else GAP
            for is_spoken, run in runs
        ).strip(GAP)
