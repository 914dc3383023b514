"""Prometheus metrics, in a registry of their own; of several processes on one port each tells the sum of all."""

import os
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

SHARED_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that names where processes keep what they count. The library reads it when it is imported."""

WATCHED: Final = {
    "open": "Whether the run leases work",
    "active_workers": "Workers that asked for a lease within two lease times",
    "leases_open": "Leases that are out",
    "policy_version": "Newest policy version",
    "policy_time_seconds": "When that was made, by its trainer's clock",
    "chain_time_seconds": "The newest block's time when the chain was last read",
    "permit_until_seconds": "Until when, by the chain's clock, work is owed",
    "escrow_left_units": "Tokens that the escrow still pays for beyond posted epochs",
    "epochs_opened": "Epochs that were opened on chain",
    "epochs_posted": "Epochs that were posted on chain",
    "epochs_final": "Epochs that are final on chain",
    "key_coin": "What the orchestrator's key has of the chain's coin, for gas",
}
"""What an operator watches of each run (`gauges.py`). Times and not ages: an age stands still with who measures it."""


class Metrics:
    """Counters by what happened; labels are closed sets, never a stranger's text."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            *("rollcall_requests", "Answers by route and status", ("route", "status")),
            registry=self.registry,
        )
        self.submissions = Counter(
            *("rollcall_submissions", "Submissions by result", ("run", "result")),
            registry=self.registry,
        )
        self.tokens = Counter(
            *("rollcall_tokens", "Tokens in admitted submissions", ("run",)),
            registry=self.registry,
        )
        self.leases = Counter(
            *("rollcall_leases", "Leases granted", ("run",)), registry=self.registry
        )
        self.expired = Counter(
            *("rollcall_leases_expired", "Leases that ended without work", ("run",)),
            registry=self.registry,
        )
        self.verdicts = Counter(
            *("rollcall_verdicts", "Verdicts, whatever they say: votes are sealed", ("run",)),
            registry=self.registry,
        )
        self.verifier_findings = Counter(
            *("rollcall_verifier_findings", "What verdicts showed of verifiers", ("run", "kind")),
            registry=self.registry,
        )
        self.batches = Counter(
            *("rollcall_batches", "Batches handed out", ("run",)), registry=self.registry
        )
        self.watched = {
            name: Gauge(
                *(f"rollcall_{name}", text, ("run",)),
                multiprocess_mode="mostrecent",
                registry=self.registry,
            )
            for name, text in WATCHED.items()
        }
        self.scorers_killed = Gauge(
            *("rollcall_scorers_killed", "Scoring children killed so far"),
            multiprocess_mode="sum",
            registry=self.registry,
        )
        self.submit_seconds = Histogram(
            *("rollcall_submit_seconds", "Time to answer a submission"),
            buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
            registry=self.registry,
        )
        self.background_failures = Counter(
            *("rollcall_background_failures", "Background rounds that failed", ("job",)),
            registry=self.registry,
        )

    def text(self) -> bytes:
        """Return the exposition format."""
        if SHARED_FOLDER not in os.environ:
            return generate_latest(self.registry)
        shared = CollectorRegistry()
        MultiProcessCollector(shared)
        return generate_latest(shared)
