"""Every run, its status and its meter, from events alone: no server and no view is asked.

Pure: the caller reads the events (`LogCursor`). A permit lapses without an event: `is_live` tells.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from ledger.events import LedgerEvent
from ledger.state import LedgerStatus


@dataclass(frozen=True, slots=True)
class RunListing:
    """A run as its events tell it. Amounts in token wei; `tokens` and `gflops` are final work."""

    run_id: int
    operator: str
    base_model: bytes
    token: str
    spec_hash: bytes
    spec_uri: str
    compute_cap: int
    parent_run: int
    licence: str
    intended_use: str
    status: LedgerStatus = LedgerStatus.ACTIVE
    permit_until: int = 0
    budget: int = 0
    num_final: int = 0
    tokens: int = 0
    gflops: int = 0

    def is_live(self, now: int) -> bool:
        """Return whether work dated now can be owed: active under a permit that has not lapsed."""
        return self.status is LedgerStatus.ACTIVE and now <= self.permit_until


def listing(events: Iterable[LedgerEvent]) -> dict[int, RunListing]:
    """Return every run by its id, as the events of the ledger tell it in their order."""
    runs: dict[int, RunListing] = {}
    for event in events:
        if event.name == "RunCreated":
            run = _created(event)
            runs[run.run_id] = run
        elif (run_id := event.values.get("runId")) in runs:
            runs[run_id] = _after(runs[run_id], event.name, event.values)
    return runs


def _created(event: LedgerEvent) -> RunListing:
    values = event.values
    return RunListing(
        run_id=values["runId"],
        operator=values["operator"],
        base_model=bytes(values["baseModel"]),
        token=values["token"],
        spec_hash=bytes(values["specHash"]),
        spec_uri=values["specURI"],
        compute_cap=values["computeCap"],
        parent_run=values["parentRun"],
        licence=values["licence"],
        intended_use=values["intendedUse"],
    )


def _after(run: RunListing, name: str, values: dict[str, Any]) -> RunListing:
    changes: dict[str, Any] = {}
    match name:
        case "PermitRenewed":
            changes = {"permit_until": values["permitUntil"]}
        case "RunFunded":
            changes = {"budget": values["budget"]}
        case "RunHalted" | "RunLapsed":
            changes = {"status": LedgerStatus.HALTED}
        case "RunResumed":
            changes = {"status": LedgerStatus.ACTIVE, "permit_until": values["permitUntil"]}
        case "RunStopped":
            changes = {"status": LedgerStatus.STOPPED}
        case "RunClosed":
            changes = {"status": LedgerStatus.CLOSED}
        case "UncommittedCredited":
            changes = {"budget": run.budget - values["amount"]}
        case "EpochFinal":
            changes = {
                "num_final": values["epoch"] + 1,
                "tokens": run.tokens + values["tokens"],
                "gflops": run.gflops + values["gflops"],
            }
    return replace(run, **changes)
