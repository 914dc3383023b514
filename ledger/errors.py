"""What can go wrong between a caller and the ledger, and how a contract's refusal is read.

LedgerError
├── ContractError         a contract refused, by name and with the values it refused
├── ChainUnreachable      nobody answered in time, or with nonsense
│   └── NodeLimits        the node takes no more questions for now
├── NodeRefused           the node takes this question never, and no contract refused
├── TransactionPending    sent or perhaps sent, but not mined in time; it may be mined later
├── TransactionReplaced   another took its nonce: it will never be mined, and was not sent again
├── TransactionFailed     mined and reverted, or refused by the node, without a contract's reason
├── NotEnoughGas          the account cannot pay for the transaction; nothing was sent
├── GasTooDear            gas costs more than the most that may be offered; nothing was sent
├── BlocksRemoved         the chain took back blocks whose events had been read
└── WrongChain            the node serves another chain than the deployment's
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError
from eth_utils import to_checksum_address

from ledger.artifact import artifact
from protocol.canonical import keccak256
from protocol.user_error import hosts_only

CONTRACTS = (
    *("RunLedger", "StakeRegistry", "Disputes", "Council"),
    *("TimelockController", "AttesterGate", "TestToken"),
)
ERROR_STRING = keccak256(b"Error(string)")[:4]
PANIC = keccak256(b"Panic(uint256)")[:4]


class LedgerError(Exception):
    """Anything the ledger or its chain refuses or fails to do; of a node's address it shows the host."""

    def __init__(self, text: str = "") -> None:
        super().__init__(hosts_only(text))


class ContractError(LedgerError):
    """A contract's refusal.

    Example:
        except ContractError as error:
            if error.name == "NothingToClaim": ...  # error.values["claimed"]
    """

    def __init__(self, name: str, values: dict[str, Any]) -> None:
        self.name = name
        self.values = values
        super().__init__(f"{name}({', '.join(f'{key}={_show(values[key])}' for key in values)})")


class ChainUnreachable(LedgerError):
    """No answer from the chain, and why. `may_have_left`: what was asked may have arrived all the same."""

    def __init__(self, text: str = "", why: str = "", *, may_have_left: bool = False) -> None:
        self.why, self.may_have_left = why or text, may_have_left
        super().__init__(text)


class NodeLimits(ChainUnreachable):
    """A node that was asked too often and stayed so."""


class NodeRefused(LedgerError):
    """A node's own refusal, with JSON-RPC's code. `may_have_left`: an earlier answer to the same was lost."""

    def __init__(self, text: str, code: int = 0, *, may_have_left: bool = False) -> None:
        self.code, self.may_have_left = code, may_have_left
        super().__init__(text)


class TransactionPending(LedgerError):
    """A transaction that was sent, or perhaps was, and has no settled receipt yet."""

    def __init__(self, transaction_hash: str, seconds: float, lack: str = "has no receipt") -> None:
        self.transaction_hash = transaction_hash
        super().__init__(
            f"{transaction_hash} {lack} after {seconds:.0f} s; it may yet be mined: look for it "
            "before sending the like again"
        )


class TransactionReplaced(LedgerError):
    """Another transaction was mined under this one's nonce."""

    def __init__(self, transaction_hash: str, account: str, nonce: int) -> None:
        self.transaction_hash = transaction_hash
        self.nonce = nonce
        super().__init__(
            f"{transaction_hash} will never be mined: another transaction of {account} took its "
            f"nonce {nonce}. Nothing was sent again; look what that one did, and use the key in one "
            "program at a time"
        )


class NotEnoughGas(LedgerError):
    """An account that cannot pay what a transaction may cost. Amounts in wei of the chain's coin."""

    def __init__(self, account: str, have: int, need: int, chain_id: int) -> None:
        self.account, self.have, self.need = account, have, need
        super().__init__(
            f"{account} has {_coins(have)} of the chain's coin and this may cost {_coins(need)} in "
            f"gas: send it at least {_coins(need - have)} on chain {chain_id}"
        )


class GasTooDear(LedgerError):
    """A price of gas above the cap. Prices in wei of the chain's coin."""

    def __init__(self, price: int, most: int) -> None:
        self.price, self.most = price, most
        super().__init__(
            f"a unit of gas costs {price / 10**9:,.9g} gwei and at most {most / 10**9:,.9g} is offered: wait, or "
            "raise max_gas_gwei (for commands ROLLCALL_MAX_GAS_GWEI)"
        )


class BlocksRemoved(LedgerError):
    """The chain reorganised below what a cursor had returned; the cursor has stepped back."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last = first, last
        super().__init__(
            f"the chain took back blocks {first} to {last}: drop what their events said, and read on"
        )


class TransactionFailed(LedgerError):
    """A transaction that failed without saying why, or that the node would not take."""


class WrongChain(LedgerError):
    """The node's chain id is not the deployment's."""


@dataclass(frozen=True, slots=True)
class _Kind:
    name: str
    members: tuple[str, ...]
    types: tuple[str, ...]


def decode_error(data: bytes) -> ContractError:
    """Return the refusal that revert `data` encodes, whatever it is."""
    selector, body = data[:4], data[4:]
    kind = _kinds().get(selector)
    try:
        if selector == ERROR_STRING:
            return ContractError("Error", {"reason": decode(["string"], body)[0]})
        if selector == PANIC:
            return ContractError("Panic", {"code": decode(["uint256"], body)[0]})
        if kind is not None:
            decoded = decode(kind.types, body)
            values = [_readable(*pair) for pair in zip(kind.types, decoded, strict=True)]
            return ContractError(kind.name, dict(zip(kind.members, values, strict=True)))
    except (DecodingError, UnicodeDecodeError, OverflowError):  # a length beyond memory
        pass
    return ContractError("Unknown", {"data": data})


@cache
def _kinds() -> dict[bytes, _Kind]:
    kinds = {}
    for contract in CONTRACTS:
        for entry in artifact(contract).abi:
            if entry["type"] == "error":
                types = tuple(member["type"] for member in entry["inputs"])
                members = tuple(member["name"] for member in entry["inputs"])
                selector = keccak256(f"{entry['name']}({','.join(types)})".encode())[:4]
                kinds[selector] = _Kind(entry["name"], members, types)
    return kinds


def _readable(kind: str, value: Any) -> Any:
    return to_checksum_address(value) if kind == "address" else value


def _coins(wei: int) -> str:
    # Rounded up, so that the named amount suffices.
    return f"{-(-wei // 10**9) / 10**9:.9f}".rstrip("0").rstrip(".")


def _show(value: Any) -> str:
    return "0x" + value.hex() if isinstance(value, bytes) else str(value)
