"""What a node's answer, its error or its silence means. Pure; `node.py` asks.

Nodes, gateways and balancers say the same thing in many ways, and often only in words. Sources: EIP-1474, and the
texts of geth, erigon, nethermind, besu, reth, anvil and of the larger companies that sell access.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from typing import Any

from requests import ConnectionError as NoConnection
from requests import ConnectTimeout, HTTPError, RequestException, Response, Timeout
from requests.exceptions import InvalidSchema, InvalidURL, MissingSchema, ProxyError, SSLError
from urllib3.exceptions import LocationParseError, NewConnectionError

from protocol.user_error import one_line

LOST = (RequestException, OSError, ValueError, RecursionError)
"""What the transport raises: no connection, no answer, or one that is no JSON."""
UNFIT = (MissingSchema, InvalidURL, InvalidSchema, LocationParseError, UnicodeError)
"""What the transport raises for an address that cannot be one."""
SENT_BEFORE = re.compile(r"already ?(known|imported|exists|in)|known transaction", re.I)
NONCE_TAKEN = re.compile(
    r"nonce (is )?too low|nonce .*already|old ?nonce|(invalid|incorrect) (tx |transaction )?nonce"
    r"|account sequence",
    re.I,
)
NONCE_WAITS = re.compile(
    r"replacement|could not replace|fee too low to replace|same nonce|nonce (is )?too (high|big)|nonce gap",
    re.I,
)
TOO_POOR = re.compile(r"insufficient (funds|balance)|cannot afford", re.I)
NO_TYPE_2 = re.compile(
    r"(transaction|tx) ?type|typed transaction|type[- ]?(2|0x2)\b|eip-?1559|dynamic fee|invalid rlp|rlp:",
    re.I,
)
RATE = re.compile(
    r"rate.?limit|(limit|request).{0,12} rate|too many request|request.{0,20}limit|per.second|/second|throttl"
    r"|exceed.{0,80}(capacity|quota|credit|throughput)|quota|slow down|over.?loaded|too busy"
    r"|\brps\b|(tier|plan|usage|daily|monthly|hourly|capacity).{0,20}limit|limit.{0,20}\bplan\b"
    r"|(units|credits).{0,20}exhausted",
    re.I,
)
RANGE = re.compile(
    r"block|range|result|\blogs\b|size|too (large|many|big)|more than|response|time", re.I
)
WIDTH = re.compile(r"\brange|\bblocks\b|results|\blogs\b", re.I)
"""What a limit of one question's answer names, whatever the words about it are."""
OFTEN = re.compile(r"rate.?limit|too many requests|per.second|/second|throttl", re.I)
BEHIND = re.compile(
    r"(header|block|resource)( \S+)? (is )?not found|unknown (block|header)|missing trie node|header for hash"
    r"|state .*(not|un)available|beyond (current )?head|blocks? .{0,60}cannot be found",
    re.I,
)
PASSING = re.compile(
    r"internal|time.?out|timed out|deadline exceeded|temporar|unavailable|try again|retry|syncing|upstream|gateway"
    r"|no (healthy|available|backend)|in progress|(currently not|not currently) available|pool is full"
    r"|connection (refused|reset)|\beof\b|unable to (perform|process|complete)|too many (pending )?transactions",
    re.I,
)
REVERT = re.compile(r"revert|vm execution error|vm exception|invalid opcode|out of gas", re.I)
BYTES = re.compile(r"0x((?:[0-9a-fA-F]{2}){4,})")
LIMITED_CODES = {429, -32005, -32007, -32016, -32029, -32090}
"""-32005 is EIP-1474's; the others are companies' own."""
PASSING_CODES = {-32603, -32001, -32002}
"""Internal error; resource not found, or unavailable: of a machine behind a balancer, often."""
BARE_LIMIT = -32005
ALWAYS = (
    *(
        "eth_chainId",
        "eth_blockNumber",
        "eth_gasPrice",
        "eth_call",
        "eth_estimateGas",
        "eth_getLogs",
    ),
    *("eth_getBalance", "eth_getTransactionCount"),
)
"""What every node has an answer to."""
EXECUTING = ("eth_call", "eth_estimateGas")


class Kind(Enum):
    """What can be done about a question without a result."""

    LIMITED = auto()
    """Asked too often: the same again, later."""
    SILENT = auto()
    """No node answered: the same again, a few times."""
    PASSING = auto()
    """One machine of several is behind, or stumbled: the same again, soon."""
    REFUSED = auto()
    """The same again would be refused again."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a question has no result. `data` is what a reverting contract returned, None if nothing reverted."""

    kind: Kind
    text: str
    code: int = 0
    retry_after: float = 0.0
    data: bytes | None = None
    may_have_left: bool = True


def trouble_of(error: Exception, method: str, now: float) -> Trouble:
    """Return what a failure of the transport means; `now` in Unix seconds, for dates in headers."""
    if isinstance(error, HTTPError) and error.response is not None:
        return _status(error.response, method, now)
    if isinstance(error, UNFIT):
        text = f"its address, or its proxy's, is no URL ({one_line(error)}): write http://HOST:PORT"
        return Trouble(Kind.REFUSED, text, may_have_left=False)
    if isinstance(error, SSLError):
        return Trouble(Kind.REFUSED, "TLS fails: is it https, and is its certificate good?")
    if type(error) is OSError:  # requests: no such file of certificates
        text = f"{one_line(error)}: look at REQUESTS_CA_BUNDLE"
        return Trouble(Kind.REFUSED, text, may_have_left=False)
    if isinstance(error, RecursionError) or not isinstance(error, (RequestException, OSError)):
        return Trouble(Kind.SILENT, "what it answers is not JSON")
    cause = getattr(error.args[0], "reason", None) if error.args else None
    is_unsent = isinstance(error, (ConnectTimeout, ProxyError)) or (
        isinstance(error, NoConnection) and isinstance(cause, NewConnectionError)
    )
    text = one_line(error) if is_unsent else "the connection was dropped"
    if isinstance(error, ProxyError):
        text = "the proxy in HTTPS_PROXY, HTTP_PROXY or ALL_PROXY does not answer"
    if isinstance(error, Timeout):
        text = "no answer in time"
    return Trouble(Kind.SILENT, text, may_have_left=not is_unsent)


def trouble_in(answer: object, method: str) -> Trouble | None:
    """Return what is wrong with a JSON-RPC answer, None if it has a result."""
    if not isinstance(answer, Mapping) or not ("result" in answer or answer.get("error")):
        return Trouble(Kind.SILENT, f"what answers is no node: {str(answer)[:60]!r}")
    error = answer.get("error")
    if not error:
        is_lacking = answer["result"] is None and method in ALWAYS
        return Trouble(Kind.PASSING, "it answers null") if is_lacking else None
    code, text = _code(error), _text(error)
    if method in EXECUTING and (data := _revert(error, code, text)) is not None:
        return Trouble(Kind.REFUSED, text, code, data=data)
    return Trouble(_kind(method, code, text), text, code)


def _kind(method: str, code: int, text: str) -> Kind:
    is_width = method == "eth_getLogs" and WIDTH.search(text) and not OFTEN.search(text)
    if RATE.search(text) and not is_width:
        return Kind.LIMITED
    if method == "eth_getLogs":
        # Too many blocks or results have the code of too many questions; the words tell, where there are any.
        if BEHIND.search(text) or (code == BARE_LIMIT and not RANGE.search(text)):
            return Kind.PASSING
        return Kind.LIMITED if code in LIMITED_CODES - {BARE_LIMIT} else Kind.REFUSED
    if code in LIMITED_CODES:
        return Kind.LIMITED
    if method == "eth_sendRawTransaction":
        return Kind.PASSING if PASSING.search(text) else Kind.REFUSED
    is_passing = code in PASSING_CODES or BEHIND.search(text) or PASSING.search(text)
    return Kind.PASSING if is_passing else Kind.REFUSED


def _status(response: Response, method: str, now: float) -> Trouble:
    """A status that is no success. Its body may be a JSON-RPC error, which then says more."""
    code, wait = response.status_code, _retry_after(response.headers.get("Retry-After"), now)
    if code == 429:
        return Trouble(Kind.LIMITED, "HTTP 429", code, wait, may_have_left=False)
    try:
        found = trouble_in(response.json(), method)
    except LOST:
        found = None
    if found is not None and found.kind is not Kind.SILENT:
        kind = Kind.REFUSED if code == 413 else found.kind
        return Trouble(kind, found.text, found.code, wait, found.data, may_have_left=False)
    if code in (408, 425) or code >= 500:
        return Trouble(Kind.SILENT, f"HTTP {code}", code, wait)
    text = "it wants another key in its address" if code in (401, 402, 403) else response.reason
    return Trouble(Kind.REFUSED, f"HTTP {code}: {text}", code, may_have_left=False)


def _retry_after(header: str | None, now: float) -> float:
    """Return the seconds that a Retry-After names, by number or by date; 0 without one."""
    try:
        return max(0.0, float(header or 0))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(header or "").timestamp() - now)
    except (TypeError, ValueError):
        return 0.0


def _code(error: object) -> int:
    code = error.get("code") if isinstance(error, Mapping) else 0
    try:
        return int(code or 0)
    except (TypeError, ValueError):
        return 0


def _text(error: object) -> str:
    found = error.get("message") if isinstance(error, Mapping) else error
    return " ".join(str(found or error).split())[:300]


def _revert(error: object, code: int, text: str) -> bytes | None:
    """Return what a contract reverted with, wherever this node keeps it; None if none reverted."""
    data = error.get("data") if isinstance(error, Mapping) else None
    for place in (*_strings(data), text):
        found = BYTES.search(place)
        if found and (code == 3 or REVERT.search(f"{text} {place}") or data is not None):
            return bytes.fromhex(found[1])
    return b"" if code == 3 or REVERT.search(text) else None


def _strings(value: Any) -> Iterator[str]:
    """Yield the texts within JSON, those named `data` or `return` first: the others hold hashes."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        items = sorted(value.items(), key=lambda item: item[0] not in ("data", "return", "result"))
        for name, item in items:
            if isinstance(item, Mapping) or name in ("data", "return", "result", "message"):
                yield from _strings(item)
