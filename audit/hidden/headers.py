"""Find the whole header behind a posting, whose event tells only the header's hash.

An honest file gives it. If the file is withheld or another's, the posting transaction holds it:
`postEpoch` takes the header as twelve plain words, so those are looked for anywhere in the call data, in
a direct call or inside somebody's wrapper. If a wrapper computes them on the way, the node's trace shows
them, if the node gives one.
"""

from typing import Any

from audit.history import Posted
from ledger.ledger import Ledger
from protocol.epoch import EpochHeader

WORD = 32
KINDS = (int, int, int, bytes, bytes, bytes, int, int, int, int, int, bytes)
"""What each word of a header is, in the order of its fields."""


def header_in(data: bytes, posted: Posted) -> EpochHeader | None:
    """Return the header whose hash was posted, from anywhere in call data."""
    start = b"".join(n.to_bytes(WORD, "big") for n in (posted.run_id, posted.epoch))
    at = data.find(start)
    while at >= 0:
        header = _header(data[at : at + WORD * len(KINDS)])
        if header is not None and header.struct_hash() == posted.header_hash:
            return header
        at = data.find(start, at + 1)
    return None


def posted_header(ledger: Ledger, posted: Posted) -> EpochHeader | None:
    """Return the header from the transaction that posted it, or None if it cannot be seen."""
    for data in ledger.node.inputs(posted.transaction):
        header = header_in(data, posted)
        if header is not None:
            return header
    return None


def _header(words: bytes) -> EpochHeader | None:
    if len(words) != WORD * len(KINDS):
        return None
    values: list[Any] = []
    for place, kind in enumerate(KINDS):
        word = words[place * WORD : (place + 1) * WORD]
        values.append(word if kind is bytes else int.from_bytes(word, "big"))
    try:
        header = EpochHeader(*values)
        header.struct_hash()
    except ValueError:
        return None  # a word too large for its field: these were other words
    return header
