"""Put the three contracts on a chain, and remember where they are.

They name one another as immutables, so nobody can re-wire them later: the two deployed first are given
the address the last one will have.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from eth_account.signers.local import LocalAccount
from web3 import Web3
from web3.utils.address import get_create_address

from contracts.artifact import artifact
from contracts.errors import LedgerError
from contracts.sender import Receipt, Sender


@dataclass(frozen=True, slots=True)
class Deployment:
    """Where a ledger lives. `block` is where its events begin."""

    chain_id: int
    registry: str
    ledger: str
    disputes: str
    token: str
    block: int

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> "Deployment":
        """Read what `save` wrote."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))


@dataclass(frozen=True, slots=True)
class Terms:
    """What a deployment fixes for ever. The defaults suit a market; a development chain shortens them.

    `token` None deploys `TestToken`, which anyone may mint. `treasury` receives slashed stake and
    `arbiter` rules appeals; both default to the deployer.
    """

    token: str | None = None
    treasury: str | None = None
    arbiter: str | None = None
    unbond_seconds: int = 7 * 86_400
    revoke_seconds: int = 3_600
    min_window_seconds: int = 600
    appeal_seconds: int = 2 * 86_400
    ruling_seconds: int = 3 * 86_400


def deploy(w3: Web3, account: LocalAccount, terms: Terms) -> Deployment:
    """Deploy token (if asked), registry, ledger and disputes from `account`."""
    sender = Sender(w3, account)
    token = terms.token or _created(_create(sender, "TestToken"))
    nonce = w3.eth.get_transaction_count(account.address)
    ledger, disputes = (get_create_address(account.address, nonce + i) for i in (1, 2))
    treasury, arbiter = terms.treasury or sender.address, terms.arbiter or sender.address
    registry_args = (token, treasury, disputes, terms.unbond_seconds, terms.revoke_seconds)
    first = _create(sender, "StakeRegistry", *registry_args)
    registry = _created(first)
    _expect(_create(sender, "RunLedger", registry, disputes, terms.min_window_seconds), ledger)
    windows = (terms.appeal_seconds, terms.ruling_seconds)
    _expect(_create(sender, "Disputes", ledger, arbiter, *windows), disputes)
    return Deployment(w3.eth.chain_id, registry, str(ledger), str(disputes), token, first.block)


def _create(sender: Sender, name: str, *args: object) -> Receipt:
    compiled = artifact(name)
    contract = Web3().eth.contract(abi=compiled.abi, bytecode=compiled.bytecode)
    data = contract.constructor(*args).data_in_transaction
    return sender.send(None, Web3.to_bytes(hexstr=data))


def _created(receipt: Receipt) -> str:
    if receipt.contract_address is None:
        raise LedgerError(f"{receipt.transaction_hash} created no contract")
    return receipt.contract_address


def _expect(receipt: Receipt, address: object) -> None:
    if _created(receipt) != address:
        raise LedgerError(
            "the account sent something else meanwhile: deploy again from a quiet one"
        )
