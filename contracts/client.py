"""The ledger in Python: one method per contract function, typed, with refusals decoded.

The one door for web3 (with `sender.py`, `events.py` and `deployment.py` behind it). Synchronous: callers
use threads. A `Ledger` with an account may write; without one it reads. Token allowances are raised to
the exact amount when a call needs them.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

from eth_account.signers.local import LocalAccount
from requests import ConnectionError as NoConnection
from requests import RequestException, Timeout
from web3 import HTTPProvider, Web3
from web3.exceptions import BadFunctionCallOutput, ContractLogicError, Web3RPCError
from web3.providers.rpc.utils import REQUEST_RETRY_ALLOWLIST, ExceptionRetryConfiguration

from contracts.artifact import artifact
from contracts.deployment import Deployment
from contracts.errors import ChainUnreachable, LedgerError, WrongChain
from contracts.events import Event, LogCursor, decode_events
from contracts.node import refusal
from contracts.sender import Receipt, Sender
from contracts.state import EpochState, Meter, RunParams, RunState, SlashState, StakeState
from protocol.epoch import AccountLeaf, EpochHeader, FraudReport

ZERO_ADDRESS = "0x" + "00" * 20


def web3_at(rpc_url: str, *, timeout_seconds: float = 10.0) -> Web3:
    """Return a connection to a node, which retries what never reached it."""
    # web3's own default lists the builtin ConnectionError, which `requests` does not raise.
    # A transaction is offered again by `Sender` alone, which must know that an answer was lost.
    repeatable = [name for name in REQUEST_RETRY_ALLOWLIST if name != "eth_sendRawTransaction"]
    retries = ExceptionRetryConfiguration(
        errors=[NoConnection, Timeout], retries=5, method_allowlist=repeatable
    )
    return Web3(
        HTTPProvider(
            rpc_url,
            request_kwargs={"timeout": timeout_seconds},
            exception_retry_configuration=retries,
        )
    )


class Ledger:
    """One deployment, seen by one account.

    Example:
        ledger = Ledger.connect("http://127.0.0.1:8545", Deployment.load(path), account)
        run_id = ledger.create_run(params, budget=10**20, spec_uri="https://…")
    """

    def __init__(
        self, w3: Web3, deployment: Deployment, account: LocalAccount | None = None
    ) -> None:
        self.deployment = deployment
        self._w3 = w3
        self._sender = None if account is None else Sender(w3, account)
        self._deposits = threading.Lock()
        self._registry = self._contract("StakeRegistry", deployment.registry)
        self._ledger = self._contract("RunLedger", deployment.ledger)
        self._disputes = self._contract("Disputes", deployment.disputes)

    @classmethod
    def connect(
        cls, rpc_url: str, deployment: Deployment, account: LocalAccount | None = None
    ) -> "Ledger":
        """Connect to a node; raise `WrongChain` or `ChainUnreachable`."""
        w3 = web3_at(rpc_url)
        try:
            chain_id = w3.eth.chain_id
        except (RequestException, OSError) as error:
            raise ChainUnreachable(f"no chain at {rpc_url}: {error}") from error
        if chain_id != deployment.chain_id:
            raise WrongChain(f"{rpc_url} serves {chain_id}, not {deployment.chain_id}")
        return cls(w3, deployment, account)

    # ---------------------------------------------------------------- stakes

    def register(self, amount: int, signer: str, payout: str, consent: bytes = b"") -> Receipt:
        """Become an identity; `consent` is needed unless the signer is this account."""
        call = self._registry.functions.register(amount, signer, payout, consent)
        return self._deposit(self.deployment.token, amount, call)

    def stake(self, amount: int) -> Receipt:
        """Add to this account's stake."""
        call = self._registry.functions.stake(amount)
        return self._deposit(self.deployment.token, amount, call)

    def add_signer(self, signer: str, consent: bytes) -> Receipt:
        """Delegate a hot key."""
        return self._send(self._registry.functions.addSigner(signer, consent))

    def revoke_signer(self, signer: str) -> Receipt:
        """Withdraw a hot key, effective after the registry's delay."""
        return self._send(self._registry.functions.revokeSigner(signer))

    def set_payout(self, payout: str) -> Receipt:
        """Change where this account's earnings go."""
        return self._send(self._registry.functions.setPayout(payout))

    def unbond(self, amount: int) -> Receipt:
        """Start withdrawing stake."""
        return self._send(self._registry.functions.unbond(amount))

    def withdraw_stake(self) -> Receipt:
        """Withdraw what has unbonded."""
        return self._send(self._registry.functions.withdrawStake())

    def withdraw_stake_credit(self) -> Receipt:
        """Withdraw slashed stake credited to this account (the treasury)."""
        return self._send(self._registry.functions.withdrawCredit())

    def sign_consent(self, signer: LocalAccount, owner: str) -> bytes:
        """Return the hot key's consent to work for `owner`."""
        digest = self._call(self._registry.functions.consentDigest(owner, signer.address))
        return bytes(signer.unsafe_sign_hash(digest).signature)

    def owner_of(self, signer: str) -> str | None:
        """Return the identity a hot key signs for now."""
        owner = str(self._call(self._registry.functions.ownerOf(signer)))
        return None if owner == ZERO_ADDRESS else owner

    def stake_of(self, worker: str) -> int:
        """Return bonded stake."""
        return int(self._call(self._registry.functions.stakeOf(worker)))

    def stake_account(self, worker: str) -> StakeState:
        """Return stake, what is unbonding, what is locked, and the payout address."""
        return StakeState(*self._call(self._registry.functions.accountOf(worker)))

    def is_registered(self, worker: str) -> bool:
        """Return whether an identity exists."""
        return bool(self._call(self._registry.functions.isRegistered(worker)))

    def payout_of(self, worker: str) -> str:
        """Return where a worker's earnings go."""
        return str(self._call(self._registry.functions.payoutOf(worker)))

    def stake_credit(self, account: str) -> int:
        """Return slashed stake that `account` may withdraw."""
        return int(self._call(self._registry.functions.creditOf(account)))

    # ---------------------------------------------------------------- runs

    def create_run(self, params: RunParams, budget: int, spec_uri: str) -> int:
        """Create a run, escrowing `budget`; return its id."""
        call = self._ledger.functions.createRun(params.as_struct(), budget, spec_uri)
        receipt = self._deposit(params.token, budget, call)
        return int(_only(receipt, "RunCreated").values["runId"])

    def fund_run(self, run_id: int, amount: int) -> Receipt:
        """Add to a run's budget."""
        call = self._ledger.functions.fundRun(run_id, amount)
        return self._deposit(self.run(run_id).token, amount, call)

    def join_run(self, run_id: int, evidence: bytes = b"") -> Receipt:
        """Join as a worker, exposing up to the run's minimum stake to its reports."""
        return self._send(self._ledger.functions.joinRun(run_id, evidence))

    def open_epoch(self, run_id: int, secret_hash: bytes) -> int:
        """Open the next epoch under its secret's keccak256; return its number."""
        _require_word(secret_hash)
        receipt = self._send(self._ledger.functions.openEpoch(run_id, secret_hash))
        return int(_only(receipt, "EpochOpened").values["epoch"])

    def post_epoch(
        self, header: EpochHeader, secret: bytes, signatures: Mapping[str, bytes], data_uri: str
    ) -> Receipt:
        """Post an epoch. `signatures` are keyed by verifier identity, not by hot key."""
        _require_word(secret)
        bitmap, ordered = self._ordered(header.run_id, signatures)
        return self._send(
            self._ledger.functions.postEpoch(astuple(header), secret, bitmap, ordered, data_uri)
        )

    def advance(self, run_id: int) -> Receipt:
        """Make final every epoch whose challenge window has passed."""
        return self._send(self._ledger.functions.advance(run_id))

    def claim(
        self, run_id: int, epoch: int, account: AccountLeaf, index: int, proof: Sequence[bytes]
    ) -> int:
        """Have a worker paid by a final epoch; return the amount. Any account may send it."""
        worker = Web3.to_checksum_address(account.worker)
        claim = (worker, account.earned, account.last_nonce, index, list(proof))
        receipt = self._send(self._ledger.functions.claim(run_id, epoch, claim))
        return int(_only(receipt, "Claimed").values["amount"])

    def halt_run(self, run_id: int, reason: bytes = bytes(32)) -> Receipt:
        """Halt (operator), or vote to (steward)."""
        _require_word(reason)
        return self._send(self._ledger.functions.haltRun(run_id, reason))

    def resume_run(self, run_id: int) -> Receipt:
        """Resume one's own halt, or vote to (steward)."""
        return self._send(self._ledger.functions.resumeRun(run_id))

    def stop_run(self, run_id: int) -> Receipt:
        """End the run for good."""
        return self._send(self._ledger.functions.stopRun(run_id))

    def close_run(self, run_id: int) -> int:
        """Close a stopped run; return what was credited to its operator."""
        receipt = self._send(self._ledger.functions.closeRun(run_id))
        return int(_only(receipt, "RunClosed").values["refund"])

    def withdraw_credit(self, token: str) -> Receipt:
        """Withdraw this account's refunds."""
        return self._send(self._ledger.functions.withdrawCredit(token))

    def run(self, run_id: int) -> RunState:
        """Return a run's state."""
        return RunState.of(self._call(self._ledger.functions.runOf(run_id)))

    def num_runs(self) -> int:
        """Return how many runs exist; their ids are 1 to that."""
        return int(self._call(self._ledger.functions.numRuns()))

    def epoch(self, run_id: int, epoch: int) -> EpochState:
        """Return an epoch's state."""
        return EpochState(*self._call(self._ledger.functions.epochOf(run_id, epoch)))

    def is_joined(self, run_id: int, worker: str) -> bool:
        """Return whether a worker joined a run."""
        return bool(self._call(self._ledger.functions.isJoined(run_id, worker)))

    def claimed(self, run_id: int, worker: str) -> int:
        """Return what a run has paid a worker, in token wei."""
        return int(self._call(self._ledger.functions.claimedOf(run_id, worker)))

    def credit(self, account: str, token: str) -> int:
        """Return refunds that `account` may withdraw."""
        return int(self._call(self._ledger.functions.creditOf(account, token)))

    def meter(self, operator: str) -> Meter:
        """Return the final work of an operator's runs."""
        return Meter(*self._call(self._ledger.functions.meterOf(operator)))

    def domain_separator(self) -> bytes:
        """Return the EIP-712 domain of headers, reports and work."""
        return bytes(self._call(self._ledger.functions.domainSeparator()))

    # ---------------------------------------------------------------- slashing

    def propose_slash(self, report: FraudReport, signatures: Mapping[str, bytes]) -> bytes:
        """Report a worker under verifiers' signatures, keyed by identity; return the slash id."""
        bitmap, ordered = self._ordered(report.run_id, signatures)
        # Contracts take addresses in checksummed spelling only.
        spelled = replace(report, worker=Web3.to_checksum_address(report.worker))
        call = self._disputes.functions.proposeSlash(astuple(spelled), bitmap, ordered)
        return bytes(_only(self._send(call), "SlashProposed").values["slashId"])

    def appeal_slash(self, slash_id: bytes, reason: bytes = bytes(32)) -> Receipt:
        """Appeal, as the accused or one of its hot keys."""
        _require_word(reason)
        return self._send(self._disputes.functions.appealSlash(slash_id, reason))

    def execute_slash(self, slash_id: bytes) -> Receipt:
        """Take the stake when nobody appealed in time."""
        return self._send(self._disputes.functions.executeSlash(slash_id))

    def resolve_appeal(self, slash_id: bytes, is_guilty: bool) -> Receipt:
        """Rule, as the arbiter."""
        return self._send(self._disputes.functions.resolveAppeal(slash_id, is_guilty))

    def expire_appeal(self, slash_id: bytes) -> Receipt:
        """Acquit when the arbiter kept silent."""
        return self._send(self._disputes.functions.expireAppeal(slash_id))

    def slash(self, slash_id: bytes) -> SlashState:
        """Return an accusation's state."""
        return SlashState.of(self._call(self._disputes.functions.slashOf(slash_id)))

    def slash_id(self, run_id: int, worker: str, work_digest: bytes) -> bytes:
        """Return the id an accusation over this work has or would have."""
        return bytes(self._call(self._disputes.functions.slashIdOf(run_id, worker, work_digest)))

    # ---------------------------------------------------------------- tokens and chain

    def mint(self, to: str, amount: int) -> Receipt:
        """Mint test tokens. Development deployments only: a real token has no such function."""
        token = self._contract("TestToken", self.deployment.token)
        return self._send(token.functions.mint(to, amount))

    def balance(self, account: str, token: str | None = None) -> int:
        """Return an account's tokens (the staking token's, when none is named)."""
        contract = self._contract("TestToken", token or self.deployment.token)
        return int(self._call(contract.functions.balanceOf(account)))

    def block_time(self) -> int:
        """Return the newest block's time: what signed times are compared with."""
        try:
            return int(self._w3.eth.get_block("latest")["timestamp"])
        except (RequestException, OSError) as error:
            raise ChainUnreachable(str(error)) from error

    def events(
        self, next_block: int | None = None, margin: int = 0, path: Path | None = None
    ) -> LogCursor:
        """Return a cursor over the contracts' events, going on from `path` where that is a file."""
        at = self.deployment
        start = at.block if next_block is None else next_block
        return LogCursor(self._w3, [at.registry, at.ledger, at.disputes], start, margin, path)

    # ---------------------------------------------------------------- inner

    def _contract(self, name: str, address: str) -> Any:
        abi = artifact(name).abi
        return self._w3.eth.contract(address=Web3.to_checksum_address(address), abi=abi)

    def _send(self, call: Any) -> Receipt:
        if self._sender is None:
            raise LedgerError("this ledger was opened without an account: it can only read")
        data = Web3.to_bytes(hexstr=call._encode_transaction_data())
        return self._sender.send(call.address, data)

    def _call(self, call: Any) -> Any:
        try:
            return call.call()
        except ContractLogicError as error:
            raise refusal(error) from error
        except BadFunctionCallOutput as error:
            raise LedgerError(
                f"{call.address} answers nothing to {call.fn_name}: is it the deployment's chain?"
            ) from error
        except Web3RPCError as error:
            raise LedgerError(f"the node refused to call {call.fn_name}: {error}") from error
        except (RequestException, OSError) as error:
            raise ChainUnreachable(str(error)) from error

    def _deposit(self, token: str, amount: int, call: Any) -> Receipt:
        """Send a call that pulls `amount` from this account, allowing exactly that."""
        if self._sender is None or amount == 0:
            return self._send(call)
        contract = self._contract("TestToken", token)
        # Two deposits at once would each spend the other's allowance.
        with self._deposits:
            have = self._call(contract.functions.allowance(self._sender.address, call.address))
            if have < amount:
                self._send(contract.functions.approve(call.address, amount))
            return self._send(call)

    def _ordered(self, run_id: int, signatures: Mapping[str, bytes]) -> tuple[int, list[bytes]]:
        by_value = {int(verifier, 16): signature for verifier, signature in signatures.items()}
        bitmap, ordered = 0, []
        for index, verifier in enumerate(self.run(run_id).verifiers):
            signature = by_value.pop(int(verifier, 16), None)
            if signature is not None:
                bitmap |= 1 << index
                ordered.append(signature)
        if by_value:
            strangers = ", ".join(f"0x{value:040x}" for value in by_value)
            raise LedgerError(f"run {run_id} has no verifier {strangers}; key by identity")
        return bitmap, ordered


def _only(receipt: Receipt, name: str) -> Event:
    [event] = [event for event in decode_events(receipt.logs) if event.name == name]
    return event


def _require_word(value: bytes) -> None:
    # web3 right-pads short bytes32 in silence.
    if len(value) != 32:
        raise ValueError(f"expected 32 bytes, got {len(value)}: {value.hex()}")
