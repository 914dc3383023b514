"""The worker's program: choose the best paid run, open an engine, join the run, work a shift, again.

What happens inside a run is `session.py`'s; which run is chosen, `choose.py`'s.
"""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import structlog

from client.look import look
from client.policies import PolicyCache, PolicyUnreachable, bring_model_folder, bring_tokenizer
from client.retry import Unreachable
from client.worker import WorkerRoutes
from ledger.amounts import token_of
from ledger.errors import LedgerError
from local.threads import beside
from local.voice import stop_on_signals, telling
from protocol.checks.sequential import check
from protocol.errors import MarketError, Refused
from protocol.messages import SELF_CHECK_GROUPS, RunInfo
from protocol.run import RunSpec
from protocol.user_error import UserError, hosts_only, one_line
from protocol.wire import checksum_address
from rollout_worker.choose import OVER, Ability, choose, is_over, obstacles
from rollout_worker.config import WorkerConfig
from rollout_worker.engines.base import Engine, engine_name
from rollout_worker.engines.registry import open_engine
from rollout_worker.first_look import require_own_role, require_run
from rollout_worker.pay.appeals import Appeals, answering, see_out
from rollout_worker.pay.bookkeeping import Bookkeeper, keep_books
from rollout_worker.pay.exposure import Exposure
from rollout_worker.pay.receipts import ReceiptBook
from rollout_worker.replay.self_check import self_check
from rollout_worker.routes import opened_routes
from rollout_worker.session import End, Seller, Shift
from rollout_worker.wallet import Wallet


def serve(seller: Seller, wallet: Wallet) -> None:
    """Work until told to stop or no run is left, and answer accusations meanwhile and after."""
    config = seller.config
    if not config.appeals:
        sell(seller, wallet)
        return
    appeals = Appeals(config, wallet, seller.routes, seller.receipts)
    with answering(appeals):
        excluded_from = sell(seller, wallet)
    see_out(appeals, excluded_from, seller.stop)


def sell(seller: Seller, wallet: Wallet) -> set[int]:
    """Work for the best run there is until told to stop, or until every configured run is over.

    Returns the runs that excluded this worker.
    """
    log = structlog.get_logger()
    barred: set[int] = set()
    refused: dict[int, str] = {}
    told: dict[int, str] | None = None
    excluded_from: set[int] = set()
    give_up = seller.stop.is_set
    while not seller.stop.is_set():
        try:
            runs = seller.routes.runs(give_up=give_up)
            info = choose(runs, seller.ability, barred=barred)
            if info is not None:
                end = attempt(seller, wallet, info, refused)
                log.info("left run", run=info.run_id, reason=str(end))
                if end in (End.RUN_OVER, End.EXCLUDED, End.REFUSED):
                    barred.add(info.run_id)
                if end is End.EXCLUDED:
                    excluded_from.add(info.run_id)
                continue
        except Unreachable:
            break
        if told != (told := obstacles(runs, seller.ability, barred=barred)):
            why = {f"run_{number}": reason for number, reason in told.items()}
            log.info("no run to serve: waiting", **(why or {"reason": "none is served yet"}))
        require_a_future(runs, refused)
        if is_over(runs, seller.ability, barred=barred):
            log.info("no run left to serve", barred=sorted(barred))
            break
        seller.counters.write()
        seller.stop.wait(seller.config.poll_seconds)
    return excluded_from


def require_a_future(runs: Sequence[RunInfo], refused: Mapping[int, str]) -> None:
    """Raise `UserError` where this machine or wallet was refused by every run there is: waiting mends neither."""
    open_runs = {info.run_id for info in runs if info.status not in OVER}
    if refused and open_runs <= refused.keys():
        raise UserError("; ".join(f"run {number}: {why}" for number, why in refused.items()))


def attempt(
    seller: Seller, wallet: Wallet, info: RunInfo, refused: dict[int, str] | None = None
) -> End:
    """Work for a run; what hinders this worker is logged, and tried again unless it is a refusal."""
    log = structlog.get_logger().bind(run=info.run_id)
    try:
        with unbroken():
            return work_for(seller, wallet, info)
    except Refused as error:
        log.error("run refused", code=error.code, reason=error.message)
        if refused is not None:
            refused[info.run_id] = error.message
        return End.REFUSED
    except (MarketError, LedgerError, PolicyUnreachable) as error:
        log.error("run cannot be served now", reason=str(error))
        seller.stop.wait(seller.config.poll_seconds)
        return End.INTERRUPTED


@contextmanager
def unbroken() -> Iterator[None]:
    """Raise `Refused` for what a library raises: of what an operator wrote into a model, engines raise anything."""
    try:
        yield
    except (UserError, MarketError, LedgerError, PolicyUnreachable):
        raise
    except Exception as error:
        said = " ".join(repr(error).split())[:300]
        raise Refused(
            f"{said} was raised by this machine or for this model: see `rollcall doctor`"
        ) from error


def work_for(seller: Seller, wallet: Wallet, info: RunInfo) -> End:
    """Check a run, open an engine on its newest policy, join, and work a shift.

    Joining costs gas, so it comes after all that may turn out impossible.
    """
    require_own_role(wallet.check_run(info).verifiers, info, wallet)
    store = PolicyCache(
        seller.routes, run_id=info.run_id, spec=info.spec, domain=seller.domain, keep=2
    )
    give_up = seller.stop.is_set
    manifest = seller.routes.manifest(info.run_id, info.newest_version, give_up=give_up).manifest
    policy = store.reach(manifest.version, manifest.policy_digest, give_up=give_up)
    folder = seller.config.data_dir / "models" / str(info.run_id)
    bring_model_folder(seller.routes, info.spec, policy.weights, folder, give_up=give_up)
    with opened(seller.config, info.spec, folder) as engine:
        log = structlog.get_logger()
        log.info("engine ready", engine=engine.name)
        wallet.join(info)
        with books_of(seller, wallet, info.run_id) as books:
            permit = Exposure(wallet.permit(info.run_id), books, seller.config.most_unposted_groups)
            told = partial(progress, seller, wallet, info, books)
            with telling(f"run {info.run_id}", told, seconds=seller.config.tell_seconds):
                end = Shift(seller, info, store, engine, permit).run()
            tell_unposted(books, info.run_id)
            log.info("to be paid", **{"run": info.run_id, "command": claiming(seller.config)})
            return check_self(seller, info, store, engine, folder) if end is End.PAUSED else end


def progress(seller: Seller, wallet: Wallet, info: RunInfo, books: Bookkeeper) -> dict[str, object]:
    """Return what was sold since this worker's first start, what it earned by stage, and what it waits for."""
    told = seller.counters.brief("groups", "tokens", "rejected", "waits_for")
    try:
        earned = books.earnings()
        return {**told, **(earned.shown(token_of(wallet.ledger, info.token)) if earned else {})}
    except LedgerError as error:
        return {**told, "earned": f"not known: {one_line(error)}"}


def claiming(config: WorkerConfig) -> str:
    """Return the command that claims what this worker earned."""
    chain = config.chain
    place = f"--rpc {hosts_only(chain.rpc_url)} --deployment {chain.deployment}"
    return f"rollcall claim --orchestrator {config.orchestrator} {place}"


def check_self(
    seller: Seller, info: RunInfo, store: PolicyCache, engine: Engine, folder: Path
) -> End:
    """Measure this machine after an alarm; ask to go on where it passes, else leave with what is off."""
    log, spec = structlog.get_logger().bind(run=info.run_id), info.spec
    give_up = seller.stop.is_set
    newest = seller.routes.run(info.run_id, give_up=give_up).newest_version
    policy = store.version(newest, give_up=give_up)
    bring_tokenizer(seller.routes, spec, folder, give_up=give_up)
    log.info("checking this machine", groups=SELF_CHECK_GROUPS, version=newest)
    found = self_check(
        engine, spec, folder, policy.weights, version=newest, salt=time.time_ns() % (1 << 63)
    )
    broken = check(found.stats, spec.thresholds)
    if broken is not None:
        log.error(
            "this machine does not compute as the run asks",
            found=broken,
            remedy="rollcall doctor --calibrate shows it; install the pinned versions (make setup), let nothing "
            "quantise weights or cache, or take another engine",
        )
        return End.REFUSED
    seller.routes.self_check(info.run_id, found, give_up=give_up)
    log.info("self-check passed")
    return End.RESUMED


def tell_unposted(books: Bookkeeper, run_id: int) -> None:
    """Say on leaving a run what it took and put into no epoch."""
    num_groups, tokens = books.unposted()
    if num_groups:
        facts = {"run": run_id, "groups": num_groups, "tokens": tokens}
        remedy = "`rollcall owed --config worker.toml` shows it and claims what is overdue"
        structlog.get_logger().warning("in no posted epoch yet", **facts, remedy=remedy)


@contextmanager
def books_of(seller: Seller, wallet: Wallet, run_id: int) -> Iterator[Bookkeeper]:
    """Keep a run's books in a thread of their own, which mostly waits."""
    stop = threading.Event()
    bookkeeper = Bookkeeper(
        wallet.ledger,
        seller.routes,
        run_id=run_id,
        worker=seller.identity,
        receipts=seller.receipts,
        folder=seller.config.data_dir / "epochs",
        proves=seller.config.prove_omissions,
        give_up=stop.is_set,
    )
    seconds = seller.config.books_seconds
    with beside(stop, partial(keep_books, bookkeeper, stop, seconds=seconds)):
        yield bookkeeper


@contextmanager
def opened(config: WorkerConfig, spec: RunSpec, folder: Path) -> Iterator[Engine]:
    """Open the configured engine as large as the run needs it, and close it whatever happens.

    Raises `Refused` where it does not open: what is missing is this machine's or this config's.
    """
    chosen = config.engine
    try:
        engine = open_engine(
            chosen.name,
            folder,
            dtype=spec.compute_dtype,
            device=chosen.device,
            max_model_len=spec.max_model_len,
            max_sequences=min(chosen.max_sequences, config.groups_per_call * spec.group_size),
            kv_cache_mib=chosen.kv_cache_mib,
            quantise_bits=chosen.quantise_bits,
            seed_shift=chosen.seed_shift,
        )
    except Exception as error:
        # Libraries raise anything: for a device that a build lacks, for what an operator wrote in a config.json.
        raise Refused(
            f"engine.name={chosen.name} on engine.device={chosen.device} does not open: "
            f"{' '.join(str(error).split())}; choose another engine, or see `rollcall doctor`"
        ) from error
    try:
        yield engine
    finally:
        engine.close()


def main(config: WorkerConfig, key: bytes) -> None:
    """Run one worker until SIGINT or SIGTERM, or until its runs are over."""
    stop = threading.Event()
    with open_seller(config, key, stop) as (seller, wallet):
        stop_on_signals(stop, "finishing the groups in hand")
        serve(seller, wallet)


@contextmanager
def open_seller(
    config: WorkerConfig, key: bytes, stop: threading.Event
) -> Iterator[tuple[Seller, Wallet]]:
    """Look at the market, then wire one worker's parts together; joining a run is what registers and stakes."""
    runs = look(config.orchestrator)
    wallet = Wallet.open(config.chain, key)
    paid_in = config.token or checksum_address(wallet.ledger.deployment.token)
    unit = token_of(wallet.ledger, paid_in)
    ability = Ability(
        engine=engine_name(config.engine.name, config.engine.device),
        token=paid_in,
        min_rate=unit.exactly(config.min_rate),
        unit=unit,
        wanted=config.runs,
        draws_natively=config.engine.name == "vllm" and config.engine.device.startswith("cuda"),
    )
    require_run(runs, ability, wallet, at=config.orchestrator)
    with opened_routes(WorkerRoutes, config, key, wallet, role="worker") as (routes, counters):
        counters.state("engine", ability.engine)
        seller = Seller(
            config=config,
            key=key,
            identity=wallet.identity(),
            domain=wallet.domain,
            routes=routes,
            receipts=ReceiptBook(config.data_dir / "receipts"),
            counters=counters,
            ability=ability,
            stop=stop,
        )
        yield seller, wallet
