"""`rollcall claim`: have the chain pay what final epochs say a worker earned.

The newest final epoch's account tree is cumulative, so one claim per run takes everything. The
epoch file comes from the orchestrator and is checked against the hash on chain by the claim itself:
a wrong file gives a wrong proof, which the contract refuses.
"""

from collections.abc import Callable

from contracts.state import RunState
from protocol.messages import EpochFile
from protocol.wire import checksum_address
from rollcall.reader import Reader
from rollout_worker.config import WorkerConfig
from rollout_worker.wallet import Wallet


def claim_all(
    config: WorkerConfig, key: bytes, *, worker: str | None, say: Callable[[str], None]
) -> int:
    """Claim in every run that the orchestrator serves; return the sum paid."""
    wallet = Wallet.open(config.chain, key)
    reader = Reader(config.orchestrator)
    identity = checksum_address(worker) if worker else wallet.identity()
    total = 0
    for info in reader.runs():
        state = wallet.ledger.run(info.run_id)
        file = newest_final_file(reader, info.run_id, state)
        if file is None:
            say(f"run {info.run_id}: no epoch is final yet")
            continue
        paid = wallet.claim(file, worker=identity)
        claimed = wallet.ledger.claimed(info.run_id, identity)
        say(
            f"run {info.run_id}: paid {paid / 10**18:g} now, {claimed / 10**18:g} in all, to "
            f"{wallet.ledger.payout_of(identity)}"
        )
        total += paid
    return total


def newest_final_file(reader: Reader, run_id: int, state: RunState) -> EpochFile | None:
    """Return the file of the last final epoch, or None before the first."""
    if state.num_final == 0:
        return None
    info = reader.epoch(run_id, state.num_final - 1)
    return EpochFile.from_canonical(reader.blob(info.file))
