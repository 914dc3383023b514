"""`rollcall appeal`: one's accusations, the appeal, the ruling, and what time decides."""

from ledger.state import SlashStatus
from protocol.canonical import keccak256
from rollcall.cli import appeal
from tests.contracts.world import APPEAL, RULING, STAKE, World
from tests.rollcall.counter import Counter, told


def accused(world: World) -> str:
    return "0x" + world.accuse(world.report("alice")).hex()


def state(world: World, text: str) -> SlashStatus:
    return world.by("alice").slash(appeal.word_of(text)).status


def test_accusations_are_listed_for_the_accused_and_for_everyone(world: World) -> None:
    counter = Counter.of(world, "alice")
    appeal.show(counter.desk, worker=None, everyone=False)
    assert counter.said == f"nobody accuses {world.address('alice')}"
    text = accused(world)
    appeal.show(counter.desk, worker=None, everyone=False)
    assert text in counter.said
    assert "proposed, 0.000000000000001 RTEST held" in counter.said
    assert "to be appealed until" in counter.said
    other = Counter.of(world, "bob")
    appeal.show(other.desk, worker=None, everyone=False)
    assert text not in other.said
    appeal.show(other.desk, worker=None, everyone=True)
    assert text in other.said


def test_a_wrongful_slash_is_appealed_and_reversed(world: World) -> None:
    text = accused(world)
    counter = Counter.of(world, "alice")
    appeal.appeal(counter.desk, text, "my card is of another class")
    assert keccak256(b"my card is of another class").hex() in counter.said
    with told(world, counter, "is appealed: it cannot be appealed"):
        appeal.appeal(counter.desk, text, "again")
    stranger = Counter.of(world, "stranger")
    with told(world, stranger, "has no such office"):
        appeal.rule(stranger.desk, text, False)
    appeal.rule(Counter.of(world, "arbiter").desk, text, False)
    assert state(world, text) is SlashStatus.DISMISSED
    assert world.by("alice").stake_of(world.address("alice")) == STAKE


def test_what_nobody_appeals_is_executed_once_its_time_is_up(world: World) -> None:
    text = accused(world)
    stranger = Counter.of(world, "stranger")
    with told(world, stranger, "this can be done from"):
        appeal.settle(stranger.desk, text)
    world.wait(APPEAL)
    late = Counter.of(world, "alice")
    with told(world, late, "the time to appeal .* ended at"):
        appeal.appeal(late.desk, text, "too late")
    appeal.settle(stranger.desk, text)
    assert state(world, text) is SlashStatus.EXECUTED
    with told(world, stranger, "is executed already"):
        appeal.settle(stranger.desk, text)


def test_silence_of_the_arbiter_acquits(world: World) -> None:
    text = accused(world)
    appeal.appeal(Counter.of(world, "alice").desk, text, "not me")
    world.wait(RULING + 1)
    stranger = Counter.of(world, "stranger")
    appeal.show(stranger.desk, worker=world.address("alice"), everyone=False)
    assert "the arbiter kept silent" in stranger.said
    appeal.settle(stranger.desk, text)
    assert state(world, text) is SlashStatus.DISMISSED


def test_only_the_accused_may_appeal_and_unknown_ids_are_told(world: World) -> None:
    text = accused(world)
    bob = Counter.of(world, "bob")
    with told(world, bob, f"is neither {world.address('alice')}, who is accused"):
        appeal.appeal(bob.desk, text, "on her behalf")
    with told(world, bob, "there is no accusation 0x"):
        appeal.appeal(bob.desk, "0x" + "00" * 32, "nothing")
    with told(world, bob, "has 4 hex digits, an id has 64"):
        appeal.appeal(bob.desk, "0x1234", "nothing")
    with told(world, bob, "there is neither an accusation nor a dispute"):
        appeal.settle(bob.desk, "0x" + "00" * 32)


def test_the_arbiter_rules_on_an_escalated_epoch(world: World) -> None:
    accounts = world.accounts(alice=4)
    world.open()
    header = world.header(accounts)
    world.post(header)
    world.by("bob").mint(world.address("bob"), STAKE)
    dispute = world.by("bob").escalate(header, keccak256(b"the data is withheld"))
    text = "0x" + dispute.hex()
    arbiter = Counter.of(world, "arbiter")
    with told(world, Counter.of(world, "alice"), "has no such office"):
        appeal.rule(Counter.of(world, "alice").desk, text, True)
    appeal.rule(arbiter.desk, text, True)
    assert world.by("bob").run(world.run_id).num_posted == 0
    with told(world, arbiter, "is upheld already"):
        appeal.rule(arbiter.desk, text, True)
