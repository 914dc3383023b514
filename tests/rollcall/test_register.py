"""`rollcall run list | show`: the register of runs from the chain alone."""

import io
import json

from rich.console import Console

from rollcall.cli.register import printable, show_all, show_one
from tests.stage.counter import Counter
from tests.stage.world import BUDGET, World


def printed(width: int = 200) -> Console:
    return Console(file=io.StringIO(), width=width)


def text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_every_run_is_listed_with_what_it_said_of_itself(world: World) -> None:
    ledger = world.by("operator")
    params = world.params(
        licence="Apache-2.0", intended_use="arithmetic", parent_run=1, compute_cap=500
    )
    ledger.create_run(params, BUDGET, "http://market")
    counter = Counter.of(world, "stranger")
    found = counter.desk.ledger.runs()
    assert [item.run_id for item in found] == [1, 2]
    second = found[1]
    assert (second.licence, second.intended_use) == ("Apache-2.0", "arithmetic")
    assert (second.parent_run, second.spec_uri) == (1, "http://market")
    console = printed()
    show_all(counter.desk, console, as_json=False)
    assert "Apache-2.0" in text(console)
    assert "0 of 500" in text(console)


def test_the_register_is_json_for_programs(world: World) -> None:
    world.settle(alice=4)
    console = printed()
    show_all(Counter.of(world, "stranger").desk, console, as_json=True)
    [run] = json.loads(text(console))
    assert run["num_final"] == 1
    assert run["tokens"] == 7
    assert run["status"] == "active"


def test_a_lapsed_permit_shows_as_the_status(world: World) -> None:
    run = world.by("operator").run(world.run_id)
    world.wait(run.permit_period + 1)
    console = printed()
    show_one(Counter.of(world, "stranger").desk, world.run_id, console, as_json=False)
    assert "lapsed" in text(console)


def test_one_run_shows_terms_people_money_and_epochs(world: World) -> None:
    world.settle(alice=4)
    console = printed()
    show_one(Counter.of(world, "stranger").desk, world.run_id, console, as_json=False)
    shown = text(console)
    for expected in ("1 opened, 1 posted, 1 final", world.address("v2"), world.address("s1")):
        assert expected in shown


def test_an_operators_text_cannot_steer_the_terminal(world: World) -> None:
    hostile = "\x1b[2J[red]" + "x" * 200
    world.by("operator").create_run(world.params(licence=hostile), BUDGET, "uri")
    assert "\x1b" not in printable(hostile)
    assert len(printable(hostile)) == 60
    console = printed(width=400)
    show_all(Counter.of(world, "stranger").desk, console, as_json=False)
    assert "[red]" in text(console)
    assert "\x1b" not in text(console)
