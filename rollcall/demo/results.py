"""Gather what a finished demo left behind: from the chain, public routes, and the parties' own files.

Money comes from the chain and from `rollcall audit`'s own code, which recomputes every epoch from public
data; accuracy is measured anew from the published policies (`measure.py`), not taken from the trainer.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from audit.record import PublicRecord
from audit.run import RunReport, audit_run
from client.public import Reader
from ledger.ledger import Ledger
from protocol.environments.base import FULL_SCORE
from protocol.messages import Event, SubmissionStatus
from protocol.policies.manifest import Manifest
from rollcall.cli.claim import claim as claim_from
from rollcall.cli.desk import open_desk
from rollcall.cli.epoch_files import from_orchestrator
from rollcall.cli.launch import Launched
from rollcall.demo.market import STAKE, Market, WorkerParty
from rollcall.demo.measure import measure_accuracy

MOST_LOOKED_AT = 128
"""Submissions of each epoch whose leases and replays are drawn again (27 ms each); sums are over all."""


@dataclass(frozen=True, slots=True)
class GroupEvidence:
    """One submission as the orchestrator shows it to anyone."""

    worker: str
    received_at: float
    policy_version: int
    state: str
    rejection: str
    trained_in: int
    tokens: int
    reward: float | None
    is_audited: bool


@dataclass(frozen=True, slots=True)
class WorkerEvidence:
    """One worker: what it sold, what it was paid, what became of its stake."""

    name: str
    address: str
    engine: str
    is_cheat: bool
    is_excluded: bool
    groups_before_exclusion: int
    accepted_groups: int
    accepted_units: int
    rejected_by_reason: dict[str, int]
    named: dict[str, int]
    """What verdicts say was done, and how many say so."""
    does: str
    """What it really does; empty for honest work."""
    earned_units: int
    claimed: int
    balance_gained: int
    stake_before: int
    stake_after: int
    tokens_per_second: float
    share_waited: float
    bytes_by_kind: dict[str, int]
    policies: dict[int, str]


@dataclass(frozen=True, slots=True)
class PolicyEvidence:
    """What one version cost to send, in bytes."""

    version: int
    patch_bytes: int
    anchor_bytes: int


@dataclass(frozen=True, slots=True)
class Clock:
    """When the parts of a demo began, in Unix seconds."""

    started: float
    market_open: float
    trained: float
    settled: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything the claims and the report are made from."""

    clock: Clock
    rate: int
    max_staleness: int
    num_steps: int
    num_held_out: int
    accuracy_before: float
    accuracy_after: float
    steps: list[dict[str, Any]]
    groups: list[GroupEvidence]
    workers: list[WorkerEvidence]
    audit: RunReport
    policies: list[PolicyEvidence]
    policy_digests: dict[int, str]
    events: list[Event]


def gather(market: Market, launched: Launched, events: list[Event], clock: Clock) -> Evidence:
    """Have the workers claim, then read everything; raises where a file or answer is missing."""
    reader = Reader(market.url)
    ledger = Ledger.connect(market.rpc_url, launched.deployment)
    run_id, spec = launched.run_id, launched.spec
    balances = {w.party.address: ledger.balance(w.party.address) for w in market.workers}
    for worker in market.workers:
        claim(market, worker)
    audit = audit_run(PublicRecord(reader, ledger), run_id, most_submissions=MOST_LOOKED_AT)
    sold = tokens_by_digest(events)
    statuses = submissions(reader, run_id, list(sold))
    manifests = [reader.manifest(run_id, v).manifest for v in range(market.steps + 1)]
    accuracy = measure_accuracy(
        reader,
        launched,
        market.folder / "measure",
        versions=(0, market.steps),
        num_problems=spec.num_held_out,
    )
    return Evidence(
        clock=clock,
        rate=spec.rate,
        max_staleness=spec.max_staleness,
        num_steps=market.steps,
        num_held_out=spec.num_held_out,
        accuracy_before=accuracy[0],
        accuracy_after=accuracy[market.steps],
        steps=market.trainer_metrics(),
        groups=[group_evidence(status, sold[status.work_digest]) for status in statuses],
        workers=[
            worker_evidence(
                worker,
                market=market,
                ledger=ledger,
                run_id=run_id,
                statuses=statuses,
                sold=sold,
                earned=audit.earned,
                balances=balances,
            )
            for worker in market.workers
        ],
        audit=audit,
        policies=[policy_evidence(manifest) for manifest in manifests],
        policy_digests={m.version: "0x" + m.policy_digest.hex() for m in manifests},
        events=events,
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


def tokens_by_digest(events: Iterable[Event]) -> dict[bytes, int]:
    """Return every submission there was, oldest first, with its tokens."""
    return {
        bytes.fromhex(str(event.fields["digest"]).removeprefix("0x")): int(event.fields["tokens"])
        for event in events
        if event.kind == "submission"
    }


def submissions(reader: Reader, run_id: int, digests: Sequence[bytes]) -> list[SubmissionStatus]:
    """Return the standing of submissions."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        return list(pool.map(lambda digest: reader.submission(run_id, digest), digests))


def group_evidence(status: SubmissionStatus, tokens: int) -> GroupEvidence:
    rewards = status.rewards
    return GroupEvidence(
        worker=status.receipt.worker,
        received_at=float(status.receipt.received_at),
        policy_version=status.lease.lease.policy_version,
        state=status.state.value,
        rejection=status.rejection,
        trained_in=status.trained_in,
        tokens=tokens,
        reward=sum(rewards) / len(rewards) / FULL_SCORE if rewards else None,
        is_audited=bool(status.verdicts),
    )


def worker_evidence(
    worker: WorkerParty,
    *,
    market: Market,
    ledger: Ledger,
    run_id: int,
    statuses: list[SubmissionStatus],
    sold: dict[bytes, int],
    earned: Mapping[str, int],
    balances: dict[str, int],
) -> WorkerEvidence:
    address = worker.party.address
    mine = [status for status in statuses if status.receipt.worker == address]
    accepted = [status for status in mine if status.state.value == "accepted"]
    rejected = Counter(status.rejection for status in mine if status.state.value == "rejected")
    standing = next(r for r in Reader(market.url).worker(address).runs if r.run_id == run_id)
    totals = json.loads((market.data_dir(worker.party) / "worker.json").read_text())
    return WorkerEvidence(
        name=worker.party.name,
        address=address,
        engine=str(totals["engine"]),
        is_cheat=worker.is_cheat,
        is_excluded=standing.is_excluded,
        groups_before_exclusion=len(mine),
        accepted_groups=len(accepted),
        accepted_units=sum(sold[status.work_digest] for status in accepted),
        rejected_by_reason=dict(rejected),
        named=dict(Counter(v.hypothesis for s in mine for v in s.verdicts if v.hypothesis)),
        does=f"int{worker.quantise_bits}" if worker.is_cheat else "",
        earned_units=earned.get(address, 0),
        claimed=ledger.claimed(run_id, address),
        balance_gained=ledger.balance(address) - balances[address],
        stake_before=STAKE,
        stake_after=ledger.stake_of(address),
        tokens_per_second=float(totals["tokens_per_second"]),
        share_waited=float(totals["share_waited"]),
        bytes_by_kind=dict(totals.get("bytes", {})),
        policies={
            int(place.partition("/")[2]): str(use["digest"])
            for place, use in totals["versions"].items()
        },
    )


def policy_evidence(manifest: Manifest) -> PolicyEvidence:
    step = next((p for p in manifest.patches if p.base_version == manifest.version - 1), None)
    return PolicyEvidence(
        version=manifest.version,
        patch_bytes=sum(blob.size for blob in step.chunks) if step else 0,
        anchor_bytes=manifest.size(),
    )
