"""Look at workers whose drops may follow from rewards, and exclude those whose do.

What is compared is counted where leases are granted and groups accepted (`lua/standing.lua`); with every
64 accepted groups a worker is due for a look. The decision is `protocol/checks/withholding.py`'s, from a case
that is kept as a blob and named in the event, so that anyone can decide it again.

An excluded worker keeps what was accepted: nothing of it was false, and its receipts stand. Its stake is
not touched, because nobody can check, without trusting this process, that the worker ever saw the leases
it is said to have dropped: the rewards of a case are public, the number of its leases is not.
"""

from collections import defaultdict

import structlog

from orchestrator.events import event_body
from orchestrator.services import Market, Run
from orchestrator.store import keys
from protocol.checks.withholding import (
    NUM_GROUPS_PER_LOOK,
    NUM_VERSIONS,
    WITHHELD,
    Case,
    Evidence,
    Stratum,
    Tally,
    is_withholding,
)

NUM_RIPE_VERSIONS = 16
"""Versions whose leases are all decided are compared. One that is this old is compared in any case, and
what is still undecided counts as missing: a replay that nobody can make must not hide its version."""

Tallies = dict[str, Tally]


async def tick(market: Market, run: Run) -> None:
    """Look at every worker that is due. May be repeated, and done by several copies at once."""
    for raw in await market.queue.call("SMEMBERS", run.prefix + "looks"):
        worker = raw.decode()
        case = await case_of(market, run, worker)
        evidence = is_withholding(case) if case else None
        if case is not None and evidence is not None:
            await _exclude(market, run, case, evidence)
        await market.queue.call("SREM", run.prefix + "looks", worker)


def reason_of(worker: str, excluded_for: str) -> str:
    """Return why a worker is excluded, as it is told; `excluded_for` is empty for false work."""
    if excluded_for == WITHHELD:
        return (
            f"{worker} finished good groups and dropped poor ones, or the reverse, beyond chance: the "
            "run's exclusion event names the case"
        )
    return f"a replay found false work of {worker}"


async def case_of(market: Market, run: Run, worker: str) -> Case | None:
    """Return what a look at a worker is decided from, or None where it has finished nothing yet."""
    rewarded, newest = await _counts(market, run, worker)
    if rewarded < NUM_GROUPS_PER_LOOK:
        return None
    versions = range(max(0, newest - NUM_VERSIONS), newest)
    found = await market.queue.pipeline(
        [("HGETALL", f"{run.prefix}rewards:{version}") for version in versions]
    )
    tallies = {
        version: _tallies(fields)
        for version, fields in zip(versions, found, strict=True)
        if f"{worker}:leased".encode() in fields
        and (int(fields.get(b"open", 0)) <= 0 or version < newest - NUM_RIPE_VERSIONS)
    }
    barred = await _barred(market, run, {other for of in tallies.values() for other in of})
    strata = (_stratum(version, of, worker, barred) for version, of in tallies.items())
    return Case(
        run_id=run.run_id,
        worker=worker,
        look=rewarded // NUM_GROUPS_PER_LOOK,
        alarms_per_million=run.spec.drops.withheld_alarms_per_million,
        strata=tuple(strata),
    )


async def _counts(market: Market, run: Run, worker: str) -> tuple[int, int]:
    """Return the worker's accepted groups with a reward, and the newest policy version."""
    rewarded = await market.queue.call("HGET", f"{run.prefix}worker:{worker}", "rewarded")
    newest = await market.queue.call("HGET", run.prefix + "state", "newest")
    return int(rewarded or 0), int(newest or 0)


async def _barred(market: Market, run: Run, workers: set[str]) -> set[str]:
    """Return those that are no measure for anybody: excluded ones, and those that test verifiers."""
    ordered = sorted(workers)
    found = await market.queue.pipeline(
        [("HGET", f"{run.prefix}worker:{worker}", "excluded") for worker in ordered]
    )
    excluded = {worker for worker, value in zip(ordered, found, strict=True) if value == b"1"}
    return excluded | (workers & run.canaries.keys())


def _tallies(fields: dict[bytes, bytes]) -> Tallies:
    """Read a version's tallies by worker."""
    raw: dict[str, dict[str, int]] = defaultdict(dict)
    for name, value in fields.items():
        worker, _, what = name.decode().partition(":")
        if what:
            raw[worker][what] = int(value)
    return {
        worker: Tally(
            num_leased=counts.get("leased", 0),
            num_finished=counts.get("finished", 0),
            reward_sum=counts.get("sum", 0),
            reward_squares=counts.get("squares", 0),
        )
        for worker, counts in raw.items()
    }


def _stratum(version: int, tallies: Tallies, worker: str, barred: set[str]) -> Stratum:
    others = [of for other, of in tallies.items() if other != worker and other not in barred]
    return Stratum(
        version=version,
        own=tallies[worker],
        others=Tally(
            num_leased=sum(of.num_leased for of in others),
            num_finished=sum(of.num_finished for of in others),
            reward_sum=sum(of.reward_sum for of in others),
            reward_squares=sum(of.reward_squares for of in others),
        ),
    )


async def _exclude(market: Market, run: Run, case: Case, evidence: Evidence) -> None:
    """Keep the case, and end the worker's part in the run."""
    blob = await market.blobs.add(case.canonical())
    fields: dict[str, str | int | float] = {
        "worker": case.worker,
        "rejection": WITHHELD,
        "case": "0x" + blob.hex(),
        "finished": evidence.num_finished,
        "missing": evidence.num_missing,
        "excess": round(evidence.excess, 3),
        "log_probability": round(evidence.log_probability, 2),
    }
    body = event_body(run.run_id, "exclusion", market.clock(), fields)
    arguments = (case.worker, WITHHELD, keys.NUM_EVENTS_KEPT, body)
    if await market.queue.script("withhold", run.run_id, *arguments):
        log = structlog.get_logger()
        log.warning("worker withholds groups", run_id=run.run_id, **fields)
