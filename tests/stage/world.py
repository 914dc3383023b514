"""The people and the chain that the ledger's tests share: a real EVM behind web3, in process."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

from eth_account.signers.local import LocalAccount
from web3 import Web3
from web3.providers import BaseProvider

from devchain.chain import DevChain
from devchain.rpc import Rpc, RpcError
from ledger.artifact import artifact
from ledger.deployment import Deployment, LedgerTerms, deploy
from ledger.errors import ContractError
from ledger.node import Node
from ledger.sender import Sender
from ledger.state import RunParams
from protocol.canonical import keccak256
from protocol.epoch import AccountLeaf, EpochHeader, FraudReport, account_tree
from tests.stage.terms import key
from tests.stage.whole import WholeLedger

START = 1_800_000_000
STAKE = 1_000
RATE = 10
BUDGET = 100_000
UNBOND = 600
WINDOW = 60
RESPONSE = 60
APPEAL = 100
RULING = 200
REVOKE = 50
TIMELOCK = 1_000
PERMIT = 10**6
WARN = 1_000
NUM_PARAMETERS = 500_000_000
"""So that a token is one gflop."""
SECRET = keccak256(b"secret")
WORK = keccak256(b"work")
MODEL = keccak256(b"base model")

TERMS = LedgerTerms(
    unbond_seconds=UNBOND,
    revoke_seconds=REVOKE,
    min_window_seconds=2,
    response_seconds=RESPONSE,
    appeal_seconds=APPEAL,
    ruling_seconds=RULING,
    timelock_seconds=TIMELOCK,
    warn_gflops=WARN,
)


@dataclass
class Clock:
    """What the chain takes for the time: a test moves it."""

    now: int

    def __call__(self) -> float:
        return self.now


class Running(Clock):
    """A clock that goes on by itself, with this machine's: for programs that read that one."""

    def __init__(self) -> None:
        self._ahead = 0

    @property
    def now(self) -> int:
        return int(time.time()) + self._ahead

    @now.setter
    def now(self, value: int) -> None:
        self._ahead = value - int(time.time())


class InProcess(BaseProvider):
    """web3's transport straight into a chain in this process."""

    def __init__(self, rpc: Rpc) -> None:
        super().__init__()
        self.rpc = rpc

    def make_request(self, method: Any, params: Any) -> Any:
        try:
            return {"jsonrpc": "2.0", "id": 1, "result": self.rpc.answer(method, list(params))}
        except RpcError as error:
            content = {"code": error.code, "message": str(error)}
            if error.data is not None:
                content["data"] = error.data
            return {"jsonrpc": "2.0", "id": 1, "error": content}


@dataclass
class Land:
    """A chain with the contracts, and funded people."""

    w3: Web3
    chain: DevChain
    clock: Clock
    deployment: Deployment
    people: dict[str, LocalAccount]
    ledgers: dict[str, WholeLedger] = field(default_factory=dict)

    @classmethod
    def founded(cls, people: dict[str, LocalAccount], clock: Clock, terms: LedgerTerms) -> Self:
        """Deploy the contracts as the deployer, on a chain whose people can pay for gas."""
        funded = [bytes.fromhex(account.address[2:]) for account in people.values()]
        chain = DevChain(funded, genesis_time=clock.now)
        w3 = Web3(InProcess(Rpc(chain, clock=clock)))
        return cls(w3, chain, clock, deploy(Node(w3.provider), people["deployer"], terms), people)

    @cached_property
    def node(self) -> Node:
        """The chain as the ledger asks it: once for all what fees it takes, for to look makes a block here."""
        return Node(self.w3.provider)

    def by(self, name: str) -> WholeLedger:
        """Return the ledger as this person uses it."""
        if name not in self.ledgers:
            self.ledgers[name] = WholeLedger(self.node, self.deployment, self.people[name])
        return self.ledgers[name]

    def address(self, name: str) -> str:
        return str(self.people[name].address)

    def members(self, *names: str) -> tuple[str, ...]:
        """Return people's addresses as a run lists its members: strictly ascending."""
        return tuple(sorted((self.address(name) for name in names), key=str.lower))


@dataclass
class World(Land):
    """One active run (id 1) whose workers have joined."""

    run_id: int = 0

    @classmethod
    def build(cls) -> "World":
        verifiers = sorted(
            (key(f"verifier {n}") for n in range(3)), key=lambda a: a.address.lower()
        )
        people = {f"v{n}": account for n, account in enumerate(verifiers)}
        names = "operator alice bob stranger treasury arbiter guardian s0 s1 deployer"
        people |= {name: key(name) for name in names.split()}
        offices = {name: people[name].address for name in ("treasury", "guardian", "arbiter")}
        world = cls.founded(people, Clock(START), replace(TERMS, **offices))
        for name in ("v0", "v1", "v2", "alice", "bob"):
            world.by(name).mint(world.address(name), 10 * STAKE)
            world.by(name).register(STAKE, world.address(name), world.address(name))
        world.by("operator").mint(world.address("operator"), 10 * BUDGET)
        world.run_id = world.by("operator").create_run(world.params(), BUDGET, "ipfs://spec")
        for name in ("alice", "bob"):
            world.by(name).join_run(world.run_id)
        return world

    def params(self, **changes: Any) -> RunParams:
        """Return the run's parameters: two of three verifiers, both of two stewards."""
        params = RunParams(
            token=self.deployment.token,
            rate=RATE,
            min_stake=STAKE,
            challenge_window=WINDOW,
            settle_window=WINDOW,
            resume_delay=WINDOW,
            threshold=2,
            permit_period=PERMIT,
            spec_hash=keccak256(b"spec"),
            base_model=MODEL,
            num_parameters=NUM_PARAMETERS,
            licence="Apache-2.0",
            intended_use="arithmetic",
            verifiers=tuple(self.address(f"v{n}") for n in range(3)),
            stewards=self.members("s0", "s1"),
            steward_threshold=2,
        )
        return replace(params, **changes)

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Rewind chain and clock to where they stood."""
        height, now, run_id = self.chain.head.number, self.clock.now, self.run_id
        yield
        self.chain.rewind(height)
        self.clock.now, self.run_id = now, run_id
        self.ledgers.clear()

    def wait(self, seconds: int) -> None:
        """Let time pass from the newest block, so that the next one is exactly so much later."""
        self.clock.now = int(self.chain.head.header.timestamp) + seconds

    # ------------------------------------------------------------ epochs

    def header(self, accounts: Sequence[AccountLeaf], **changes: Any) -> EpochHeader:
        """Return the header of the run's next epoch that pays `accounts` what they newly earned."""
        run = self.by("operator").run(self.run_id)
        before = (
            self.by("operator").epoch(self.run_id, run.num_posted - 1) if run.num_posted else None
        )
        spent = run.committed // run.rate
        header = EpochHeader(
            run_id=self.run_id,
            epoch=run.num_posted,
            generation=run.generation,
            prev_account_root=before.account_root if before else bytes(32),
            work_root=WORK,
            account_root=account_tree(accounts).root,
            work_count=len(accounts),
            account_count=len(accounts),
            # After an epoch that lied upwards, more is committed than was ever earned.
            total=max(0, sum(account.earned for account in accounts) - spent),
            tokens=7,
            gflops=7,
            data_hash=keccak256(b"data"),
        )
        return replace(header, **changes)

    def signed(self, struct_hash: bytes, *names: str) -> dict[str, bytes]:
        """Return these people's signatures over a struct, keyed by address."""
        digest = keccak256(b"\x19\x01" + self.by("operator").domain_separator() + struct_hash)
        return {
            self.address(name): bytes(self.people[name].unsafe_sign_hash(digest).signature)
            for name in names
        }

    def open(self, secret: bytes = SECRET) -> int:
        return self.by("operator").open_epoch(self.run_id, keccak256(secret))

    def post(self, header: EpochHeader, *names: str, by: str = "stranger") -> Any:
        """Post under these verifiers' signatures (v0 and v1 when none is named)."""
        signatures = self.signed(header.struct_hash(), *(names or ("v0", "v1")))
        return self.by(by).post_epoch(header, SECRET, signatures, "blob://epoch")

    def settle(self, **earned: int) -> list[AccountLeaf]:
        """Open, post and finalise an epoch after which these people have earned so much."""
        accounts = self.accounts(**earned)
        self.open()
        self.post(self.header(accounts))
        self.wait(WINDOW)
        self.by("stranger").advance(self.run_id)
        return accounts

    def accounts(self, **earned: int) -> list[AccountLeaf]:
        leaves = [AccountLeaf(self.address(name), units, 1) for name, units in earned.items()]
        return sorted(leaves, key=lambda leaf: int(leaf.worker, 16))

    def claim(self, name: str, epoch: int, accounts: Sequence[AccountLeaf], by: str = "") -> int:
        index = [leaf.worker for leaf in accounts].index(self.address(name))
        proof = account_tree(accounts).proof(index)
        return self.by(by or name).claim(self.run_id, epoch, accounts[index], index, proof)

    # ------------------------------------------------------------ slashing

    def report(self, name: str = "alice", amount: int = STAKE, **changes: Any) -> FraudReport:
        at = int(self.chain.head.header.timestamp)
        report = FraudReport(
            self.run_id, self.address(name), WORK, keccak256(b"evidence"), amount, at
        )
        return replace(report, **changes)

    def accuse(self, report: FraudReport, *names: str) -> bytes:
        signatures = self.signed(report.struct_hash(), *(names or ("v0", "v1")))
        return self.by("stranger").propose_slash(report, signatures)

    # ------------------------------------------------------------ other contracts

    def sender(self, name: str) -> Sender:
        return Sender(self.node, self.people[name])

    def contract(self, name: str, *args: Any, by: str = "stranger") -> Any:
        """Deploy one of the test contracts and return it as web3 sees it."""
        compiled = artifact(name)
        factory = self.w3.eth.contract(abi=compiled.abi, bytecode=compiled.bytecode)
        data = Web3.to_bytes(hexstr=factory.constructor(*args).data_in_transaction)
        receipt = self.sender(by).send(None, data)
        return self.w3.eth.contract(address=receipt.contract_address, abi=compiled.abi)

    def transact(self, call: Any, by: str = "stranger") -> Any:
        return self.sender(by).send(
            call.address, Web3.to_bytes(hexstr=call._encode_transaction_data())
        )


@contextmanager
def refused(name: str, **values: Any) -> Iterator[None]:
    """Expect a contract's refusal of this name, with at least these values."""
    try:
        yield
    except ContractError as error:
        shown = {key: error.values.get(key) for key in values}
        assert (error.name, shown) == (name, values), f"refused, but with {error}"
    else:
        raise AssertionError(f"{name} was not raised")
