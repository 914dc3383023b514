"""What every part of the client shares: the contracts, calling them, and paying into them.

A refusal by a contract comes out as a `ContractError`, a silent node as `ChainUnreachable`. A method
that brings tokens in first allows exactly the amount: by an EIP-2612 permit in the same transaction if
the token has one, else by an approval before it. `draft` returns the transaction that a writing method
would send.
"""

import copy
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from eth_account.signers.local import LocalAccount
from web3 import Web3

from ledger.deployment import Deployment
from ledger.errors import ChainUnreachable, LedgerError
from ledger.events import LedgerEvent, decode_events
from ledger.fees import MOST_GWEI
from ledger.node import MinedTransaction, Node
from ledger.permit import Permit, permit_digest
from ledger.sender import Sender

DEPOSIT_GAS = 450_000
"""The most gas that a deposit takes: creating a run with five verifiers takes 360,000. Used only to
rehearse a deposit whose allowance is not there yet."""
PERMIT_SECONDS = 3_600
"""How long a signed permit waits to be mined."""
NO_ADDRESS = "0x" + "00" * 20


@dataclass(frozen=True, slots=True)
class Draft:
    """A transaction as it would be sent, with its function's arguments by name.

    `approval` is the one that has to be mined before it if the token has no permits.
    """

    to: str
    data: bytes
    function: str
    arguments: dict[str, Any]
    approval: "Draft | None" = None


class _Drafted(Exception):
    """Carries a draft out of the method that would have sent it."""

    def __init__(self, draft: Draft) -> None:
        super().__init__(draft.function)
        self.draft = draft


class Door:
    """A connection to one deployment's contracts, for one account or none."""

    def __init__(
        self,
        node: Node,
        deployment: Deployment,
        account: LocalAccount | None = None,
        *,
        confirmations: int = 0,
        max_gas_gwei: float = MOST_GWEI,
    ) -> None:
        self.deployment = deployment
        self.node = node
        self._account = account
        self._sender = (
            None
            if account is None
            else Sender(node, account, confirmations=confirmations, max_gas_gwei=max_gas_gwei)
        )
        self._is_drafting = False
        self._deposits = threading.Lock()
        self._registry = node.contract("StakeRegistry", deployment.registry)
        self._ledger = node.contract("RunLedger", deployment.ledger)
        self._disputes = node.contract("Disputes", deployment.disputes)
        self._council = node.contract("Council", deployment.council)

    # ---------------------------------------------------------------- drafts

    def draft(self, method: str, *arguments: Any, **named: Any) -> Draft:
        """Return the transaction that a writing method would send; nothing is sent.

        Example: ledger.draft("prove_bad_pair", header, left, right).data
        """
        drafting = copy.copy(self)
        drafting._is_drafting = True
        try:
            getattr(drafting, method)(*arguments, **named)
        except _Drafted as found:
            return found.draft
        raise ValueError(f"{method} sends nothing")

    def gas_of(self, draft: Draft) -> int:
        """Return the gas that a draft would take now, or raise its refusal."""
        sender = self._require_sender()
        if draft.approval is None:
            return sender.estimate(draft.to, draft.data)
        # A deposit cannot be tried before its approval is mined.
        return sender.estimate(draft.approval.to, draft.approval.data) + DEPOSIT_GAS

    def send(self, draft: Draft) -> MinedTransaction:
        """Send a draft, after the approval that it needs."""
        sender = self._require_sender()
        if draft.approval is not None:
            sender.send(draft.approval.to, draft.approval.data)
        return sender.send(draft.to, draft.data)

    # ---------------------------------------------------------------- calls

    def _require_sender(self) -> Sender:
        if self._sender is None:
            raise LedgerError("this ledger was opened without an account: it can only read")
        return self._sender

    def _send(self, call: Any) -> MinedTransaction:
        if self._is_drafting:
            raise _Drafted(_draft(call))
        return self._require_sender().send(call.address, _data(call))

    def _call(self, call: Any, shape: Callable[[Any], Any] = lambda value: value) -> Any:
        return self.node.call(call, shape)

    # ---------------------------------------------------------------- deposits

    def _deposit(self, token: str, amount: int, spender: Any, call: Any) -> MinedTransaction:
        """Send a call by which `spender` pulls `amount` from this account, allowing exactly that."""
        if self._account is None or amount == 0:
            return self._send(call)
        # Two deposits at once would each spend the other's allowance.
        with self._deposits:
            erc20 = self.node.contract("TestToken", token)
            owner = self._account.address
            have = self._call(erc20.functions.allowance(owner, spender.address))
            if have >= amount:
                return self._send(call)
            permit = self._permit(erc20, spender.address, amount)
            if permit is not None and call.address == spender.address:
                parts = [_data(self._self_permit(spender, token, permit)), _data(call)]
                return self._send(spender.functions.multicall(parts))
            approve = erc20.functions.approve(spender.address, amount)
            if self._is_drafting:
                raise _Drafted(_draft(call, approval=_draft(approve)))
            if have:
                # Some tokens change an allowance only from zero (the attack of EIP-20's note).
                self._send(erc20.functions.approve(spender.address, 0))
            self._send(approve)
            return self._send(call)

    def _self_permit(self, spender: Any, token: str, permit: Permit) -> Any:
        words = (permit.value, permit.deadline, permit.v, permit.r, permit.s)
        if spender.address == self._registry.address:
            return self._registry.functions.selfPermit(*words)
        return self._ledger.functions.selfPermit(Web3.to_checksum_address(token), *words)

    def _permit(self, erc20: Any, spender: str, amount: int) -> Permit | None:
        """Return a signed permit, or None if the token does not take it."""
        assert self._account is not None
        owner, deadline = self._account.address, self.block_time() + PERMIT_SECONDS
        try:
            domain = bytes(self._call(erc20.functions.DOMAIN_SEPARATOR()))
            nonce = int(self._call(erc20.functions.nonces(owner)))
            digest = permit_digest(
                domain, owner=owner, spender=spender, value=amount, nonce=nonce, deadline=deadline
            )
            permit = Permit.signed(self._account, digest, amount, deadline)
            words = (permit.v, permit.r, permit.s)
            # Try it first: some tokens have these functions and mean another permit.
            self._call(erc20.functions.permit(owner, spender, amount, deadline, *words))
        except ChainUnreachable:
            raise
        except LedgerError:
            return None
        return permit

    def block_time(self) -> int:
        """Return the newest block's time, which signed times are compared with."""
        return self.node.newest().time


def only(receipt: MinedTransaction, name: str, contract: Any) -> LedgerEvent:
    """Return the one event of this name that the contract emitted in a transaction.

    The run's token is called on the way, and may emit events that look like ours.
    """
    events = decode_events(receipt.logs)
    found = [e for e in events if (e.name, e.address) == (name, contract.address)]
    if len(found) != 1:
        raise LedgerError(
            f"{receipt.transaction_hash} was mined, and its receipt has {len(found)} events {name}: look at it "
            "by another node"
        )
    return found[0]


def require_word(value: bytes) -> bytes:
    """Return `value` if it has 32 bytes; web3 would right-pad a shorter one in silence."""
    if len(value) != 32:
        raise ValueError(f"expected 32 bytes, got {len(value)}: {value.hex()}")
    return value


def ordered(
    places: Mapping[int, str], signatures: Mapping[str, bytes], what: str
) -> tuple[int, list[bytes]]:
    """Return the bitmap and the signatures in the order of `places`; refuse a stranger's."""
    by_value = {int(signer, 16): signature for signer, signature in signatures.items()}
    bitmap, found = 0, []
    for index, member in sorted(places.items()):
        signature = by_value.pop(int(member, 16), None)
        if signature is not None:
            bitmap |= 1 << index
            found.append(signature)
    if by_value:
        strangers = ", ".join(f"0x{value:040x}" for value in by_value)
        raise LedgerError(f"{what} has no verifier {strangers}; key by identity")
    return bitmap, found


def _data(call: Any) -> bytes:
    return Web3.to_bytes(hexstr=call._encode_transaction_data())


def _draft(call: Any, approval: Draft | None = None) -> Draft:
    inputs = enumerate(call.abi["inputs"])
    names = [member["name"] or f"argument {place}" for place, member in inputs]
    arguments = dict(zip(names, call.args, strict=True))
    return Draft(call.address, _data(call), call.fn_name, arguments, approval)
