"""A command's place at the ledger. Errors are one line, and only rehearsed transactions are sent.

Every mistake that a person can make on the way there (no address, no deployment file, another chain, no
key, no gas) ends the command before anything is sent, with one line and its remedy. Opening a desk loads
the ledger's code, because commands import this file for `rollcall --help` too.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from ledger.amounts import Token, token_of
from protocol.user_error import UserError, hosts_only, one_line
from rollcall.cli.times import moment
from rollcall.frame.console import errors
from rollcall.frame.roles import RECURSION_LIMIT

if TYPE_CHECKING:
    from pathlib import Path

    from eth_account.signers.local import LocalAccount

    from ledger.deployment import Deployment
    from ledger.errors import LedgerError
    from ledger.ledger import Ledger
    from ledger.state import RunState

Say = Callable[[str], None]
COIN = Token("", "coin", 18)
"""The chain's own coin; a node does not tell its name."""


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """One transaction of a command: its effect in words, and the method of `Ledger` that sends it.

    `done` is what to say once it is on chain, or a function that makes that from the result.

    Example: PlannedCall("stake 1 TEST", "stake", (10**18,), done="1 TEST is staked")
    """

    what: str
    method: str
    arguments: tuple[Any, ...]
    done: str | Callable[[Any], str]


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """A transaction as it would be sent, and the gas the node estimates for it."""

    to: str
    gas: int


class Desk:
    """All that a command needs of the ledger, for one person.

    Example:
        with open_desk(rpc, deployment, key, say=print) as desk:
            desk.send("stake 1 TEST", "stake", 10**18, done="1 TEST is staked")
    """

    def __init__(
        self,
        ledger: Ledger,
        account: LocalAccount | None,
        *,
        say: Say,
        dry_run: bool = False,
        yes: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.ledger = ledger
        self.say = say
        self.dry_run = dry_run
        self._clock = clock
        self._account = account
        self._yes = yes
        self._tokens: dict[str, Token] = {}
        self.token = self.token_at(ledger.deployment.token)

    @property
    def account(self) -> LocalAccount:
        """This key's account; raises `UserError` if there is no key."""
        if self._account is None:
            raise UserError("this needs a key: set ROLLCALL_KEY; `rollcall key` makes a new one")
        return self._account

    @property
    def can_send(self) -> bool:
        return self._account is not None

    @property
    def address(self) -> str:
        """This key's address."""
        return str(self.account.address)

    def identity(self) -> str:
        """Return the identity this key acts for: its owner's if it is a hot key."""
        return self.ledger.owner_of(self.address) or self.address

    def whose(self, worker: str | None) -> str:
        """Return the named identity, or this key's if none is named."""
        return address_of_text(worker) if worker else self.identity()

    def now(self) -> int:
        """Return the next block's approximate time: a quiet chain's newest one is old.

        For showing and for looking ahead; the chain alone judges what is sent.
        """
        return max(self.ledger.block_time(), int(self._clock()))

    def run(self, run_id: int) -> RunState:
        """Return a run; raise `UserError` if there is none. Later amounts are in its token."""
        count = self.ledger.num_runs()
        if not 1 <= run_id <= count:
            have = f"runs 1 to {count}" if count else "no run yet"
            raise UserError(
                f"there is no run {run_id} on this ledger, which has {have}: see `rollcall run list`"
            )
        run = self.ledger.run(run_id)
        self.token = self.token_at(run.token)
        return run

    def token_at(self, address: str) -> Token:
        """Return a token with the symbol and decimals that its contract tells."""
        if address not in self._tokens:
            self._tokens[address] = token_of(self.ledger, address)
        return self._tokens[address]

    def run_tokens(self) -> list[Token]:
        """Return every token that a run of this ledger pays in."""
        runs = (self.ledger.run(run_id) for run_id in range(1, self.ledger.num_runs() + 1))
        return [self.token_at(address) for address in dict.fromkeys(run.token for run in runs)]

    def require_tokens(self, amount: int, token: Token | None = None) -> None:
        """Raise `UserError` if this account has less."""
        token = token or self.token
        have = self.ledger.balance(self.address, token.address)
        if have < amount:
            raise UserError(
                f"{self.address} has {token.show(have)}, {token.show(amount)} are needed: send it "
                "tokens, or give a smaller amount"
            )

    def require_unpaused(self) -> None:
        """Raise `UserError` while the council has paused incoming money."""
        until, now = self.ledger.paused_until(), self.now()
        if until > now:
            raise UserError(
                f"the ledger is paused until {moment(until, now)}: nothing comes in before then, "
                "while claims and withdrawals go on"
            )

    def ask(self, question: str) -> None:
        """Return if the person agrees; end the command if not."""
        if self._yes or self.dry_run:
            return
        if not _is_interactive():
            stop = "" if question.endswith("?") else "."
            raise UserError(f"{question}{stop} Add --yes: nobody can answer here")
        if not typer.confirm(question):
            raise UserError("nothing was sent")

    # ------------------------------------------------------------ sending

    def send(
        self, what: str, method: str, *arguments: Any, done: str | Callable[[Any], str]
    ) -> Any:
        """Send one transaction, say its outcome and return its result; None in a dry run."""
        results = self.send_all([PlannedCall(what, method, arguments, done)])
        return results[0] if results else None

    def send_all(self, steps: Sequence[PlannedCall]) -> list[Any]:
        """Rehearse every step, then send them in order; return their results.

        The rehearsal finds a refusal, or an account that cannot pay for all of them, before the first
        is sent. A dry run says what would be sent, sends nothing and returns nothing.
        """
        _ = self.address  # without a key there is nobody to rehearse as
        rehearsed = [self.rehearse(step) for step in steps]
        if self.dry_run:
            for step, plan in zip(steps, rehearsed, strict=True):
                cost = COIN.show(plan.gas * self.gas_price())
                self.say(f"would {step.what}: {plan.gas:,} gas ({cost}) to {plan.to}")
            return []
        self._require_gas([plan.gas for plan in rehearsed])
        return [self._sent(step) for step in steps]

    def rehearse(self, step: PlannedCall) -> Rehearsed:
        """Have the node estimate a step; raise a contract's refusal."""
        draft = self.ledger.draft(step.method, *step.arguments)
        return Rehearsed(draft.to, self.ledger.gas_of(draft))

    def _sent(self, step: PlannedCall) -> Any:
        result = getattr(self.ledger, step.method)(*step.arguments)
        self.say(step.done if isinstance(step.done, str) else step.done(result))
        return result

    def gas_price(self) -> int:
        """Return what a unit of gas costs now, in wei of the chain's coin."""
        return self.ledger.gas_price()

    def _require_gas(self, gas: list[int]) -> None:
        # A node wants the account to hold twice the price of each transaction, and takes it once.
        need = (sum(gas) + max(gas)) * self.gas_price()
        have = self.ledger.coin_balance(self.address)
        if have < need:
            raise UserError(
                f"{self.address} has {COIN.show(have)} of the chain's own and this may cost "
                f"{COIN.show(need)} in gas: send it some, on chain {self.ledger.deployment.chain_id}"
            )

    def explain(self, error: LedgerError) -> str:
        """Return what went wrong as one line with its remedy."""
        from ledger.errors import ContractError
        from rollcall.cli.refusals import explain

        if not isinstance(error, ContractError):
            return one_line(error)
        return explain(error, self.token, self.now())


@contextmanager
def open_desk(
    rpc: str,
    deployment: Path,
    key: bytes | None,
    *,
    say: Say,
    dry_run: bool = False,
    yes: bool = False,
) -> Iterator[Desk]:
    """Open the ledger for one command; its refusals and failures become `UserError`s."""
    with errors.status(f"asking the chain at {hosts_only(rpc)}"):
        from eth_account import Account

        from ledger.errors import ChainUnreachable, LedgerError

        account = None if key is None else Account.from_key(key)
        ledger = connect(rpc, read_deployment(deployment), account)
    try:
        ledger.num_runs()  # an address without code answers nothing, and has no events
        desk = Desk(ledger, account, say=say, dry_run=dry_run, yes=yes)
    except ChainUnreachable as error:
        raise UserError(one_line(error)) from error
    except LedgerError as error:
        raise UserError(
            f"no ledger answers at {hosts_only(rpc)} under the addresses in {deployment}: is it another chain's "
            f"file, or an older one? ({one_line(error)})"
        ) from error
    with explained(desk):
        yield desk


@contextmanager
def explained(desk: Desk) -> Iterator[None]:
    """Turn the ledger's refusals within into `UserError`."""
    from ledger.errors import LedgerError

    try:
        yield
    except LedgerError as error:
        raise UserError(desk.explain(error)) from error


def connect(rpc: str, deployment: Deployment, account: LocalAccount | None) -> Ledger:
    """Connect; raise `UserError` with the remedy."""
    from ledger.errors import ChainUnreachable, NodeLimits, WrongChain
    from ledger.ledger import Ledger

    sys.setrecursionlimit(RECURSION_LIMIT)  # as roles do: what answers may be anybody's
    if "://" not in rpc:
        raise UserError(f"{rpc!r} is no URL of a node: write http://{rpc or 'HOST:PORT'}")
    try:
        return Ledger.connect(
            *(rpc, deployment, account),
            max_gas_gwei=_max_gas_gwei(),
            tell=lambda line: typer.echo(line, err=True),
        )
    except NodeLimits as error:
        raise UserError(one_line(error)) from error
    except ChainUnreachable as error:
        raise UserError(
            f"no chain answers at {hosts_only(rpc)}: check --rpc and that the node runs ({error.why})"
        ) from error
    except WrongChain as error:
        raise UserError(one_line(error)) from error


def _max_gas_gwei() -> float:
    """Return the most to offer for a unit of gas, by the environment or the ledger's default."""
    from ledger.fees import MOST_GWEI

    text = os.environ.get("ROLLCALL_MAX_GAS_GWEI", "")
    try:
        most = float(text or MOST_GWEI)
    except ValueError:
        most = math.nan
    if not 0 < most < math.inf:
        raise UserError(f"ROLLCALL_MAX_GAS_GWEI is {text[:20]!r}: give gwei, as 500")
    return most


def read_deployment(path: Path) -> Deployment:
    """Read the contracts' addresses; raise `UserError` with the remedy."""
    from ledger.deployment import Deployment
    from ledger.errors import LedgerError

    try:
        return Deployment.load(path)
    except LedgerError as error:
        raise UserError(f"{error}, or name another with --deployment") from error


def address_of_text(text: str) -> str:
    """Return an address in its checksummed spelling; raise `UserError` if it is not one."""
    from protocol.wire import checksum_address

    try:
        return str(checksum_address(text))
    except ValueError as error:
        raise UserError(f"{error}; a key's own is what `rollcall key --address` prints") from error


def digest_of(text: str) -> bytes:
    """Return a reason's digest: the Keccak-256 of its text, or the 32 bytes given as hex."""
    from protocol.canonical import keccak256

    if text.startswith("0x") and len(text) == 66:
        return word_of(text, "the reason's digest")
    if not text.strip():
        raise UserError("give a reason: --reason 'what happened'; its digest goes on chain")
    return keccak256(text.encode())


def bytes_of_hex(text: str, name: str) -> bytes:
    """Return the bytes written in hex; raise `UserError` if they are not hex."""
    try:
        return bytes.fromhex(text.removeprefix("0x"))
    except ValueError as error:
        raise UserError(f"{name} is not hex: {text[:20]!r}; copy it whole, 0x first") from error


def word_of(text: str, name: str) -> bytes:
    """Return the 32 bytes written in hex; raise `UserError` if there are fewer or more."""
    word = bytes_of_hex(text, name)
    if len(word) != 32:
        raise UserError(f"{text[:80]} has {2 * len(word)} hex digits, {name} has 64: copy it whole")
    return word


def _is_interactive() -> bool:
    return sys.stdin.isatty()
