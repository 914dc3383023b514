"""The ledger in Python: one method per contract function, typed, with refusals decoded.

What each contract offers is in `registry.py`, `runs.py` and `disputes.py`; here they
are one `Ledger`, with tokens and events. Synchronous: callers use threads. A `Ledger` with an account may
write; without one it reads. Functions that no program calls (meters, appointments) have no method.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Self

from eth_account.signers.local import LocalAccount
from web3 import Web3

from ledger.calls import require_word
from ledger.deployment import Deployment
from ledger.disputes import Disputing
from ledger.errors import ChainUnreachable, LedgerError, NodeLimits, NodeRefused, WrongChain
from ledger.events import LogCursor
from ledger.fees import MOST_GWEI
from ledger.node import MinedTransaction, Node
from ledger.register import RunListing, listing
from ledger.registry import Stakes
from ledger.runs import Runs
from ledger.state import Office


class TokenLabel(NamedTuple):
    """What a token says of itself. Its maker may write anything, so it is fit for display only."""

    symbol: str
    decimals: int


class Ledger(Stakes, Runs, Disputing):
    """One deployment, seen by one account.

    Example:
        ledger = Ledger.connect("http://127.0.0.1:8545", Deployment.load(path), account)
        run_id = ledger.create_run(params, budget=10**20, spec_uri="https://…")
    """

    @classmethod
    def connect(
        cls,
        rpc_url: str,
        deployment: Deployment,
        account: LocalAccount | None = None,
        *,
        confirmations: int = 0,
        max_gas_gwei: float = MOST_GWEI,
        tell: Callable[[str], None] | None = None,
    ) -> Self:
        """Connect to a node; raise `WrongChain` or `ChainUnreachable`.

        `confirmations` is how many blocks must stand on a transaction before it counts, `max_gas_gwei` the most
        that is offered for a unit of gas. `tell` takes what there is to say of the node; default: the log.
        """
        node = Node.at(rpc_url, tell=tell)
        try:
            chain_id = node.chain_id()
        except NodeLimits:
            raise
        except (ChainUnreachable, NodeRefused) as error:
            why = error.why if isinstance(error, ChainUnreachable) else str(error)
            told = f"no chain at {rpc_url}: {why}: check the address and that the node runs"
            raise ChainUnreachable(told, why) from error
        if chain_id != deployment.chain_id:
            raise WrongChain(
                f"{rpc_url} serves {chain_id}, not {deployment.chain_id}: take the node of that chain, or this "
                "chain's deployment file"
            )
        return cls(
            node, deployment, account, confirmations=confirmations, max_gas_gwei=max_gas_gwei
        )

    # ---------------------------------------------------------------- tokens

    def mint(self, to: str, amount: int) -> MinedTransaction:
        """Mint test tokens. Development deployments only: a real token has no such function."""
        token = self.node.contract("TestToken", self.deployment.token)
        return self._send(token.functions.mint(to, amount))

    def balance(self, account: str, token: str | None = None) -> int:
        """Return an account's tokens (the staking token's, when none is named)."""
        contract = self.node.contract("TestToken", token or self.deployment.token)
        return int(self._call(contract.functions.balanceOf(account)))

    def token(self, address: str) -> TokenLabel:
        """Return a token's symbol and decimals; 18 and no symbol if it does not say."""
        functions = self.node.contract("TestToken", address).functions
        try:
            symbol, decimals = self._call(functions.symbol()), self._call(functions.decimals())
        except ChainUnreachable:
            raise
        except LedgerError:
            return TokenLabel("", 18)
        return TokenLabel(str(symbol), int(decimals))

    # ---------------------------------------------------------------- the council and the chain

    def paused_until(self) -> int:
        """Return when the last pause ends or ended; zero before the first."""
        return int(self._call(self._council.functions.pausedUntil()))

    def pause(self, seconds: int, reason: bytes = bytes(32)) -> MinedTransaction:
        """Stop money from coming in for a while. Guardian only."""
        return self._send(self._council.functions.pause(seconds, require_word(reason)))

    def unpause(self) -> MinedTransaction:
        """End a pause early. Guardian only."""
        return self._send(self._council.functions.unpause())

    def holds(self, office: Office, account: str) -> bool:
        """Return whether an account holds an office."""
        return bool(self._call(self._council.functions.hasRole(office.value, account)))

    def resign(self, office: Office) -> MinedTransaction:
        """Give up this account's own office, at once."""
        me = self._require_sender().address
        return self._send(self._council.functions.renounceRole(office.value, me))

    def coin_balance(self, account: str) -> int:
        """Return an account's wei of the chain's coin, which gas is paid in."""
        return self.node.balance(Web3.to_checksum_address(account))

    def gas_price(self) -> int:
        """Return what a unit of gas costs now, in wei of the chain's coin."""
        return self.node.gas_price()

    def events(self, next_block: int | None = None, path: Path | None = None) -> LogCursor:
        """Return a cursor over the contracts' events, going on from `path` if that is a file."""
        at = self.deployment
        start = at.block if next_block is None else next_block
        addresses = [at.registry, at.ledger, at.disputes, at.council]
        return LogCursor(self.node, addresses, start, path)

    def runs(self) -> list[RunListing]:
        """Return every run with its status and meter, in the order of creation, from events alone."""
        return list(listing(self.events().poll()).values())
