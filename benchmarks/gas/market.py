"""A market on anvil whose transactions are weighed: people, runs, and epochs of any size.

Every transaction here is sent by an impersonated account with an explicit call, so that what is weighed is
the contract's function and nothing that a client adds.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, replace
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount
from web3 import Web3

from ledger.artifact import artifact
from ledger.deployment import Deployment, LedgerTerms, deploy
from ledger.node import Node
from ledger.state import RunParams
from protocol.canonical import keccak256
from protocol.epoch import EpochHeader
from protocol.signing import Domain, sign
from tests.stage.epochs import Epoch, epoch_of

STAKE = 10**21
RATE = 10**12
BUDGET = 10**27
WINDOW = 3_600
SECRET = keccak256(b"secret")
SPEC_URI = "https://market.example/v1/runs/1/spec"
DATA_URI = "https://market.example/v1/runs/1/epochs/12"
NUM_VERIFIERS, THRESHOLD = 5, 3
TOKENS = 512
NUM_PARAMETERS = 494_032_768
"""Of the model these epochs are about: gflops follow from tokens by it."""


def person(name: str) -> LocalAccount:
    """Return an account that is the same in every run."""
    return Account.from_key(keccak256(name.encode()))


@dataclass(frozen=True, slots=True)
class Posted:
    """An epoch on chain, under the header that its verifiers signed."""

    epoch: Epoch
    header: EpochHeader


class Market:
    """A fresh deployment on anvil, with five staked verifiers.

    Example: `market = Market(node); market.gas(market.ledger.functions.advance(1), by=address)`
    """

    def __init__(self, node: Node) -> None:
        self.w3 = node.w3
        self._ask("anvil_autoImpersonateAccount", True)
        self.operator = person("operator").address
        self.finder = person("finder").address
        deployer = person("deployer")
        for address in (self.operator, self.finder, deployer.address):
            self.fund(address)
        terms = LedgerTerms(treasury=person("treasury").address)
        self.deployment: Deployment = deploy(node, deployer, terms)
        self.token = self.at("TestToken", self.deployment.token)
        self.registry = self.at("StakeRegistry", self.deployment.registry)
        self.ledger = self.at("RunLedger", self.deployment.ledger)
        self.disputes = self.at("Disputes", self.deployment.disputes)
        self.domain = Domain(self.deployment.chain_id, self.deployment.ledger)
        named = (person(f"verifier {n}") for n in range(NUM_VERIFIERS))
        self.verifiers = sorted(named, key=lambda account: int(account.address, 16))
        for verifier in self.verifiers:
            self.join_registry(verifier.address)

    # ------------------------------------------------------------ chain

    def at(self, name: str, address: str) -> Any:
        return self.w3.eth.contract(
            address=Web3.to_checksum_address(address), abi=artifact(name).abi
        )

    def deployed(self, name: str, *args: Any) -> Any:
        """Deploy a contract from the operator's account."""
        compiled = artifact(name)
        factory = self.w3.eth.contract(abi=compiled.abi, bytecode=compiled.bytecode)
        sent = factory.constructor(*args).transact({"from": self.operator})
        return self.at(name, self.w3.eth.wait_for_transaction_receipt(sent)["contractAddress"])

    def gas(self, call: Any, by: str) -> int:
        """Send a call and return the gas it used; raise the contract's refusal."""
        return int(self.send(call, by)["gasUsed"])

    def send(self, call: Any, by: str) -> Any:
        """Send a call and return its receipt."""
        sent = call.transact({"from": by})
        receipt = self.w3.eth.wait_for_transaction_receipt(sent)
        if receipt["status"] != 1:
            raise RuntimeError(f"{call.fn_name} ran out of gas at {receipt['gasUsed']}")
        return receipt

    def wait(self, seconds: int) -> None:
        self._ask("evm_increaseTime", seconds)
        self._ask("evm_mine")

    def now(self) -> int:
        return int(self.w3.eth.get_block("latest")["timestamp"])

    def fund(self, address: str) -> None:
        """Give an account gas to spend."""
        self._ask("anvil_setBalance", address, hex(10**24))

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Rewind the chain afterwards."""
        snapshot = self._ask("evm_snapshot")
        yield
        self._ask("evm_revert", snapshot)

    def _ask(self, method: str, *params: Any) -> Any:
        return self.w3.provider.make_request(method, list(params))["result"]

    # ------------------------------------------------------------ people and runs

    def mint(self, to: str, amount: int, spender: Any) -> None:
        """Give `to` tokens that `spender` may pull."""
        self.send(self.token.functions.mint(to, amount), to)
        self.send(self.token.functions.approve(spender.address, amount), to)

    def join_registry(self, address: str, signer: str = "", payout: str = "") -> None:
        """Register with one stake; the account signs and is paid itself unless told otherwise."""
        self.fund(address)
        self.mint(address, STAKE, self.registry)
        call = self.registry.functions.register(STAKE, signer or address, payout or address, b"")
        self.send(call, address)

    def join_run(self, worker: str, run_id: int) -> None:
        """Register a worker with one stake and have it join."""
        self.join_registry(worker)
        self.send(self.ledger.functions.joinRun(run_id, b""), worker)

    def params(self, num_verifiers: int, model: str) -> RunParams:
        """Return the parameters of a run like most."""
        return RunParams(
            token=self.deployment.token,
            rate=RATE,
            min_stake=STAKE,
            challenge_window=WINDOW,
            settle_window=WINDOW,
            resume_delay=WINDOW,
            permit_period=30 * 86_400,
            num_parameters=NUM_PARAMETERS,
            threshold=THRESHOLD,
            spec_hash=keccak256(b"spec"),
            base_model=keccak256(model.encode()),
            licence="Apache-2.0",
            intended_use="arithmetic",
            verifiers=tuple(account.address for account in self.verifiers[:num_verifiers]),
        )

    def create_run(
        self, budget: int, by: str, num_verifiers: int = NUM_VERIFIERS, model: str = "model"
    ) -> tuple[int, int]:
        """Create a run from an allowance given before; return its id and the gas."""
        self.fund(by)
        self.mint(by, budget, self.ledger)
        params = self.params(num_verifiers, model).as_struct()
        call = self.ledger.functions.createRun(params, budget, SPEC_URI)
        gas = self.gas(call, by)
        return int(self.ledger.functions.numRuns().call()), gas

    # ------------------------------------------------------------ epochs

    def epoch(
        self, run_id: int, works: Sequence[tuple[LocalAccount, int, int]], before: Posted | None
    ) -> Epoch:
        """Return an honest epoch dated now, after `before`."""
        accounts = before.epoch.accounts if before else ()
        salt = run_id.to_bytes(8, "big") + len(works).to_bytes(8, "big")
        return epoch_of(
            *(self.domain, run_id, works),
            at=self.now(),
            num_parameters=NUM_PARAMETERS,
            before=accounts,
            salt=salt,
        )

    def header(self, epoch: Epoch, before: Posted | None, **lie: Any) -> EpochHeader:
        """Return the header that comes after `before`."""
        number = before.header.epoch + 1 if before else 0
        root = before.header.account_root if before else bytes(32)
        place: dict[str, Any] = {"epoch": number, "prev_account_root": root}
        return replace(epoch.header, **place | lie)

    def open(self, run_id: int, by: str = "") -> int:
        """Open the next epoch as its operator; return the gas."""
        call = self.ledger.functions.openEpoch(run_id, keccak256(SECRET))
        return self.gas(call, by or self.operator)

    def post(self, header: EpochHeader) -> int:
        """Post under three verifiers' signatures; return the gas."""
        digest = self.domain.digest(header)
        signers = self.verifiers[:THRESHOLD]
        signatures = [sign(bytes(account.key), digest) for account in signers]
        bitmap = (1 << THRESHOLD) - 1
        arguments = (astuple(header), SECRET, bitmap, signatures, DATA_URI)
        return self.gas(self.ledger.functions.postEpoch(*arguments), self.finder)

    def posted(self, epoch: Epoch, before: Posted | None, **lie: Any) -> tuple[Posted, int]:
        """Post an epoch; return it and the gas."""
        header = self.header(epoch, before, **lie)
        return Posted(epoch, header), self.post(header)
