"""What a test's market stands on: a chain with the ledger, and funded people.

Made once and shared by all tests; each opens a run of its own.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from eth_account.signers.local import LocalAccount
from web3 import Web3

from devchain.chain import DevChain
from devchain.rpc import Rpc
from ledger.deployment import Deployment, LedgerTerms, deploy
from ledger.node import Node
from ledger.state import RunParams
from protocol.run import RunSpec
from tests.stage.terms import person
from tests.stage.whole import WholeLedger
from tests.stage.world import Clock, InProcess

START = 1_800_000_000
STAKE = 10**18
BUDGET = 10**9
ENGINE = "transformers-cpu"

TERMS = LedgerTerms(
    unbond_seconds=600,
    revoke_seconds=50,
    min_window_seconds=2,
    response_seconds=5,
    appeal_seconds=5,
    ruling_seconds=5,
)


@dataclass
class Ground:
    """A chain with the ledger on it and funded people: made once, shared by all tests."""

    w3: Web3
    chain: DevChain
    clock: Clock
    deployment: Deployment
    people: dict[str, LocalAccount]
    ledgers: dict[str, WholeLedger] = field(default_factory=dict)

    @classmethod
    def build(cls, clock: Clock | None = None, *, more: tuple[str, ...] = ()) -> "Ground":
        """Make it; a market whose client is a real program needs a clock that is `Running`.

        `more` are further people with a stake.
        """
        names = ["operator", "orchestrator", "trainer", "deployer", "stranger", "nobody", "hot"]
        names += ["v0", "v1", "v2", "s0", "s1", "alice", "bob", "carol", *more]
        people = {name: person(name) for name in names}
        clock = clock or Clock(START)
        funded = [bytes.fromhex(account.address[2:]) for account in people.values()]
        chain = DevChain(funded, genesis_time=clock.now)
        w3 = Web3(InProcess(Rpc(chain, clock=clock)))
        ground = cls(w3, chain, clock, deploy(Node(w3.provider), people["deployer"], TERMS), people)
        for name in ("v0", "v1", "v2", "alice", "bob", "carol", "operator", *more):
            ground.by(name).mint(ground.address(name), 10 * STAKE)
            ground.by(name).register(2 * STAKE, ground.address(name), ground.address(name))
        ground.by("operator").mint(ground.address("operator"), 10_000 * BUDGET)
        consent = ground.by("operator").sign_consent(
            people["orchestrator"], ground.address("operator")
        )
        ground.by("operator").add_signer(ground.address("orchestrator"), consent)
        consent = ground.by("alice").sign_consent(people["hot"], ground.address("alice"))
        ground.by("alice").add_signer(ground.address("hot"), consent)
        return ground

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

    def create_run(
        self, spec: RunSpec, *, num_verifiers: int, threshold: int, **changes: Any
    ) -> int:
        """Create a run that two of two stewards may halt; `changes` are fields of RunParams."""
        names = [f"v{n}" for n in range(num_verifiers)]
        params = RunParams(
            token=self.deployment.token,
            rate=spec.rate,
            min_stake=STAKE,
            challenge_window=2,
            settle_window=60,
            resume_delay=2,
            permit_period=86_400,
            threshold=threshold,
            num_parameters=spec.num_parameters,
            spec_hash=spec.canonical_digest(),
            base_model=spec.model_digest,
            verifiers=self.members(*names),
            stewards=self.members("s0", "s1"),
            steward_threshold=2,
        )
        run_id = self.by("operator").create_run(replace(params, **changes), BUDGET, "")
        for worker in ("alice", "bob"):
            self.by(worker).join_run(run_id)
        return run_id
