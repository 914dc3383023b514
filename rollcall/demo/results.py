"""Gather a finished demo's results from the chain, public routes, and the parties' own files.

`rollcall audit` finds what was paid and for what. The rest is here: the model's accuracy, measured anew
from the published policies (`measure.py`), the cheat's fate, speeds and bytes.
"""

import json
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from audit.run import RunReport
from client.public import Reader
from ledger.ledger import Ledger
from protocol.messages import Event, SubmissionStatus, WorkerInfo
from protocol.policies.manifest import Manifest
from protocol.run import RunSpec
from rollcall.cli.audit import audit_market
from rollcall.cli.claim import claim as claim_from
from rollcall.cli.desk import open_desk
from rollcall.cli.epoch_files import from_orchestrator
from rollcall.cli.launch import Launched
from rollcall.demo.market import ESCROW_TOKENS, STAKE, Market, WorkerParty
from rollcall.demo.measure import measure_accuracy

ESCROW = int(ESCROW_TOKENS) * 10**18
MOST_LOOKED_AT = 128
"""Submissions of each epoch whose leases and replays are drawn again (27 ms each); sums are over all."""


@dataclass(frozen=True, slots=True)
class Sold:
    """One submission as the orchestrator shows it in public."""

    worker: str
    received_at: float
    policy_version: int
    state: str
    trained_in: int
    tokens: int
    is_replayed: bool


@dataclass(frozen=True, slots=True)
class WorkerResult:
    """One worker: its standing, its pay, its stake's fate, how it spent its time."""

    name: str
    address: str
    engine: str
    does: str
    """Its actual cheat, as a verdict would name it; empty for honest work."""
    named: dict[str, int]
    """The cheats that verdicts name, with the number of verdicts for each."""
    num_sent: int
    standing: WorkerInfo
    earned_units: int
    """Earned in final epochs, as the audit recomputed them."""
    claimed: int
    balance_gained: int
    stake: int
    tokens_per_second: float
    share_waited: float

    @property
    def is_cheat(self) -> bool:
        return bool(self.does)

    @property
    def lost(self) -> int:
        """Stake that was slashed."""
        return STAKE - self.stake


@dataclass(frozen=True, slots=True)
class Clock:
    """When the parts of a demo began, in Unix seconds."""

    started: float
    market_open: float
    trained: float
    settled: float


@dataclass(frozen=True, slots=True)
class Results:
    """Everything the claims and the report are made from."""

    clock: Clock
    spec: RunSpec
    num_steps: int
    accuracy: dict[int, float]
    """On held-out problems, of the first version and the last."""
    steps: list[dict[str, Any]]
    sold: list[Sold]
    workers: list[WorkerResult]
    audit: RunReport
    manifests: list[Manifest]
    events: list[Event]
    left: int
    """Escrow that nobody was paid, by the ledger."""


def gather(
    market: Market, launched: Launched, events: list[Event], clock: Clock, console: Console
) -> Results:
    """Have the workers claim and the market audited, then read the rest; raise if a file is missing."""
    run_id, ledger = launched.run_id, Ledger.connect(market.rpc_url, launched.deployment)
    before = {w.party.address: ledger.balance(w.party.address) for w in market.workers}
    for worker in market.workers:
        claim(market, worker)
    [audit] = audit_market(
        market.url,
        rpc=market.rpc_url,
        deployment=market.places.deployment,
        console=console,
        run_id=run_id,
        proof_file=market.folder / "fraud-proof.json",
        most_submissions=MOST_LOOKED_AT,
    )
    tokens = tokens_by_digest(events)
    state = ledger.run(run_id)
    with Reader(market.url) as reader:
        statuses = submissions(reader, run_id, list(tokens))
        return Results(
            clock=clock,
            spec=launched.spec,
            num_steps=market.steps,
            accuracy=measure_accuracy(
                *(reader, launched, market.folder / "measure"), versions=(0, market.steps)
            ),
            steps=market.trainer_metrics(),
            sold=[sold(status, tokens[status.work_digest]) for status in statuses],
            workers=[
                worker_result(
                    worker,
                    market=market,
                    reader=reader,
                    run_id=run_id,
                    statuses=statuses,
                    audit=audit,
                    ledger=ledger,
                    balance_before=before[worker.party.address],
                )
                for worker in market.workers
            ],
            audit=audit,
            manifests=[reader.manifest(run_id, v).manifest for v in range(market.steps + 1)],
            events=events,
            left=state.budget - state.claimed,
        )


def claim(market: Market, worker: WorkerParty) -> None:
    """Do what the worker would: `rollcall claim --yes` with its own key."""
    key, places = worker.party.key, market.places
    with open_desk(
        places.rpc_url, places.deployment, key, say=lambda _line: None, yes=True
    ) as desk:
        files = list(from_orchestrator(desk, market.url))
        if files:
            claim_from(desk, None, files)


def tokens_by_digest(events: Sequence[Event]) -> dict[bytes, int]:
    """Return every submission, oldest first, with its number of tokens."""
    return {
        bytes.fromhex(str(event.fields["digest"]).removeprefix("0x")): int(event.fields["tokens"])
        for event in events
        if event.kind == "submission"
    }


def submissions(reader: Reader, run_id: int, digests: Sequence[bytes]) -> list[SubmissionStatus]:
    """Return the standing of submissions."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        return list(pool.map(lambda digest: reader.submission(run_id, digest), digests))


def sold(status: SubmissionStatus, tokens: int) -> Sold:
    return Sold(
        worker=status.receipt.worker,
        received_at=float(status.receipt.received_at),
        policy_version=status.lease.lease.policy_version,
        state=status.state.value,
        trained_in=status.trained_in,
        tokens=tokens,
        is_replayed=bool(status.verdicts),
    )


def worker_result(
    worker: WorkerParty,
    *,
    market: Market,
    reader: Reader,
    run_id: int,
    statuses: Sequence[SubmissionStatus],
    audit: RunReport,
    ledger: Ledger,
    balance_before: int,
) -> WorkerResult:
    address = worker.party.address
    mine = [status for status in statuses if status.receipt.worker == address]
    totals = json.loads((market.data_dir(worker.party) / "worker.json").read_text())
    return WorkerResult(
        name=worker.party.name,
        address=address,
        engine=str(totals["engine"]),
        does=f"int{worker.quantise_bits}" if worker.is_cheat else "",
        named=dict(Counter(v.hypothesis for s in mine for v in s.verdicts if v.hypothesis)),
        num_sent=len(mine),
        standing=standing_of(reader, run_id, address),
        earned_units=audit.earned.get(address, 0),
        claimed=ledger.claimed(run_id, address),
        balance_gained=ledger.balance(address) - balance_before,
        stake=ledger.stake_of(address),
        tokens_per_second=float(totals["tokens_per_second"]),
        share_waited=float(totals["share_waited"]),
    )


def standing_of(reader: Reader, run_id: int, address: str) -> WorkerInfo:
    """Return a worker's standing; all zeros if it never leased, as its engine came up after the end."""
    unseen = WorkerInfo(
        run_id=run_id,
        worker=address,
        accepted_groups=0,
        accepted_tokens=0,
        rejected_by_reason={},
        is_excluded=False,
        exclusion="",
        dropped_leases=0,
        paused="",
        most_leases=0,
        notice="",
        earned=0,
        last_nonce=0,
    )
    return next((r for r in reader.worker(address).runs if r.run_id == run_id), unseen)


def patch_bytes(manifest: Manifest) -> int:
    """Return the bytes of the patch from the version before; 0 if there is none."""
    patches = (p for p in manifest.patches if p.base_version == manifest.version - 1)
    return sum(blob.size for patch in patches for blob in patch.chunks)


def full_bytes(results: Results) -> int:
    """Return the bytes of the largest full copy."""
    return max(manifest.size() for manifest in results.manifests)
