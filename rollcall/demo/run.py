"""`rollcall demo`: the order of events of a one-machine market, from nothing to a checked report.

Read `run_demo` top to bottom. `market.py` has what is started, `view.py` what is shown, `claims.py`
what must hold.
"""

import shutil
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from eth_account import Account

from client.public import Reader
from ledger.ledger import Ledger
from protocol.user_error import UserError
from rollcall.cli.launch import Launched, launch
from rollcall.cli.spec import RunPlan
from rollcall.demo.claims import check_claims
from rollcall.demo.deploying import ensure_deployment
from rollcall.demo.events import Record
from rollcall.demo.market import Market, Places, demo_workers
from rollcall.demo.processes import Processes
from rollcall.demo.report import write_report
from rollcall.demo.results import Clock, gather
from rollcall.demo.services import (
    chain_command,
    free_port,
    redis_command,
    wait_for_chain,
    wait_for_http,
    wait_for_redis,
)
from rollcall.demo.view import View
from rollcall.frame.console import open_console
from rollcall.frame.logs import quiet_libraries

MARK = ".rollcall-demo"
"""A file that marks a demo's folder, which the next demo may clear."""
STALL_SECONDS = 600.0
"""The demo gives up after so long without any event in the market: no group, no verdict, no version,
no epoch. The whole may take as long as the machine needs."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Loopback ports of one demo."""

    redis: int
    chain: int
    http: int


def places(folder: Path, ports: Ports) -> Places:
    """Return the places of a demo's parts: loopback ports and one folder."""
    return Places(
        url=f"http://127.0.0.1:{ports.http}",
        rpc_url=f"http://127.0.0.1:{ports.chain}",
        redis_url=f"redis://127.0.0.1:{ports.redis}/0",
        blobs=folder / "blobs",
        deployment=folder / "deployment.json",
        data=folder,
        host="127.0.0.1",
        port=ports.http,
    )


def run_demo(*, steps: int, folder: Path, plain: bool, seed: int) -> bool:
    """Run the market and write the report; return whether every claim holds.

    Raises `UserError` naming the part that failed. Every process it started has ended when it
    returns, also on Ctrl-C and SIGTERM.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    quiet_libraries()
    console = open_console()
    state = fresh_folder(folder / "market")
    ports = Ports(redis=free_port(), chain=free_port(), http=free_port())
    market = Market(
        state,
        places(state.absolute(), ports),
        RunPlan(),
        workers=demo_workers(),
        steps=steps,
        seed=seed,
    )
    started = time.time()
    with Processes(state / "logs") as processes, View(console, market, plain=plain) as view:
        launched = open_market(market, ports, processes, view)
        with Record(market.url, launched.run_id, state / "events.jsonl") as record:
            market_open = time.time()
            start_parties(market, processes, launched.run_id)
            train(market, processes, view, record)
            trained = time.time()
            settle(market, processes, view, record, launched)
            clock = Clock(started, market_open, trained, time.time())
            view.say("paying workers and auditing the market")
            results = gather(market, launched, record.events(), clock, console)
            processes.check(may_end=("trainer", *(w.party.name for w in market.workers)))
    claims = check_claims(results)
    write_report(folder, results, claims, console)
    return all(claim.holds for claim in claims)


def fresh_folder(folder: Path) -> Path:
    """Return an empty folder; raise `UserError` instead of clearing one that no demo made."""
    mark = folder / MARK
    if folder.exists() and not mark.exists():
        raise UserError(
            f"{folder} exists and no demo made it: name another folder with --report, or move it"
        )
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    mark.touch()
    return folder


def open_market(market: Market, ports: Ports, processes: Processes, view: View) -> Launched:
    """Start Redis, the chain and the orchestrator, and launch the run."""
    view.say("starting Redis and the chain")
    processes.start(redis_command(market.folder / "redis", ports.redis, market.redis_password))
    spenders = [party.address for party in market.spenders()]
    processes.start(chain_command(market.folder / "chain", ports.chain, spenders))
    wait_for_redis(processes, ports.redis, market.redis_password)
    wait_for_chain(processes, market.rpc_url)
    view.say("deploying the ledger")
    operator = Account.from_key(market.operator.key)
    deployment = ensure_deployment(market.launch_config(), operator, view.say)
    view.say("starting the orchestrator")
    processes.start(
        market.command(market.orchestrator, "orchestrator", market.orchestrator_config())
    )
    wait_for_http(processes, "orchestrator", f"{market.url}/healthz")
    ledger = Ledger.connect(market.rpc_url, deployment)
    consent = ledger.sign_consent(
        Account.from_key(market.orchestrator.key), market.operator.address
    )
    config = market.launch_config("0x" + consent.hex())
    return launch(config, market.operator.key, view.say)


def start_parties(market: Market, processes: Processes, run_id: int) -> None:
    """Start the trainer, the verifier and the workers, all at once."""
    processes.start(market.command(market.trainer, "trainer", market.trainer_config(run_id)))
    processes.start(market.command(market.verifier, "verifier", market.verifier_config()))
    for worker in market.workers:
        config = market.worker_config(worker)
        processes.start(market.command(worker.party, "worker", config))


class StallWatch:
    """Shows the market, and raises `UserError` once it has stood still for `STALL_SECONDS`."""

    def __init__(self, market: Market, processes: Processes, view: View, record: Record) -> None:
        self._market = market
        self._processes = processes
        self._view = view
        self._record = record
        self._seen: object = None
        self._since = time.monotonic()

    def look(self, *, may_end: Sequence[str], waits_for: str) -> None:
        """Take one look, and a short pause."""
        self._processes.check(may_end=may_end)
        totals, num_lines = self._record.snapshot(), len(self._market.trainer_metrics())
        self._view.show(totals)
        if (totals, num_lines) != self._seen:
            self._seen, self._since = (totals, num_lines), time.monotonic()
        elif time.monotonic() - self._since > STALL_SECONDS:
            raise UserError(
                f"waiting for {waits_for}, and nothing has happened for {STALL_SECONDS:.0f} s: see the "
                f"logs in {self._market.folder / 'logs'}"
            )
        time.sleep(0.25)


def train(market: Market, processes: Processes, view: View, record: Record) -> None:
    """Watch until the trainer has made its last step; its last evaluation may still be under way."""
    names = [worker.party.name for worker in market.workers]
    progress = StallWatch(market, processes, view, record)
    while not has_ended(processes, "trainer") and len(market.trainer_metrics()) <= market.steps:
        progress.look(may_end=("trainer", *names), waits_for="the trainer")
    processes.check(may_end=("trainer", *names))


def settle(
    market: Market, processes: Processes, view: View, record: Record, launched: Launched
) -> None:
    """Stop the workers and the run, and wait until everything earned is final and paid out."""
    view.say("stopping the workers; they return what they hold")
    processes.stop([worker.party.name for worker in market.workers])
    operator = Account.from_key(market.operator.key)
    ledger = Ledger.connect(market.rpc_url, launched.deployment, operator)
    ledger.stop_run(launched.run_id)
    view.say("settling: verifiers sign the last epoch, the challenge window passes")
    progress = StallWatch(market, processes, view, record)
    while not (
        has_ended(processes, "trainer") and is_settled(market, ledger, launched.run_id, record)
    ):
        progress.look(may_end=("trainer",), waits_for="the last epoch and the trainer's end")


def has_ended(processes: Processes, name: str) -> bool:
    return processes[name].process.poll() is not None


def is_settled(market: Market, ledger: Ledger, run_id: int, record: Record) -> bool:
    """Return whether all accepted work is paid, no replay waits, and every exclusion was punished."""
    totals = record.snapshot()
    if not totals.excluded <= totals.slashed:
        return False
    with Reader(market.url) as reader:
        for worker in market.workers:
            for standing in reader.worker(worker.party.address).runs:
                if standing.earned < standing.accepted_tokens:
                    return False
    state = ledger.run(run_id)
    return state.num_final == state.num_posted


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
