"""`rollcall appeal`: one's accusations, the appeal, the ruling, and what time decides."""

from ledger.state import SlashStatus
from protocol.canonical import keccak256
from rollcall.cli.appeal import Ruling, appeal
from rollcall.cli.desk import word_of
from tests.stage.counter import Counter, told
from tests.stage.world import APPEAL, RULING, STAKE, World


def accused(world: World) -> str:
    return "0x" + world.accuse(world.report("alice")).hex()


def state(world: World, text: str) -> SlashStatus:
    return world.by("alice").slash(word_of(text, "an id")).status


def test_accusations_are_listed_for_the_accused_and_for_everyone(world: World) -> None:
    counter = Counter.of(world, "alice")
    appeal(counter.desk)
    assert counter.said == f"nobody accuses {world.address('alice')}"
    text = accused(world)
    appeal(counter.desk)
    assert text in counter.said
    assert "proposed, 0.000000000000001 RTEST held" in counter.said
    assert "to be appealed until" in counter.said
    other = Counter.of(world, "bob")
    appeal(other.desk)
    assert text not in other.said
    appeal(other.desk, everyone=True)
    assert text in other.said


def test_a_wrongful_slash_is_appealed_and_reversed(world: World) -> None:
    text = accused(world)
    counter = Counter.of(world, "alice")
    appeal(counter.desk, text, reason="my card is of another class")
    assert keccak256(b"my card is of another class").hex() in counter.said
    with told(world, counter, "is appealed: it cannot be appealed"):
        appeal(counter.desk, text, reason="again")
    stranger = Counter.of(world, "stranger")
    with told(world, stranger, "has no such office"):
        appeal(stranger.desk, text, rule=Ruling.INNOCENT)
    appeal(Counter.of(world, "arbiter").desk, text, rule=Ruling.INNOCENT)
    assert state(world, text) is SlashStatus.DISMISSED
    assert world.by("alice").stake_of(world.address("alice")) == STAKE


def test_what_nobody_appeals_is_executed_once_its_time_is_up(world: World) -> None:
    text = accused(world)
    stranger = Counter.of(world, "stranger")
    with told(world, stranger, "this can be done from"):
        appeal(stranger.desk, text, settle=True)
    world.wait(APPEAL)
    late = Counter.of(world, "alice")
    with told(world, late, "the time to appeal .* ended at"):
        appeal(late.desk, text, reason="too late")
    appeal(stranger.desk, text, settle=True)
    assert state(world, text) is SlashStatus.EXECUTED
    with told(world, stranger, "is executed already"):
        appeal(stranger.desk, text, settle=True)


def test_silence_of_the_arbiter_acquits(world: World) -> None:
    text = accused(world)
    appeal(Counter.of(world, "alice").desk, text, reason="not me")
    world.wait(RULING + 1)
    stranger = Counter.of(world, "stranger")
    appeal(stranger.desk, worker=world.address("alice"))
    assert "the arbiter kept silent" in stranger.said
    appeal(stranger.desk, text, settle=True)
    assert state(world, text) is SlashStatus.DISMISSED


def test_only_the_accused_may_appeal_and_unknown_ids_are_told(world: World) -> None:
    text = accused(world)
    bob = Counter.of(world, "bob")
    with told(world, bob, f"is neither {world.address('alice')}, who is accused"):
        appeal(bob.desk, text, reason="on her behalf")
    with told(world, bob, "there is no accusation 0x"):
        appeal(bob.desk, "0x" + "00" * 32, reason="nothing")
    with told(world, bob, r"has 4 hex digits, an id \(.*\) has 64"):
        appeal(bob.desk, "0x1234", reason="nothing")
    with told(world, bob, "there is neither an accusation nor a dispute"):
        appeal(bob.desk, "0x" + "00" * 32, settle=True)


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
        appeal(Counter.of(world, "alice").desk, text, rule=Ruling.GUILTY)
    appeal(arbiter.desk, text, rule=Ruling.GUILTY)
    assert world.by("bob").run(world.run_id).num_posted == 0
    with told(world, arbiter, "is upheld already"):
        appeal(arbiter.desk, text, rule=Ruling.GUILTY)
