"""Put the contracts on a chain, and remember where they are.

They name one another as immutables, so nobody can re-wire them later: registry and ledger are given the
address that disputes will have. The council is administered by a timelock, which nobody administers.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from eth_account.signers.local import LocalAccount
from web3 import Web3
from web3.utils.address import get_create_address

from ledger.artifact import artifact
from ledger.errors import LedgerError
from ledger.node import MinedTransaction, Node
from ledger.sender import Sender
from local.files import write_whole
from protocol.wire import checksum_address

PLACES = ("registry", "ledger", "disputes", "council", "timelock", "token")
NOBODY = "0x" + "00" * 20


@dataclass(frozen=True, slots=True)
class Deployment:
    """Where a ledger lives. `block` is where its events begin."""

    chain_id: int
    registry: str
    ledger: str
    disputes: str
    council: str
    timelock: str
    token: str
    block: int

    def save(self, path: Path) -> None:
        """Write as JSON."""
        write_whole(path, json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> "Deployment":
        """Read what `save` wrote; raise `LedgerError` if the file is missing or another one."""
        try:
            found = cls(**json.loads(path.read_text(encoding="utf-8")))
            for name in PLACES:
                checksum_address(getattr(found, name))
            return replace(found, chain_id=int(found.chain_id), block=int(found.block))
        except OSError as error:
            raise LedgerError(
                f"no deployment file at {path} ({error.strerror}): copy the ledger's there"
            ) from error
        except (ValueError, TypeError, RecursionError) as error:
            raise LedgerError(
                f"{path} is no deployment file of this version: copy the ledger's anew"
            ) from error


@dataclass(frozen=True, slots=True)
class LedgerTerms:
    """What a deployment fixes forever. The defaults suit a market; a development chain shortens them.

    `token` None deploys `TestToken`, which anyone may mint. `treasury` receives slashed stake,
    `guardian` may pause for a week, `arbiter` rules appeals and escalations, `proposer` may have the
    timelock appoint others to both offices; all default to the deployer. Twice `response_seconds` and
    `ruling_seconds` together must be less than `unbond_seconds`, so that stake outlasts a dispute.
    `warn_gflops` is the first meter reading that raises a warning, then every doubling; 0 for never.
    """

    token: str | None = None
    treasury: str | None = None
    guardian: str | None = None
    arbiter: str | None = None
    proposer: str | None = None
    unbond_seconds: int = 7 * 86_400
    revoke_seconds: int = 3_600
    min_window_seconds: int = 600
    response_seconds: int = 6 * 3_600
    appeal_seconds: int = 2 * 86_400
    ruling_seconds: int = 3 * 86_400
    timelock_seconds: int = 2 * 86_400
    # 10^23 operations: from there the EU presumes a general-purpose model (guidelines of July 2025).
    warn_gflops: int = 10**14


def deploy(node: Node, account: LocalAccount, terms: LedgerTerms) -> Deployment:
    """Deploy timelock, council, token (if asked), registry, ledger and disputes from `account`."""
    sender = Sender(node, account)
    me = sender.address
    proposers = [terms.proposer or me]
    # No administrator: the timelock's own roles change through the timelock only.
    first = _create(
        sender, "TimelockController", terms.timelock_seconds, proposers, proposers, NOBODY
    )
    timelock = _created(first)
    offices = (timelock, terms.guardian or me, terms.arbiter or me)
    council = _created(_create(sender, "Council", *offices))
    token = terms.token or _created(_create(sender, "TestToken"))
    nonce = node.count(account.address, "latest")
    ledger, disputes = (get_create_address(account.address, nonce + i) for i in (1, 2))
    stakes = (terms.treasury or me, disputes, terms.unbond_seconds, terms.revoke_seconds)
    registry = _created(_create(sender, "StakeRegistry", token, *stakes))
    wiring = (registry, disputes, council, terms.min_window_seconds, terms.warn_gflops)
    _expect(_create(sender, "RunLedger", *wiring), ledger)
    windows = (terms.response_seconds, terms.appeal_seconds, terms.ruling_seconds)
    _expect(_create(sender, "Disputes", ledger, *windows), disputes)
    return Deployment(
        chain_id=node.chain_id(),
        registry=registry,
        ledger=str(ledger),
        disputes=str(disputes),
        council=council,
        timelock=timelock,
        token=token,
        block=first.block,
    )


def _create(sender: Sender, name: str, *args: object) -> MinedTransaction:
    compiled = artifact(name)
    contract = Web3().eth.contract(abi=compiled.abi, bytecode=compiled.bytecode)
    data = contract.constructor(*args).data_in_transaction
    return sender.send(None, Web3.to_bytes(hexstr=data))


def _created(receipt: MinedTransaction) -> str:
    if receipt.contract_address is None:
        raise LedgerError(f"{receipt.transaction_hash} created no contract")
    return receipt.contract_address


def _expect(receipt: MinedTransaction, address: object) -> None:
    if _created(receipt) != address:
        raise LedgerError(
            "the account sent something else meanwhile: deploy again from a quiet one"
        )
