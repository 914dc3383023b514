"""Disputes through the client: each call fills its struct, allows its bond and finds its id."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest

from audit.published import Opened, account_witness
from ledger.calls import Draft
from ledger.state import DisputeKind, DisputeStatus, WorkOpening
from protocol.canonical import keccak256
from protocol.epoch import EpochHeader
from protocol.messages import Contribution, EpochFile
from protocol.rollout import Receipt, Work
from protocol.signing import Domain, sign
from tests.stage.books import NUM_PARAMETERS, Book, accounts_of, header_of, opened
from tests.stage.world import BUDGET, RESPONSE, RULING, STAKE, World, refused

BOND = STAKE // 100


@dataclass
class Docket:
    """A posted epoch of five groups by two workers, and its file."""

    world: World
    book: Book
    file: EpochFile
    opened: Opened

    @property
    def header(self) -> EpochHeader:
        return self.opened.header

    def work(self, *places: int) -> list[WorkOpening]:
        return [self.opened.work_at(place) for place in places]

    def signatures(self, *places: int) -> list[bytes]:
        return [self.file.contributions[place].signature for place in places]

    def stake(self, name: str) -> int:
        return self.world.by(name).stake_of(self.world.address(name))

    def wallet(self, name: str) -> int:
        return self.world.by(name).balance(self.world.address(name))

    def credit(self, name: str) -> int:
        return self.world.by(name).stake_credit(self.world.address(name))


def docket(world: World, *, skipping: Sequence[int] = ()) -> Docket:
    """Post an honest epoch, or one that leaves out alice's groups of these nonces."""
    world.run_id = world.by("operator").create_run(
        world.params(num_parameters=NUM_PARAMETERS), BUDGET, ""
    )
    for name in ("alice", "bob"):
        world.by(name).join_run(world.run_id)
    domain = Domain(world.deployment.chain_id, world.deployment.ledger)
    keys = {name: bytes(world.people[name].key) for name in ("alice", "bob", "operator")}
    book = Book(domain, world.run_id, keys, world.by("bob").block_time())
    world.open()
    work = [book.work("alice", nonce) for nonce in (1, 2, 3) if nonce not in skipping]
    file = book.file(0, [*work, *(book.work("bob", nonce) for nonce in (1, 2))])
    world.post(header_of(file))
    world.by("stranger").mint(world.address("stranger"), 100 * BOND + STAKE)
    return Docket(world, book, file, opened(file))


def test_a_demand_is_answered_in_parts_and_its_bond_is_lost(world: World) -> None:
    case, asker = docket(world), world.by("stranger")
    before, asked = case.wallet("stranger"), [0, 2, 4]
    dispute_id = asker.demand(case.header, DisputeKind.WORK, asked)
    assert case.wallet("stranger") == before - 3 * BOND
    found = asker.dispute(dispute_id)
    assert (found.kind, found.status) == (DisputeKind.WORK, DisputeStatus.OPEN)
    assert (found.unanswered, found.bond, found.run_id) == (0b111, 3 * BOND, world.run_id)
    assert asker.epoch(world.run_id, 0).holds == 1
    assert asker.bonds() == 3 * BOND
    answer = world.by("bob").answer_work
    answer(dispute_id, case.header, asked, [1], case.work(2), case.signatures(2))
    assert asker.dispute(dispute_id).unanswered == 0b101
    answer(dispute_id, case.header, asked, [0, 2], case.work(0, 4), case.signatures(0, 4))
    assert asker.dispute(dispute_id).status is DisputeStatus.ANSWERED
    assert asker.epoch(world.run_id, 0).holds == 0
    assert (case.credit("bob"), case.credit("treasury")) == (
        3 * BOND // 4,
        3 * BOND - 3 * BOND // 4,
    )
    shown = [e.values["index"] for e in asker.events().poll() if e.name == "WorkAnswered"]
    assert shown == [2, 0, 4]


def test_accounts_are_demanded_and_opened_too(world: World) -> None:
    case = docket(world)
    dispute_id = world.by("stranger").demand(case.header, DisputeKind.ACCOUNTS, [0, 1])
    openings = [case.opened.account_at(place) for place in (0, 1)]
    world.by("bob").answer_accounts(dispute_id, case.header, [0, 1], [0, 1], openings)
    assert world.by("bob").dispute(dispute_id).status is DisputeStatus.ANSWERED


def test_silence_voids_the_epoch_and_its_signers_pay(world: World) -> None:
    case, asker = docket(world), world.by("stranger")
    dispute_id = asker.demand(case.header, DisputeKind.WORK, [1])
    deadline = asker.dispute(dispute_id).deadline
    assert deadline == asker.block_time() + RESPONSE
    world.clock.now = deadline - 1
    with refused("TooEarly"):
        asker.expire(dispute_id)
    world.clock.now = deadline
    asker.expire(dispute_id)
    assert asker.dispute(dispute_id).status is DisputeStatus.UPHELD
    assert asker.run(world.run_id).generation == 1
    assert (case.stake("v0"), case.stake("v1"), case.stake("v2")) == (0, 0, STAKE)
    assert case.credit("stranger") == BOND + 2 * (STAKE // 4)
    asker.withdraw_stake_credit()


def skipped(case: Docket, nonce: int) -> tuple[Work, Receipt]:
    """Return alice's work of a nonce and the orchestrator's receipt for it."""
    item: Contribution = case.book.work("alice", nonce)
    fields = {name: getattr(item, name) for name in Work.model_fields if name != "run_id"}
    work = Work.model_validate({"run_id": case.book.run_id, **fields})
    digest = case.book.domain.digest(work)
    promise = Receipt(
        run_id=work.run_id,
        worker=work.worker,
        nonce=nonce,
        work_digest=digest,
        received_at=case.book.at,
        rejection="",
        detail="",
        signature=bytes(65),
    )
    signature = sign(case.book.keys["operator"], case.book.domain.digest(promise))
    return work, promise.model_copy(update={"signature": signature})


def prove(case: Docket, by: str = "alice") -> bytes:
    work, receipt = skipped(case, 2)
    around = case.opened.work_around(work.worker, work.nonce)
    before = account_witness(accounts_of(None), work.worker)
    assert around is not None
    assert before is not None
    return case.world.by(by).prove_omission(case.header, work, receipt, around, before)


def test_an_omission_costs_the_operator_and_not_the_verifiers(world: World) -> None:
    case, operator = docket(world, skipping=(2,)), world.by("operator")
    operator.register(STAKE, world.address("operator"), world.address("operator"))
    dispute_id = prove(case)
    found = operator.dispute(dispute_id)
    assert (found.kind, found.worker) == (DisputeKind.OMISSION, world.address("alice"))
    assert found.bond == BOND
    world.clock.now = found.deadline
    world.by("alice").expire(dispute_id)
    assert (case.stake("operator"), case.stake("v0")) == (0, STAKE)
    assert operator.run(world.run_id).num_posted == 0


def test_an_omission_of_condemned_work_is_answered_by_the_accusation(world: World) -> None:
    case = docket(world, skipping=(2,))
    dispute_id = prove(case)
    with refused("NotAccused"):
        world.by("operator").answer_omission(dispute_id)
    world.accuse(world.report("alice"))
    world.by("operator").answer_omission(dispute_id)
    assert world.by("bob").dispute(dispute_id).status is DisputeStatus.ANSWERED


def test_paid_work_was_not_omitted(world: World) -> None:
    case = docket(world)
    with pytest.raises(Exception, match=r"NoFault|BadWitness|NotAdjacent"):
        prove(case)


@pytest.mark.parametrize("is_fraud", [True, False])
def test_an_escalation_waits_for_the_arbiter(world: World, is_fraud: bool) -> None:
    case = docket(world)
    dispute_id = world.by("stranger").escalate(case.header, keccak256(b"the file is withheld"))
    with refused("AccessControlUnauthorizedAccount"):
        world.by("guardian").rule(dispute_id, is_fraud)
    world.by("arbiter").rule(dispute_id, is_fraud)
    upheld = DisputeStatus.UPHELD if is_fraud else DisputeStatus.ANSWERED
    assert world.by("bob").dispute(dispute_id).status is upheld
    assert world.by("bob").run(world.run_id).generation == int(is_fraud)
    assert (case.stake("v0") == 0) == is_fraud


def test_a_silent_arbiter_lets_the_epoch_stand_and_returns_the_bond(world: World) -> None:
    case, asker = docket(world), world.by("stranger")
    dispute_id = asker.escalate(case.header, keccak256(b"reason"))
    deadline = asker.dispute(dispute_id).deadline
    assert deadline == asker.block_time() + RULING
    world.clock.now = deadline
    asker.expire(dispute_id)
    assert case.credit("stranger") == STAKE
    asker.advance(world.run_id)
    assert asker.run(world.run_id).num_final == 1


def test_a_proof_can_be_drafted_by_one_and_sent_by_another(world: World) -> None:
    case = docket(world)
    honest = world.by("bob").draft("prove_bad_edge", case.header, case.work(0)[0])
    assert honest.function == "proveBadEdge"
    assert honest.approval is None
    with refused("NoFault"):
        world.by("stranger").gas_of(honest)
    lie = replace(case.header, total=case.header.total + 7, epoch=1)
    world.open()
    lie = replace(lie, prev_account_root=case.header.account_root)
    world.post(lie)
    draft: Draft = world.by("bob").draft("prove_bad_edge", lie, case.work(4)[0])
    assert world.by("stranger").gas_of(draft) < 400_000
    world.by("stranger").send(draft)
    assert world.by("bob").run(world.run_id).num_posted == 1
    assert case.credit("stranger") == 2 * (STAKE // 4)


def test_a_bond_is_approved_exactly_and_a_draft_names_the_approval(world: World) -> None:
    case, asker = docket(world), world.by("stranger")
    draft = asker.draft("demand", case.header, DisputeKind.WORK, [0])
    assert draft.approval is not None
    assert draft.approval.arguments == {"spender": world.deployment.registry, "value": BOND}
    assert asker.gas_of(draft) > 0
    before = case.wallet("stranger")
    asker.send(draft)
    assert case.wallet("stranger") == before - BOND
