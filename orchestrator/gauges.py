"""What an operator watches of a run, set after each look at the chain: reading the metrics asks nobody.

Anyone may read them, so nothing here tells a draw, a vote or a canary before it is decided. How many groups wait for
replays or for a batch would: with few workers one group more or less is somebody's. Counters of submissions,
verdicts and batches say whether they flow.
"""

from orchestrator import stakes
from orchestrator.run import Run
from orchestrator.services import Services


async def observe(services: Services, run: Run) -> None:
    """Set a run's gauges from its last look at the chain, and one at the queue."""
    since = services.clock() - stakes.PRESENT_LEASES * run.spec.lease_seconds
    num_workers, num_leases = await services.store.workers.num_at_work(run.run_id, since=since)
    policy, chain = run.manifest.manifest if run.manifest else None, run.chain
    found: dict[str, float] = {
        "open": run.is_open,
        "active_workers": num_workers,
        "leases_open": num_leases,
        "policy_version": policy.version if policy else -1,
        "policy_time_seconds": policy.created_at if policy else 0,
        "chain_time_seconds": run.chain_time,
        "permit_until_seconds": chain.permit_until,
        "escrow_left_units": await services.budget_left_units(run),
        "epochs_opened": chain.num_opened,
        "epochs_posted": chain.num_posted,
        "epochs_final": chain.num_final,
        "key_coin": await services.chain.coin_of(services.address) / 10**18,
    }
    for name, value in found.items():
        services.metrics.watched[name].labels(run.run_id).set(value)
