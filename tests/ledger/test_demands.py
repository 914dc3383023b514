"""What is asked for under a bond: leaves, skipped work, an arbiter. Who answers, who pays, who waits."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from ledger.deployment import deploy
from ledger.errors import ContractError
from protocol.canonical import keccak256
from tests.stage.court import (
    ACCOUNTS,
    ANSWERED,
    ESCALATION,
    FINAL,
    MOOT,
    NONE,
    OMISSION,
    OPEN,
    PENDING,
    RETRACTED,
    UPHELD,
    WORK,
    Court,
    address,
)
from tests.stage.epochs import Epoch
from tests.stage.world import RESPONSE, RULING, STAKE, TERMS, UNBOND, WINDOW, World

BOND = STAKE // 100
MANY = 120


@pytest.fixture
def court(world: World) -> Court:
    court = Court(world)
    for _ in range(3):
        court.open()
    for name in ("stranger", "alice", "bob"):
        court.fund(name)
    return court


@pytest.fixture
def posted(court: Court) -> Epoch:
    """An honest epoch of 120 groups by two workers."""
    plan = [(name, nonce, 5) for name in ("alice", "bob") for nonce in range(1, MANY // 2 + 1)]
    return court.post(court.tell(plan))


def answer(
    court: Court,
    dispute: bytes,
    told: Epoch,
    indices: Sequence[int],
    slots: Sequence[int],
    *,
    by: str = "bob",
) -> Any:
    """Open the demanded work at these places of the demand."""
    places = [indices[slot] for slot in slots]
    work, signatures = [told.work(p) for p in places], [told.signature(p) for p in places]
    arguments = dispute, told.stated, list(indices), list(slots), work, signatures
    return court.do("answerWork", *arguments, by=by)


def finalise(court: Court) -> None:
    court.world.transact(court.ledger.functions.advance(court.world.run_id))


def epoch(court: Court, told: Epoch) -> Any:
    return court.ledger.functions.epochOf(told.header.run_id, told.header.epoch).call()


def status(court: Court, dispute: bytes) -> int:
    return int(court.dispute(dispute).status)


def balance(court: Court, name: str) -> int:
    return int(court.token.functions.balanceOf(court.world.address(name)).call())


# ---------------------------------------------------------------- demands


def test_a_hundred_leaves_are_asked_for_at_once_and_answered_in_parts(
    court: Court, posted: Epoch
) -> None:
    indices = list(range(100))
    before = balance(court, "stranger")
    dispute = court.disputed("demand", posted.stated, WORK, indices)
    assert (len(indices), before - balance(court, "stranger")) == (100, 100 * BOND)
    shown = court.dispute(dispute)
    assert (shown.kind, shown.status, shown.deadline) == (WORK, OPEN, court.now + RESPONSE)
    assert bin(shown.unanswered).count("1") == 100
    court.world.wait(RESPONSE - 5)
    answer(court, dispute, posted, indices, range(99))
    assert court.dispute(dispute).unanswered == 1 << 99
    answer(court, dispute, posted, indices, [99], by="alice")
    # Whoever completed it has a quarter of the bond; the demander has nothing back.
    assert (court.credit("alice"), court.credit("bob")) == (25 * BOND, 0)
    assert (court.credit("treasury"), court.credit("stranger")) == (75 * BOND, 0)
    assert status(court, dispute) == ANSWERED
    # The leaves are known only now, so there is a window more to prove what they show.
    state = epoch(court, posted)
    assert (state.holds, state.rounds, state.finalAt) == (0, 1, court.now + WINDOW)
    court.world.wait(WINDOW)
    finalise(court)
    assert court.stands(posted) == FINAL


def test_an_answer_shows_leaf_signature_and_path_to_everybody(court: Court, posted: Epoch) -> None:
    dispute = court.disputed("demand", posted.stated, WORK, [7])
    receipt = answer(court, dispute, posted, [7], [0])
    [shown] = court.said("WorkAnswered", receipt)
    leaf, _, proof = posted.work(7)
    assert tuple(shown["leaf"].values()) == leaf
    assert (shown["signature"], shown["proof"]) == (posted.signature(7), proof)
    dispute = court.disputed("demand", posted.stated, ACCOUNTS, [1])
    account = posted.account(1)
    receipt = court.do("answerAccounts", dispute, posted.stated, [1], [0], [account])
    [shown] = court.said("AccountAnswered", receipt)
    assert tuple(shown[part] for part in ("worker", "earned", "lastNonce", "index", "proof")) == (
        account
    )


def test_only_what_was_demanded_answers_a_demand(court: Court, posted: Epoch) -> None:
    dispute = court.disputed("demand", posted.stated, WORK, [3, 4])
    work, signature = posted.work(3), posted.signature(3)
    other = posted.bend(data_hash=bytes(32))

    def refusal(told: Epoch, indices: Any, slots: Any, shown: Any, signatures: Any) -> str | None:
        return court.refusal(
            ("answerWork", (dispute, told.stated, indices, slots, shown, signatures))
        )

    assert refusal(posted, [3, 4], [1], [work], [signature]) == "NotDemanded"
    assert refusal(posted, [3, 4], [2], [work], [signature]) == "NotDemanded"
    assert refusal(posted, [3, 5], [0], [work], [signature]) == "WrongDispute"
    assert refusal(other, [3, 4], [0], [work], [signature]) == "NotDisputable"
    assert refusal(posted, [3, 4], [0], [work], [posted.signature(4)]) == "WrongSignature"
    assert refusal(posted, [3, 4], [0, 1], [work], [signature]) == "LengthMismatch"
    assert refusal(posted, [3, 4], [0], [work], []) == "LengthMismatch"
    moved = work[0], 4, work[2]
    assert refusal(posted, [3, 4], [1], [moved], [signature]) == "BadOpening"
    account = [posted.account(0)]
    arguments = dispute, posted.stated, [3, 4], [0], account
    assert court.refusal(("answerAccounts", arguments)) == "WrongDispute"
    assert refusal(posted, [3, 4], [0], [work], [signature]) is None


def test_only_leaves_that_there_are_can_be_asked_for(court: Court, posted: Epoch) -> None:
    """Or a demand for the leaf after the last would void an honest epoch."""

    def refusal(tree: int, indices: list[int]) -> str | None:
        return court.refusal(("demand", (posted.stated, tree, indices)))

    assert refusal(WORK, [MANY]) == refusal(WORK, [0, 2**32 - 1]) == "BadIndices"
    assert refusal(ACCOUNTS, [2]) == refusal(WORK, []) == "BadIndices"
    many = list(range(101))
    assert refusal(WORK, many) == refusal(OMISSION, [0]) == refusal(NONE, [0]) == "BadIndices"
    assert refusal(WORK, many[:100]) is refusal(ACCOUNTS, [1]) is None
    empty = court.post(court.tell([], posted))
    assert court.refusal(("demand", (empty.stated, WORK, [0]))) == "BadIndices"
    assert court.refusal(("demand", (empty.stated, ACCOUNTS, [0]))) is None


def test_withheld_leaves_become_money_unless_they_are_asked_for(court: Court) -> None:
    # Alice's account grows out of a work tree that nobody has ever seen.
    hidden = court.tell([("alice", 1, 500)]).bend(work_root=keccak256(b"hidden"))
    court.post(hidden)
    with court.aside():
        court.world.wait(WINDOW)
        paid = balance(court, "alice")
        court.world.transact(court.ledger.functions.claim(1, 0, hidden.account(0)))
        assert balance(court, "alice") - paid == 500 * 10
    court.world.wait(WINDOW // 2)
    dispute = court.disputed("demand", hidden.stated, WORK, [0])
    # The hold outlasts the window, and the claim with it.
    deadline = court.dispute(dispute).deadline
    court.world.clock.now = epoch(court, hidden).finalAt
    finalise(court)
    assert court.stands(hidden) == PENDING
    court.world.clock.now = deadline - 1
    assert court.refusal(("expire", (dispute,))) == "TooEarly"
    court.world.clock.now = deadline
    work, signature = hidden.work(0), hidden.signature(0)
    late = "answerWork", (dispute, hidden.stated, [0], [0], [work], [signature])
    assert court.refusal(late) == "TooLate"
    court.do("expire", dispute, by="bob")
    assert (status(court, dispute), court.stands(hidden)) == (UPHELD, NONE)
    with pytest.raises(ContractError, match="EpochNotFinal"):
        court.world.transact(court.ledger.functions.claim(1, 0, hidden.account(0)))
    # The demander is the finder, whoever sends the last call, and has its bond back.
    assert [court.stake(name) for name in ("v0", "v1", "v2")] == [0, 0, STAKE]
    assert court.credit("stranger") == BOND + 2 * (STAKE // 4)
    assert (court.credit("bob"), court.credit("treasury")) == (0, 2 * STAKE - 2 * (STAKE // 4))
    assert court.registry.functions.bonds().call() == 0


def test_answers_put_finality_off_a_bounded_number_of_times(court: Court, posted: Epoch) -> None:
    most = court.disputes.functions.MAX_ROUNDS().call()
    for index in range(most):
        dispute = court.disputed("demand", posted.stated, WORK, [index])
        answer(court, dispute, posted, [index], [0])
    # The rounds are used up within seconds, and yet the first window is everybody's.
    assert epoch(court, posted).rounds == most
    final_at = epoch(court, posted).finalAt
    dispute = court.disputed("demand", posted.stated, WORK, [most])
    answer(court, dispute, posted, [most], [0])
    state = epoch(court, posted)
    assert (state.rounds, state.finalAt) == (most, final_at)
    court.world.clock.now = state.postedAt + WINDOW - 1
    with court.aside():
        court.disputed("demand", posted.stated, WORK, [100])
    court.world.clock.now = state.postedAt + WINDOW
    assert court.refusal(("demand", (posted.stated, WORK, [100]))) == "TooManyRounds"
    court.world.clock.now = final_at
    finalise(court)
    assert court.stands(posted) == FINAL


def test_nothing_is_held_that_could_be_final_by_now(court: Court, posted: Epoch) -> None:
    court.world.clock.now = epoch(court, posted).finalAt
    for call in (
        ("demand", (posted.stated, WORK, [0])),
        ("escalate", (posted.stated, keccak256(b"late"))),
    ):
        assert court.refusal(call) == "TooLate"
    court.world.clock.now -= 1
    court.disputed("demand", posted.stated, WORK, [0])


def test_a_dispute_about_a_voided_epoch_is_moot_and_touches_nothing(court: Court) -> None:
    lie = court.post(court.tell([("alice", 1, 5)]).bend(total=6))
    demand = court.disputed("demand", lie.stated, WORK, [0])
    appeal = court.disputed("escalate", lie.stated, keccak256(b"bad"), by="bob")
    with pytest.raises(ContractError, match="TooEarly"):
        court.do("expire", demand)
    court.do("proveBadEdge", lie.stated, lie.work(0), by="alice")
    # The same place is told truly now, and somebody holds it for reasons of their own.
    true = court.tell([("alice", 1, 5)]).bend(generation=1)
    stake = court.registry.functions.stake(STAKE)
    for name in ("v0", "v1"):
        approve = court.token.functions.approve(court.registry.address, STAKE)
        court.world.transact(approve, name)
        court.world.transact(stake, name)
    court.post(true)
    held = court.disputed("escalate", true.stated, keccak256(b"mine"), by="bob")
    arguments = demand, lie.stated, [0], [0], [lie.work(0)], [lie.signature(0)]
    assert court.refusal(("answerWork", arguments)) == "NotDisputable"
    assert court.refusal(("rule", (appeal, True)), by="arbiter") == "NotDisputable"
    for dispute in (demand, appeal):
        court.do("expire", dispute)
        assert status(court, dispute) == MOOT
    assert court.credit("stranger") == BOND
    state = epoch(court, true)
    assert (state.holds, status(court, held), court.stands(true)) == (1, OPEN, PENDING)


def test_windows_that_stake_would_not_outlast_are_refused(court: Court) -> None:
    world = court.world
    offices = ("treasury", "guardian", "arbiter")
    people: dict[str, Any] = {name: world.address(name) for name in offices}
    most = UNBOND // 2 - RULING - 1
    cases: list[tuple[dict[str, Any], bool]] = [
        ({"response_seconds": most}, True),
        ({"response_seconds": most + 1}, False),
        ({"appeal_seconds": UNBOND - 1}, True),
        ({"appeal_seconds": UNBOND}, False),
        ({"response_seconds": 0}, False),
        ({"ruling_seconds": UNBOND // 2}, False),
    ]
    for windows, is_fit in cases:
        terms = replace(TERMS, **people, **windows)
        with court.aside():
            if is_fit:
                deploy(world.node, world.people["deployer"], terms)
            else:
                with pytest.raises(ContractError, match="BadWindow"):
                    deploy(world.node, world.people["deployer"], terms)


# ---------------------------------------------------------------- omissions


def omission(told: Epoch, receipt: Any, signature: bytes) -> Any:
    """Return the call that shows a receipt's work between its neighbours, and not paid before."""
    _, worker, nonce, *_ = receipt[0]
    around, before = told.work_around(worker, nonce), told.before_witness(worker)
    return "proveOmission", (told.stated, receipt, signature, around, before)


def test_skipped_work_is_lost_unless_its_receipt_is_shown(court: Court) -> None:
    """The worker's next nonce is paid, so this one never can be."""
    work = court.work("alice", 2, 50)
    receipt, signature = court.receipt(work, court.now)
    told = court.post(court.tell([("alice", 1, 5), ("alice", 3, 5), ("bob", 1, 5)]))
    with court.aside():
        # Epoch again without the omission, what was skipped would be a stale nonce.
        later = court.post(court.tell_of([(work, court.signed(work, "alice"))], told))
        mine = next(i for i, a in enumerate(later.before) if a.worker == address("alice"))
        stale = later.stated, later.work(0), later.account_before(mine)
        assert court.takes(("proveStaleNonce", stale))
    court.world.transact(court.token.functions.mint(address("operator"), STAKE), "operator")
    approve = court.token.functions.approve(court.registry.address, STAKE)
    court.world.transact(approve, "operator")
    me = court.world.address("operator")
    court.world.transact(court.registry.functions.register(STAKE, me, me, b""), "operator")
    name, arguments = omission(told, receipt, signature)
    dispute = court.disputed(name, *arguments, by="alice")
    shown = court.dispute(dispute)
    assert (shown.kind, shown.worker, shown.bond) == (OMISSION, address("alice"), BOND)
    assert court.refusal(("answerOmission", (dispute, 0, bytes(32), []))) == "NotAccused"
    court.world.wait(RESPONSE)
    court.do("expire", dispute)
    assert (status(court, dispute), court.stands(told)) == (UPHELD, RETRACTED)
    # The operator pays, out of its own stake. Verifiers sign what they are shown.
    assert [court.stake(name) for name in ("operator", "v0", "v1", "v2")] == [0, *[STAKE] * 3]
    assert court.credit("alice") == BOND + STAKE // 4
    assert court.credit("treasury") == STAKE - STAKE // 4


def test_an_accusation_answers_for_skipped_work(court: Court) -> None:
    world = court.world
    receipt, signature = court.receipt(court.work("alice", 2, 50), court.now)
    told = court.post(court.tell([("alice", 1, 5), ("alice", 3, 5)]))
    world.accuse(world.report("alice", 1))
    name, arguments = omission(told, receipt, signature)
    dispute = court.disputed(name, *arguments, by="alice")
    court.do("answerOmission", dispute, 0, bytes(32), [])
    assert status(court, dispute) == ANSWERED
    assert court.credit("stranger") == BOND // 4
    state = epoch(court, told)
    # Nothing was learnt that needs a window more.
    assert (state.holds, state.rounds, state.finalAt) == (0, 0, state.postedAt + WINDOW)


def test_old_work_is_overdue_after_a_settle_window(court: Court) -> None:
    world = court.world
    work = court.work("alice", 1, 50)
    receipt, signature = court.receipt(work, court.now)
    for early, refusal in ((1, "NotYetDue"), (0, None)):
        with court.aside():
            told: Epoch | None = None
            for nonce in (1, 2, 3):
                told = court.post(court.tell([("bob", nonce, 5)], told))
            world.clock.now = receipt[1] + WINDOW - early
            court.open()
            last = court.post(court.tell([("bob", 9, 5)], told))
            assert court.refusal(omission(last, receipt, signature)) == refusal


def test_only_work_that_could_have_been_paid_can_have_been_skipped(court: Court) -> None:
    world = court.world
    told = court.tell([("alice", 1, 5), ("alice", 3, 5), ("bob", 4, 5)])

    def refusal(epoch: Epoch, name: str = "alice", at: int | None = None, **changes: Any) -> Any:
        work = court.work(name, changes.pop("nonce", 2), 50, **changes)
        received = court.now if at is None else at
        receipt, signature = court.receipt(work, received)
        return court.refusal(omission(epoch, receipt, signature))

    with court.aside():
        court.post(told)
        assert refusal(told) is None
        # Paid; paid under another name; received after the epoch was posted.
        assert refusal(told, nonce=1) == refusal(told, nonce=3) == "BadWitness"
        assert refusal(told, at=court.now + 1) == "NoFault"
        # False by itself, so that paying it would have been the fraud.
        assert (
            refusal(told, gflops=7)
            == refusal(told, nonce=0)
            == refusal(told, run_id=9)
            == ("NoFault")
        )
        assert refusal(told, submitted_at=court.now + 1) == "NoFault"
        # Nobody else was paid later, so nothing is lost yet.
        assert refusal(told, nonce=4) == "NotYetDue"
        # Whom a leaked key of the operator invented can neither be paid nor reported.
        assert refusal(told, name="w2") == "NotJoined"
        second = court.post(court.tell([("alice", 9, 5)], told))
        assert refusal(second, nonce=3) == "NoFault"
        assert refusal(second, nonce=4) is None
    # Dated after a halt that came before the receipt's answer: not owed, so not skipped.
    owed = court.now + 1
    world.clock.now = owed
    world.transact(court.ledger.functions.haltRun(1, bytes(32)), "operator")
    court.post(told)
    assert refusal(told, submitted_at=owed) is None
    assert refusal(told, submitted_at=owed + 1) == "NoFault"


def test_only_the_operators_receipt_counts(court: Court) -> None:
    told = court.post(court.tell([("alice", 1, 5), ("alice", 3, 5)]))
    work = court.work("alice", 2, 50)
    for by in ("alice", "v0", "stranger"):
        receipt, signature = court.receipt(work, court.now, by=by)
        assert court.refusal(omission(told, receipt, signature)) == "NotOperatorsKey"
    receipt, signature = court.receipt(work, court.now)
    assert court.refusal(omission(told, receipt, b"")) == "NotOperatorsKey"
    other = court.work("alice", 2, 51)
    swapped = tuple(other.__dict__.values()), receipt[1]
    assert court.refusal(omission(told, swapped, signature)) == "NotOperatorsKey"
    assert court.refusal(omission(told, receipt, signature), by="alice") is None


def test_an_epoch_that_was_taken_back_skips_nothing(court: Court) -> None:
    told = court.post(court.tell([("alice", 1, 5), ("alice", 3, 5)]))
    receipt, signature = court.receipt(court.work("alice", 2, 50), court.now)
    court.retract(told)
    assert court.stands(told) == RETRACTED
    # It pays nobody, so it skips nobody: what was received can still be paid.
    assert court.refusal(omission(told, receipt, signature)) == "NoFault"


# ---------------------------------------------------------------- escalations


def test_an_arbiter_that_finds_fraud_voids_and_slashes(court: Court, posted: Epoch) -> None:
    before = balance(court, "stranger")
    reason = keccak256(b"its file was never published")
    dispute = court.disputed("escalate", posted.stated, reason)
    assert before - balance(court, "stranger") == STAKE
    assert court.dispute(dispute).kind == ESCALATION
    court.world.wait(RULING - 5)
    finalise(court)
    assert court.stands(posted) == PENDING
    for name in ("stranger", "operator", "v0", "guardian"):
        with pytest.raises(ContractError, match="AccessControlUnauthorizedAccount"):
            court.do("rule", dispute, True, by=name)
    court.do("rule", dispute, True, by="arbiter")
    assert (status(court, dispute), court.stands(posted)) == (UPHELD, NONE)
    assert [court.stake(name) for name in ("v0", "v1", "v2")] == [0, 0, STAKE]
    assert court.credit("stranger") == STAKE + 2 * (STAKE // 4)
    assert court.credit("arbiter") == 0


def test_an_arbiter_that_finds_nothing_costs_the_accuser_its_bond(
    court: Court, posted: Epoch
) -> None:
    dispute = court.disputed("escalate", posted.stated, keccak256(b"spite"))
    court.do("rule", dispute, False, by="arbiter")
    assert (status(court, dispute), court.stands(posted)) == (ANSWERED, PENDING)
    assert (court.credit("stranger"), court.credit("arbiter")) == (0, 0)
    assert court.credit("treasury") == STAKE
    assert court.refusal(("rule", (dispute, True)), by="arbiter") == "WrongDispute"
    court.world.clock.now = epoch(court, posted).finalAt
    finalise(court)
    assert court.stands(posted) == FINAL


def test_whoever_says_the_same_twice_is_heard_once(court: Court, posted: Epoch) -> None:
    for call in (
        ("escalate", (posted.stated, keccak256(b"spite"))),
        ("demand", (posted.stated, WORK, [0])),
    ):
        court.disputed(call[0], *call[1])
        assert court.refusal(call) == "WrongDispute"
        assert court.refusal(call, by="bob") is None
