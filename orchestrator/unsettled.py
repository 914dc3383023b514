"""Read accepted work that no posted epoch has from the queue, and what of it can be paid now."""

from dataclasses import dataclass

from orchestrator.rules import settle
from orchestrator.rules.settle import Standing
from orchestrator.services import Market, Run
from protocol.messages import Contribution


@dataclass(frozen=True, slots=True)
class Found:
    """Unsettled work with the digests it is stored under."""

    standings: tuple[Standing, ...]
    digests: dict[tuple[str, int], bytes]


async def unsettled(market: Market, run: Run) -> Found:
    """Return every worker's accepted work and its first undecided nonce."""
    standings: list[Standing] = []
    digests: dict[tuple[str, int], bytes] = {}
    for raw_worker in await market.queue.call("SMEMBERS", run.prefix + "workers"):
        worker = raw_worker.decode()
        # One look at both: work decided or leased between two would be left behind for ever.
        earned, first = await market.queue.pipeline(
            [
                ("ZRANGE", f"{run.prefix}earned:{worker}", 0, -1),
                ("ZRANGE", f"{run.prefix}undecided:{worker}", 0, 0),
            ]
        )
        if not earned:
            continue
        commands = [("HGET", f"{run.prefix}group:{d.decode()}", "contribution") for d in earned]
        rows = await market.queue.pipeline(commands)
        accepted = tuple(Contribution.from_json(row) for row in rows)
        standings.append(Standing(accepted, int(first[0]) if first else None))
        for work, digest in zip(accepted, earned, strict=True):
            digests[(work.worker, work.nonce)] = bytes.fromhex(digest.decode())
    return Found(tuple(standings), digests)


async def payable(market: Market, run: Run, found: Found) -> tuple[Contribution, ...]:
    """Return the work that can be paid now, by the chain's last look."""
    dates = {work.submitted_at for standing in found.standings for work in standing.accepted}
    owed = await market.chain.owed(run.run_id, dates, state=run.chain, now=run.chain_time)
    return settle.settled_work(found.standings, now=run.chain_time, is_owed=owed.__contains__)
