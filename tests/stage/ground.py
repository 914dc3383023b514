"""What a test's market stands on: a chain with the ledger, and funded people.

Made once and shared by all tests; each opens a run of its own.
"""

from dataclasses import replace
from typing import Any

from ledger.deployment import LedgerTerms
from ledger.sender import Sender
from ledger.state import RunParams
from protocol.run import RunSpec
from tests.stage.terms import person
from tests.stage.world import Clock, Land

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


class Ground(Land):
    """What many runs are opened on: staked workers and verifiers, an operator and its orchestrator."""

    @classmethod
    def build(cls, clock: Clock | None = None, *, more: tuple[str, ...] = ()) -> "Ground":
        """Make it; a market whose client is a real program needs a clock that is `Running`.

        `more` are further people with a stake.
        """
        names = ["operator", "orchestrator", "trainer", "deployer", "stranger", "nobody", "hot"]
        names += ["v0", "v1", "v2", "s0", "s1", "alice", "bob", "carol", *more]
        people = {name: person(name) for name in names}
        ground = cls.founded(people, clock or Clock(START), TERMS)
        # Once for all runs: a permit for each budget is a tenth of what opening a run takes.
        token, ledger = (ground.deployment.token, ground.deployment.ledger)
        allow = ground.node.contract("TestToken", token).encode_abi("approve", [ledger, 1 << 255])
        Sender(ground.node, people["operator"]).send(token, bytes.fromhex(allow[2:]))
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
