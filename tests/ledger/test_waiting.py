"""Who waits for whom: omissions for demands, never for one another; and what a void leaves of an epoch."""

import pytest

from protocol.canonical import keccak256
from tests.ledger.test_demands import epoch, omission
from tests.stage.court import PENDING, RETRACTED, WORK, Court
from tests.stage.epochs import Epoch
from tests.stage.world import RESPONSE, World


@pytest.fixture
def court(world: World) -> Court:
    court = Court(world)
    for _ in range(3):
        court.open()
    for name in ("stranger", "alice", "bob"):
        court.fund(name)
    return court


def skipping(court: Court) -> tuple[Epoch, list[bytes]]:
    """Return an epoch that skips a receipt of each worker, and the dispute each opened about it."""
    receipts = {
        name: court.receipt(court.work(name, 2, 50), court.now) for name in ("alice", "bob")
    }
    plan = [(name, nonce, 5) for name in ("alice", "bob") for nonce in (1, 3)]
    told = court.post(court.tell(plan))
    disputes = []
    for name, (receipt, signature) in receipts.items():
        method, arguments = omission(told, receipt, signature)
        disputes.append(court.disputed(method, *arguments, by=name))
    return told, disputes


def test_an_omission_waits_for_an_escalation_of_a_later_epoch(court: Court) -> None:
    told, (first, second) = skipping(court)
    later = court.post(court.tell_of([], told))
    dispute = court.disputed("escalate", later.stated, keccak256(b"no data"))
    court.world.wait(RESPONSE)
    for omitted in (first, second):
        assert court.refusal(("expire", (omitted,))) == "EpochDisputed"
    court.do("rule", dispute, False, by="arbiter")
    court.do("expire", first)
    assert (court.stands(told), court.stands(later)) == (RETRACTED, RETRACTED)


def test_a_voided_epoch_is_as_it_was_when_it_was_opened(court: Court) -> None:
    opened = court.ledger.functions.epochOf(court.world.run_id, 0).call()
    told = court.post(court.tell([("alice", 1, 5)]))
    assert court.stands(told) == PENDING
    court.disputed("demand", told.stated, WORK, [0])
    dispute = court.disputed("escalate", told.stated, keccak256(b"padding"))
    court.do("rule", dispute, True, by="arbiter")
    assert tuple(epoch(court, told)) == tuple(opened)
