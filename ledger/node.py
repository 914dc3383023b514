"""Ask a node a bare question, and tell what its errors and silences mean. Many errors are only
words, which differ between programs.
"""

from collections.abc import Mapping
from json import JSONDecodeError
from typing import Any

from requests import ConnectionError as NoConnection
from requests import ConnectTimeout, RequestException
from urllib3.exceptions import NewConnectionError
from web3 import HTTPProvider
from web3.exceptions import (
    BadResponseFormat,
    ContractLogicError,
    ProviderConnectionError,
    Web3RPCError,
)
from web3.types import RPCEndpoint

from ledger.errors import ChainUnreachable, LedgerError, TransactionFailed, decode_error

NO_ANSWER = (
    *(RequestException, OSError),
    *(JSONDecodeError, BadResponseFormat, ProviderConnectionError),  # cut short, or a proxy's page
)
"""What the transport raises if the node is away or its answer is lost."""

SENT_BEFORE = ("already known", "already imported", "alreadyknown")
NONCE_TAKEN = ("nonce too low", "nonce is too low")
NONCE_IN_USE = ("nonce too high", "replacement transaction underpriced")
TOO_POOR = ("insufficient funds", "insufficient balance", "cannot afford")
LIMIT_EXCEEDED = -32005
"""EIP-1474: the node asks for patience."""


def ask_node(
    rpc_url: str, method: str, *params: Any, timeout_seconds: float = 5.0
) -> Mapping[str, Any]:
    """Return the answer to one JSON-RPC question, asked once: it has a `result` or an `error`.

    For looking at a chain that may have no ledger yet.
    """
    settings = {"timeout": timeout_seconds}
    provider = HTTPProvider(rpc_url, settings, exception_retry_configuration=None)
    try:
        answer: object = provider.make_request(RPCEndpoint(method), list(params))
    except NO_ANSWER as error:
        raise ChainUnreachable(f"no chain answers at {rpc_url}: {error}") from error
    if not isinstance(answer, Mapping):
        raise ChainUnreachable(f"what answers at {rpc_url} is no chain: {str(answer)[:80]!r}")
    return answer


def refusal(error: ContractLogicError) -> LedgerError:
    """Return a node's report of a revert as the contract's own refusal, if it gave one."""
    if isinstance(error.data, str) and error.data.startswith("0x") and len(error.data) >= 10:
        return decode_error(bytes.fromhex(error.data[2:]))
    return TransactionFailed(str(error.message))


def never_left(error: Exception) -> bool:
    """Return whether no connection was made, so that nothing can have been sent."""
    if isinstance(error, ConnectTimeout):
        return True
    cause = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(error, NoConnection) and isinstance(cause, NewConnectionError)


def asks_for_patience(error: Web3RPCError) -> bool:
    detail = (error.rpc_response or {}).get("error")
    return isinstance(detail, dict) and detail.get("code") == LIMIT_EXCEEDED


def message_of(error: Web3RPCError) -> str:
    response = error.rpc_response or {}
    detail = response.get("error")
    return str(detail["message"]) if isinstance(detail, dict) else str(error)
