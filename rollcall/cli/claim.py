"""`rollcall claim`: what a worker earned, was paid and can be paid now, and the payment itself.

The newest final epoch's account tree is cumulative, so one claim per run takes everything. Epoch files
come from an orchestrator or from a folder: whoever kept one needs nobody else's machine to be paid. A
file is checked against the account root on chain before anything is sent.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from client.public import Reader
from ledger.state import RunState
from protocol.epoch import AccountLeaf, account_tree
from protocol.errors import MarketError
from protocol.messages import EpochFile
from protocol.user_error import UserError
from rollcall.cli.amounts import Token
from rollcall.cli.desk import COIN, Desk, Step, address_of_text, at_ledger
from rollcall.cli.times import moment
from rollout_worker.config import WorkerConfig

MOST_FILE_BYTES = 1 << 30
"""More than the largest epoch file: what is bigger is something else."""


@dataclass(frozen=True, slots=True)
class Claimable:
    """What one run owes one worker. Amounts in token wei; `gas` is the claim's estimate."""

    run_id: int
    epoch: int
    earned: int
    claimed: int
    leaf: AccountLeaf
    index: int
    proof: tuple[bytes, ...]

    @property
    def amount(self) -> int:
        return self.earned - self.claimed


def claim_all(
    config: WorkerConfig, key: bytes, *, worker: str | None, say: Callable[[str], None]
) -> int:
    """Claim in every run that the worker's orchestrator serves, unasked; return the sum paid."""
    chain = config.chain
    with at_ledger(chain.rpc_url, chain.deployment, key, say=say, yes=True) as desk:
        files = list(from_orchestrator(desk, config.orchestrator))
        return claim(desk, worker, files) if files else 0


def claim(
    desk: Desk,
    worker: str | None,
    files: Iterable[EpochFile],
    *,
    only: int | None = None,
) -> int:
    """Show what each run owes `worker`, ask, and claim it; return the sum paid in token wei.

    `worker` defaults to the key's identity, `only` to every run.
    """
    who = address_of_text(worker) if worker else desk.identity()
    newest = newest_posted(desk, (f for f in files if only in (None, f.run_id)))
    if not newest:
        raise UserError(
            "no epoch to claim from: nothing is posted yet, or the files are of other runs "
            "(`rollcall run show` says how many epochs are final)"
        )
    owed = [found for file in newest if (found := _look(desk, file, who))]
    if not owed:
        return 0
    if not desk.dry_run:
        desk.ask(f"Claim from run {', '.join(str(item.run_id) for item in owed)}?")
    return sum(_send(desk, item, who) for item in owed)


# ------------------------------------------------------------------ where epoch files come from


def from_orchestrator(desk: Desk, url: str) -> Iterable[EpochFile]:
    """Yield the newest final epoch's file of every run that an orchestrator serves."""
    with Reader(url) as reader:
        for info in reader.runs():
            num_final = desk.run(info.run_id).num_final
            if num_final == 0:
                desk.say(f"run {info.run_id}: no epoch is final yet")
                continue
            newest = reader.epoch(info.run_id, num_final - 1).file
            yield EpochFile.from_canonical(reader.blob(newest))


def from_market(desk: Desk, url: str, kept: Path | None) -> Iterable[EpochFile]:
    """Return an orchestrator's files, or those that this worker kept where it does not answer."""
    try:
        return list(from_orchestrator(desk, url))
    except UserError as error:
        if kept is None or not kept.is_dir():
            raise
        desk.say(f"{error}; claiming from what is kept in {kept}")
        return from_files(desk, kept)


def from_files(desk: Desk, path: Path) -> Iterable[EpochFile]:
    """Yield the epoch files at `path`, a file or a folder of them."""
    if not path.exists():
        raise UserError(f"no epoch file at {path}: a worker keeps them in <data_dir>/epochs")
    if path.is_file():
        yield _read(path)
        return
    for item in sorted(path.iterdir()):
        if not item.is_file():
            continue
        try:
            yield _read(item)
        except UserError as error:
            desk.say(f"left out: {error}")


def _read(path: Path) -> EpochFile:
    if path.stat().st_size > MOST_FILE_BYTES:
        raise UserError(f"{path} is too large for an epoch file")
    try:
        return EpochFile.from_canonical(path.read_bytes())
    except (MarketError, ValueError) as error:
        raise UserError(f"{path} is no epoch file: {error}") from error


# ------------------------------------------------------------------ what they are worth


def newest_posted(desk: Desk, files: Iterable[EpochFile]) -> list[EpochFile]:
    """Return per run the newest file that is on chain as it stands, those that pay now first."""
    best: dict[int, tuple[tuple[bool, int], EpochFile]] = {}
    for file in files:
        run = desk.run(file.run_id)
        if not _is_on_chain(desk, run, file):
            desk.say(
                f"left out: epoch {file.epoch} of run {file.run_id} is not on chain as this file has "
                "it (another ledger's, voided, or not posted)"
            )
            continue
        rank = (_not_payable_because(desk, run, file.run_id, file.epoch) is None, file.epoch)
        if file.run_id not in best or rank > best[file.run_id][0]:
            best[file.run_id] = (rank, file)
    return [best[run_id][1] for run_id in sorted(best)]


def _not_payable_because(desk: Desk, run: RunState, run_id: int, number: int) -> str | None:
    """Return why an epoch pays nothing yet; None when it is final, or can be made so now."""
    for pending in range(run.num_final, number + 1):
        epoch, now = desk.ledger.epoch(run_id, pending), desk.now()
        if epoch.holds:
            return f"{epoch.holds} open disputes hold epoch {pending}"
        if now < epoch.final_at:
            return f"epoch {pending} is final at {moment(epoch.final_at, now)}"
    return None


def _is_on_chain(desk: Desk, run: RunState, file: EpochFile) -> bool:
    if file.epoch >= run.num_posted:
        return False
    root = account_tree(_accounts(file)).root if file.accounts else bytes(32)
    return desk.ledger.epoch(file.run_id, file.epoch).account_root == root


def _accounts(file: EpochFile) -> list[AccountLeaf]:
    return [AccountLeaf(a.worker, a.earned, a.last_nonce) for a in file.accounts]


def _look(desk: Desk, file: EpochFile, worker: str) -> Claimable | None:
    """Print what one run owes the worker; return it where there is something to claim."""
    run, name = desk.run(file.run_id), f"run {file.run_id}"
    item = _claimable(desk, run, file, worker)
    if item is None:
        desk.say(f"{name}: {worker} has earned nothing up to epoch {file.epoch}")
        return None
    token = desk.token_at(run.token)
    desk.say(
        f"{name}: earned {token.show(item.earned)} up to epoch {item.epoch}, claimed "
        f"{token.show(item.claimed)}, claimable {token.show(max(0, item.amount))}"
    )
    if item.amount <= 0:
        return None
    why = _not_payable_because(desk, run, item.run_id, item.epoch)
    if why is not None:
        desk.say(f"  not yet: {why}")
        return None
    _say_cost(desk, item, run)
    return item


def _claimable(desk: Desk, run: RunState, file: EpochFile, worker: str) -> Claimable | None:
    leaves = _accounts(file)
    index = next((i for i, leaf in enumerate(leaves) if leaf.worker == worker), None)
    if index is None:
        return None
    return Claimable(
        run_id=file.run_id,
        epoch=file.epoch,
        earned=leaves[index].earned * run.rate,
        claimed=desk.ledger.claimed(file.run_id, worker),
        leaf=leaves[index],
        index=index,
        proof=tuple(account_tree(leaves).proof(index)),
    )


def _say_cost(desk: Desk, item: Claimable, run: RunState) -> None:
    if item.epoch >= run.num_final:
        desk.say(f"  epoch {item.epoch} is made final first, in a transaction of its own")
        return
    gas = desk.rehearse(_step(item, desk.token_at(run.token))).gas
    desk.say(f"  the claim takes {gas:,} gas, {COIN.show(gas * desk.gas_price())} at today's price")


def _send(desk: Desk, item: Claimable, worker: str) -> int:
    run = desk.run(item.run_id)
    if item.epoch >= run.num_final:
        desk.send(f"make epoch {item.epoch} of run {item.run_id} final", "advance", item.run_id)
        if desk.dry_run:
            return 0
    token = desk.token_at(run.token)
    [paid] = desk.send_all([_step(item, token)]) or [None]
    if paid is None:
        return 0
    claimed = desk.ledger.claimed(item.run_id, worker)
    desk.say(
        f"run {item.run_id}: paid {token.show(paid)} now, {token.show(claimed)} in all, to "
        f"{desk.ledger.payout_of(worker)}"
    )
    return int(paid)


def _step(item: Claimable, token: Token) -> Step:
    what = f"claim {token.show(item.amount)} from run {item.run_id} for {item.leaf.worker}"
    return Step(what, "claim", (item.run_id, item.epoch, item.leaf, item.index, item.proof))
