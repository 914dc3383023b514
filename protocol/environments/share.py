"""Which tasks of an environment a run leases, and which it keeps to measure accuracy: never the same ones.

An environment without an end has its held-out tasks from `HELD_OUT_START` on, where `arithmetic` keeps sums that no
lower index gives. One of so many rows gives its last ones. Pure.
"""

from dataclasses import dataclass

from protocol.environments.arithmetic import HELD_OUT_START
from protocol.environments.base import Environment
from protocol.errors import Malformed
from protocol.run import RunSpec


@dataclass(frozen=True, slots=True)
class Share:
    """Tasks from 0 to `num_tasks` are leased, those from `held_out_start` on are not."""

    num_tasks: int
    held_out_start: int


def shared(made: Environment, *, num_tasks: int | None, num_held_out: int) -> Share:
    """Return a run's share of an environment; `num_tasks` None for all that are not held out.

    Raises `Malformed` with the settings that ask for more than there is.
    """
    rows = made.num_problems
    most = HELD_OUT_START if rows is None else rows - num_held_out
    if most < 1:
        raise Malformed(
            f"{made.name} has {rows} rows here, and num_held_out = {num_held_out} leaves none to lease: lower it"
        )
    if num_tasks is not None and num_tasks > most:
        there_are = (
            f"{rows} rows here, {num_held_out} held out" if rows else f"{most} below those held out"
        )
        raise Malformed(
            f"num_tasks = {num_tasks} is more than {made.name} has ({there_are}): set it to {most} "
            "or less, or leave it out"
        )
    return Share(num_tasks or most, HELD_OUT_START if rows is None else most)


def why_beyond(made: Environment, spec: RunSpec) -> str | None:
    """Return why a run's tasks are not all in its environment, or None where they are."""
    rows = made.num_problems
    last = max(spec.num_tasks, spec.held_out_start + spec.num_held_out)
    if rows is None or last <= rows:
        return None
    return (
        f"the run leases {spec.num_tasks} tasks and holds out {spec.num_held_out} from {spec.held_out_start} on, "
        f"and {made.name} has {rows} rows: launch it with fewer"
    )
