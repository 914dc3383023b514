"""Random markets, in which verifiers lie, keep every invariant of the money.

Nothing is compared with the test's own books: only with balances and with what the contracts say, since
a wrong ledger and a wrong book-keeper agree too easily.
"""

import random
from collections.abc import Callable
from typing import Any

import pytest

from ledger.errors import ContractError
from ledger.state import DisputeKind, DisputeStatus, RunStatus
from protocol.epoch import AccountLeaf, EpochHeader, RetractEpoch, account_tree
from tests.contracts.world import BUDGET, SECRET, STAKE, WINDOW, World

STEPS = 60
WORKERS = ("alice", "bob", "v0")


def check(world: World) -> None:
    ledger, token = world.by("stranger"), world.deployment.token
    owed = 0
    for run_id in range(1, ledger.num_runs() + 1):
        run = ledger.run(run_id)
        assert run.claimed <= run.finalised <= run.committed <= run.budget
        assert run.num_posted - run.num_final <= 8
        assert run.num_final <= run.num_posted <= run.num_opened
        paid = sum(ledger.claimed(run_id, world.address(name)) for name in WORKERS)
        assert paid == run.claimed
        costs = [ledger.epoch(run_id, n).cost for n in range(run.num_opened)]
        assert sum(costs) == run.committed
        assert sum(costs[: run.num_final]) == run.finalised
        owed += run.budget - run.claimed
    credits = ledger.credit(world.address("operator"), token)
    assert ledger.balance(world.deployment.ledger) == owed + credits
    stakes = 0
    for name in world.people:
        account = ledger.stake_account(world.address(name))
        assert account.locked <= account.stake + account.unbonding
        stakes += account.stake + account.unbonding + ledger.stake_credit(world.address(name))
    assert ledger.balance(world.deployment.registry) == stakes + ledger.bonds()


class Market:
    """Takes random steps. Refusals by the contracts are part of the game; anything else is not."""

    def __init__(self, world: World, seed: int) -> None:
        self.world, self.random = world, random.Random(f"market {seed}")
        self.posted: dict[tuple[int, int], list[AccountLeaf]] = {}
        self.headers: list[EpochHeader] = []
        self.slashes: list[bytes] = []
        self.disputes: list[bytes] = []
        self.refusals = self.successes = 0

    def step(self) -> None:
        steps: list[Callable[[], Any]] = [
            *(self.open, self.open, self.post, self.post, self.post, self.claim, self.claim),
            *(self.wait, self.wait, self.fund, self.unbond, self.withdraw, self.stake),
            *(self.accuse, self.judge, self.halt, self.create, self.end),
            *(self.permit, self.retract, self.dispute, self.decide, self.pause),
        ]
        try:
            self.random.choice(steps)()
            self.successes += 1
        except ContractError:
            self.refusals += 1

    def run(self) -> int:
        self.world.run_id = self.random.randint(1, self.world.by("operator").num_runs())
        return self.world.run_id

    def open(self) -> None:
        self.run()
        self.world.open(SECRET)

    def post(self) -> None:
        run_id = self.run()
        before = self.world.by("bob").run(run_id).num_posted - 1
        old = {leaf.worker: leaf.earned for leaf in self.posted.get((run_id, before), [])}
        accounts = self.world.accounts(
            **{
                name: old.get(self.world.address(name), 0) + self.random.randint(0, 400)
                for name in WORKERS
            }
        )
        lie: dict[str, Any] = {}
        if self.random.random() < 0.3:
            lie["total"] = self.random.choice([0, 1, 5_000, 2**128 - 1])
        if self.random.random() < 0.2:
            lie["tokens"] = lie["gflops"] = 2**64 - 1
        header = self.world.header(accounts, **lie)
        self.world.post(header)
        self.posted[(run_id, header.epoch)] = accounts
        self.headers.append(header)

    def claim(self) -> None:
        run_id = self.run()
        final = self.world.by("bob").run(run_id).num_final
        epoch = self.random.randint(0, final)
        accounts = self.posted.get((run_id, epoch))
        if accounts is not None:
            self.world.claim(self.random.choice(WORKERS), epoch, accounts, by="stranger")

    def wait(self) -> None:
        self.world.wait(self.random.choice([1, WINDOW // 2, WINDOW, 10 * WINDOW]))

    def fund(self) -> None:
        self.world.by("operator").fund_run(self.run(), self.random.randint(1, 1_000))

    def stake(self) -> None:
        self.world.by(self.random.choice(WORKERS)).stake(self.random.randint(1, 200))

    def unbond(self) -> None:
        self.world.by(self.random.choice(WORKERS)).unbond(self.random.randint(1, STAKE // 2))

    def withdraw(self) -> None:
        action = self.random.choice(["withdraw_stake", "withdraw_stake_credit"])
        getattr(self.world.by(self.random.choice([*WORKERS, "treasury"])), action)()

    def accuse(self) -> None:
        self.run()
        report = self.world.report(
            self.random.choice(["alice", "bob"]),
            self.random.randint(1, STAKE),
            work_digest=self.random.randbytes(32),
        )
        self.slashes.append(self.world.accuse(report))

    def judge(self) -> None:
        if not self.slashes:
            return
        slash_id = self.random.choice(self.slashes)
        accused = next(
            n
            for n in WORKERS
            if self.world.address(n) == self.world.by("bob").slash(slash_id).worker
        )
        self.random.choice(
            [
                lambda: self.world.by(accused).appeal_slash(slash_id),
                lambda: self.world.by("stranger").execute_slash(slash_id),
                lambda: self.world.by("arbiter").resolve_appeal(slash_id, True),
                lambda: self.world.by("arbiter").resolve_appeal(slash_id, False),
                lambda: self.world.by("stranger").expire_appeal(slash_id),
            ]
        )()

    def permit(self) -> None:
        action = self.random.choice(["renew_permit", "lapse_run"])
        getattr(self.world.by("operator"), action)(self.run())

    def retract(self) -> None:
        if self.headers:
            header = self.random.choice(self.headers)
            named = RetractEpoch(
                header.run_id, header.epoch, header.generation, header.struct_hash()
            )
            signatures = self.world.signed(named.struct_hash(), "v1", "v2")
            self.world.by("bob").retract_epoch(header.run_id, header.epoch, signatures)

    def dispute(self) -> None:
        """Ask for leaves that nobody can show, or call the arbiter: a liar's epoch or an honest one's."""
        if not self.headers:
            return
        header, bob = self.random.choice(self.headers), self.world.by("bob")
        if self.random.random() < 0.5:
            self.disputes.append(bob.demand(header, DisputeKind.WORK, [0]))
        else:
            self.disputes.append(bob.escalate(header, header.data_hash))

    def decide(self) -> None:
        if not self.disputes:
            return
        dispute_id = self.random.choice(self.disputes)
        if self.random.random() < 0.5:
            self.world.by("bob").expire(dispute_id)
        else:
            self.world.by("arbiter").rule(dispute_id, self.random.random() < 0.5)

    def pause(self) -> None:
        if self.random.random() < 0.3:
            self.world.by("guardian").pause(self.random.randint(1, WINDOW))

    def halt(self) -> None:
        action = self.random.choice(["halt_run", "resume_run"])
        getattr(self.world.by(self.random.choice(["operator", "s0", "s1"])), action)(self.run())

    def create(self) -> None:
        if self.world.by("operator").num_runs() < 3:
            params = self.world.params(permit_period=30 * WINDOW)
            self.world.by("operator").create_run(params, BUDGET // 10, "")

    def end(self) -> None:
        if self.random.random() < 0.7:
            return
        run_id, operator = self.run(), self.world.by("operator")
        if operator.run(run_id).status is RunStatus.STOPPED:
            operator.close_run(run_id)
            operator.withdraw_credit(self.world.deployment.token)
        else:
            operator.stop_run(run_id)


@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 20))]
)
def test_no_sequence_of_steps_breaks_the_books(world: World, seed: int) -> None:
    market = Market(world, seed)
    for number in range(STEPS):
        market.step()
        # Reading the books costs sixty calls; what breaks stays broken.
        if number % 5 == 4:
            check(world)
    assert market.successes > STEPS // 4, "the walk must get somewhere"
    assert market.refusals > 0, "and try what it may not"
    drain(world, market)


def drain(world: World, market: Market) -> None:
    """End every run and claim everything: what remains is only what a false root promised nobody.

    Disputes that nobody decides are decided by time, and hold nothing for ever.
    """
    operator = world.by("operator")
    for run_id in range(1, operator.num_runs() + 1):
        if operator.run(run_id).status in (RunStatus.ACTIVE, RunStatus.HALTED):
            operator.stop_run(run_id)
    world.wait(100 * WINDOW)
    for dispute_id in market.disputes:
        if operator.dispute(dispute_id).status is DisputeStatus.OPEN:
            operator.expire(dispute_id)
    assert operator.bonds() == 0
    world.wait(100 * WINDOW)
    for run_id in range(1, operator.num_runs() + 1):
        if operator.run(run_id).status is RunStatus.STOPPED:
            operator.close_run(run_id)
    check(world)
    for run_id in range(1, operator.num_runs() + 1):
        run = operator.run(run_id)
        assert run.status is RunStatus.CLOSED
        assert run.budget == run.committed == run.finalised
        world.run_id = run_id
        for (posted_run, epoch), accounts in market.posted.items():
            is_final = posted_run == run_id and epoch < run.num_final
            stated = operator.epoch(run_id, epoch).account_root
            # What was voided or retracted and posted anew pays by the new accounts.
            is_stated = is_final and stated == account_tree(accounts).root
            for name in WORKERS if is_stated else ():
                try:
                    world.claim(name, epoch, accounts, by="stranger")
                except ContractError as error:
                    assert error.name in ("NothingToClaim", "ClaimExceedsFinal")
    check(world)
