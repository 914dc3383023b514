"""`rollcall claim`: show what a worker earned, was paid and can be paid now, and claim the payment.

The newest final epoch's account tree is cumulative, so one claim per run takes everything. Epoch files
come from an orchestrator or from a folder (`epoch_files.py`): with a kept file a worker needs nobody else's
machine to be paid. A file is checked against the account root on chain before anything is sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from protocol.user_error import UserError
from rollcall.cli.desk import COIN, Desk, PlannedCall
from rollcall.cli.options import Books, at_books, example
from rollcall.cli.times import moment

if TYPE_CHECKING:
    from ledger.state import RunState
    from protocol.epoch import AccountLeaf
    from protocol.messages import EpochFile

KEPT = "epochs"
"""Folder of epoch files in a worker's data_dir."""
commands = typer.Typer()


@at_books(
    commands,
    "claim",
    example(
        "rollcall claim --orchestrator http://market:8100 --rpc http://node:8545",
        "with the market gone rollcall claim --file worker/epochs --rpc http://node:8545",
    ).replace(", then", ";"),
)
def claim_command(
    books: Books,
    orchestrator: Annotated[
        str | None, typer.Option(help="Orchestrator whose epoch files to claim from.")
    ] = None,
) -> None:
    """Show what a worker earned, was paid and can claim, show what claiming costs, and claim.

    Claims never expire and need nobody's help: an epoch file is enough. Any key may pay the gas; the
    money goes to the worker's payout address.
    """
    if books.settings:
        orchestrator = orchestrator or books.settings.orchestrator
    if books.file is None and orchestrator is None:
        raise UserError(
            "say where epoch files are: --orchestrator URL, --file PATH or --config FILE"
        )
    from rollcall.cli.epoch_files import from_files, from_market

    kept = books.data_dir / KEPT if books.data_dir else None
    with books.desk() as desk:
        files = (
            from_files(desk, books.file)
            if books.file
            else from_market(desk, str(orchestrator), kept)
        )
        claim(desk, books.worker, files, only=books.run)


@dataclass(frozen=True, slots=True)
class Claimable:
    """What one run owes one worker. Amounts in token wei."""

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
    who = desk.whose(worker)
    newest = newest_posted(desk, (f for f in files if only in (None, f.run_id)))
    if not newest:
        raise UserError(
            "no epoch to claim from: nothing is posted yet, or the files are of other runs "
            "(`rollcall run show` says how many epochs are final)"
        )
    owed = [found for file in newest if (found := pay_of(desk, file, who))]
    if not owed:
        return 0
    desk.ask(f"Claim from run {', '.join(str(item.run_id) for item in owed)}?")
    return sum(_send(desk, item) for item in owed)


def newest_posted(desk: Desk, files: Iterable[EpochFile]) -> list[EpochFile]:
    """Return one file per run, among those on chain: the newest that pays now, else the newest."""
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
    """Return why an epoch pays nothing yet; None if it is final or can be made final now."""
    for pending in range(run.num_final, number + 1):
        epoch, now = desk.ledger.epoch(run_id, pending), desk.now()
        if epoch.holds:
            return f"{epoch.holds} open disputes hold epoch {pending}"
        if now < epoch.final_at:
            return f"epoch {pending} is final at {moment(epoch.final_at, now)}"
    return None


def _is_on_chain(desk: Desk, run: RunState, file: EpochFile) -> bool:
    from protocol.epoch import account_root, accounts_of

    if file.epoch >= run.num_posted:
        return False
    posted = desk.ledger.epoch(file.run_id, file.epoch)
    return posted.account_root == account_root(accounts_of(file))


def pay_of(desk: Desk, file: EpochFile, worker: str) -> Claimable | None:
    """Print what one run owes the worker; return it if there is something to claim."""
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
    from protocol.epoch import account_tree, accounts_of

    leaves = accounts_of(file)
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
    if not desk.can_send:
        return
    gas = desk.rehearse(_step(desk, item, run.token)).gas
    desk.say(f"  the claim takes {gas:,} gas, {COIN.show(gas * desk.gas_price())} at today's price")


def _send(desk: Desk, item: Claimable) -> int:
    run = desk.run(item.run_id)
    if item.epoch >= run.num_final:
        epoch = f"epoch {item.epoch} of run {item.run_id}"
        desk.send(f"make {epoch} final", "advance", item.run_id, done=f"{epoch} is final")
        if desk.dry_run:
            return 0  # the claim cannot be rehearsed before that
    paid = desk.send_all([_step(desk, item, run.token)])
    return int(sum(paid))


def _step(desk: Desk, item: Claimable, token_address: str) -> PlannedCall:
    token, worker = desk.token_at(token_address), item.leaf.worker
    return PlannedCall(
        f"claim {token.show(item.amount)} from run {item.run_id} for {worker}",
        *("claim", (item.run_id, item.epoch, item.leaf, item.index, item.proof)),
        done=lambda paid: (
            f"run {item.run_id}: paid {token.show(paid)} now, "
            f"{token.show(desk.ledger.claimed(item.run_id, worker))} in all, to "
            f"{desk.ledger.payout_of(worker)}"
        ),
    )
