"""Look at workers whose drops may follow from rewards, and exclude those whose do.

What is compared is counted where leases are granted and groups accepted (`lua/standing.lua`); with every
64 accepted groups a worker is due for a look. The decision is `protocol/checks/withholding.py`'s, from a case
that is kept as a blob and named in the event, so that anyone can decide it again.

An excluded worker keeps what was accepted: nothing of it was false, and its receipts stand. Its stake is
not touched, because nobody can check, without trusting this process, that the worker ever saw the leases
it is said to have dropped: the rewards of a case are public, the number of its leases is not.
"""

from collections.abc import Mapping

import structlog

from orchestrator.run import Run
from orchestrator.services import Services
from orchestrator.store.events import event_body
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


async def tick(services: Services, run: Run) -> None:
    """Look at every worker that is due. May be repeated, and done by several copies at once."""
    for worker, count in (await services.store.tallies.due(run.run_id)).items():
        case = await case_of(services, run, worker)
        evidence = is_withholding(case) if case else None
        if case is not None and evidence is not None:
            await _exclude(services, run, case, evidence)
        await services.store.tallies.looked_at(run.run_id, worker, count)


def reason_of(worker: str, excluded_for: str) -> str:
    """Return why a worker is excluded, as it is told; `excluded_for` is empty for false work."""
    if excluded_for == WITHHELD:
        return (
            f"{worker} finished good groups and dropped poor ones, or the reverse, beyond chance: the "
            "run's exclusion event names the case"
        )
    return f"a replay found false work of {worker}"


async def case_of(services: Services, run: Run, worker: str) -> Case | None:
    """Return what a look at a worker is decided from, or None where it has finished nothing yet."""
    rewarded = await services.store.tallies.num_rewarded(run.run_id, worker)
    newest = await services.store.policies.newest(run.run_id) or 0
    if rewarded < NUM_GROUPS_PER_LOOK:
        return None
    versions = range(max(0, newest - NUM_VERSIONS), newest)
    found = await services.store.tallies.of_versions(run.run_id, versions)
    tallies = {
        version: of.workers
        for version, of in found.items()
        if worker in of.workers and (of.num_open <= 0 or version < newest - NUM_RIPE_VERSIONS)
    }
    barred = await _barred(services, run, {other for of in tallies.values() for other in of})
    strata = (_stratum(version, of, worker, barred) for version, of in tallies.items())
    return Case(
        run_id=run.run_id,
        worker=worker,
        look=rewarded // NUM_GROUPS_PER_LOOK,
        alarms_per_million=run.spec.drops.withheld_alarms_per_million,
        strata=tuple(strata),
    )


async def _barred(services: Services, run: Run, workers: set[str]) -> set[str]:
    """Return those that are no measure for anybody: excluded ones, and those that test verifiers."""
    excluded = await services.store.workers.excluded(run.run_id, workers)
    return excluded | (workers & run.canaries.keys())


def _stratum(version: int, tallies: Mapping[str, Tally], worker: str, barred: set[str]) -> Stratum:
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


async def _exclude(services: Services, run: Run, case: Case, evidence: Evidence) -> None:
    """Keep the case, and end the worker's part in the run."""
    blob = await services.blobs.add(case.canonical())
    fields: dict[str, str | int | float] = {
        "worker": case.worker,
        "rejection": WITHHELD,
        "case": "0x" + blob.hex(),
        "finished": evidence.num_finished,
        "missing": evidence.num_missing,
        "excess": round(evidence.excess, 3),
        "log_probability": round(evidence.log_probability, 2),
    }
    body = event_body(run.run_id, "exclusion", services.clock(), fields)
    if await services.store.tallies.withhold(run.run_id, case.worker, WITHHELD, body):
        log = structlog.get_logger()
        log.warning("worker withholds groups", run_id=run.run_id, **fields)
