"""Markets of real processes in which verifiers lie, stewards halt, a permit lapses and the orchestrator
is gone: everybody is still paid exactly for the work they did.

On the development chain, and on anvil where it is installed.
"""

import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from client.public import Reader
from ledger.state import LedgerStatus
from protocol.canonical import content_digest, keccak256
from protocol.epoch import header_of, uri_of
from protocol.errors import NotFound, RunNotOpen
from protocol.messages import EpochFile, EpochStage, LeaseRequest, Leases
from protocol.signing import Domain, address_of, sign
from rollcall.demo.processes import Command
from rollcall.demo.services import chain_command
from tests.stage.anvil import executable, needs_anvil
from tests.stage.epochs import padded, retold
from tests.stage.light import LightWorker, selling, verifying
from tests.stage.live import STAKE, WINDOWS, ChainCommand, LiveMarket, key_of, live_market
from tests.stage.waiting import wait_until

VERIFIERS = ("v0", "v1", "v2", "v3")
STEWARDS = ("s0", "s1")


def anvil_command(folder: Path, port: int, fund: object) -> Command:
    """Return anvil as this market's chain; `give_gas` funds it."""
    del folder, fund
    program = executable()
    assert program is not None
    return Command("chain", (program, "--port", str(port), "--block-time", "1"))


CHAINS = [
    pytest.param(chain_command, id="devchain"),
    pytest.param(anvil_command, id="anvil", marks=needs_anvil),
]


def members(*names: str) -> tuple[str, ...]:
    """Return addresses as a run lists its members."""
    return tuple(sorted((address_of(key_of(name)) for name in names), key=str.lower))


@contextmanager
def market(
    folder: Path, chain: ChainCommand, *, permit: int = 86_400, renews: bool = True
) -> Iterator[LiveMarket]:
    """Start a market with two workers, three verifiers of which two suffice, one in reserve."""
    windows = WINDOWS.model_copy(update={"challenge": 20, "permit": permit, "unbond": 600})
    with live_market(
        folder,
        workers=("alice", "bob", *VERIFIERS[1:]),
        verifier=VERIFIERS[0],
        epoch_seconds=2,
        spenders=("watcher", *STEWARDS),
        chain=chain,
        orchestrator_settings={"renew_permits": renews, "watch_postings": False},
        plan={"num_probation_groups": 0},
        verifiers=members(*VERIFIERS[:3]),
        threshold=2,
        stewards=members(*STEWARDS),
        steward_threshold=2,
        windows=windows,
    ) as live:
        yield live


@pytest.fixture(params=CHAINS)
def disputed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LiveMarket]:
    with market(tmp_path, request.param) as live:
        yield live


def test_a_padded_epoch_is_voided_by_the_watch_and_everybody_is_paid(disputed: LiveMarket) -> None:
    live = disputed
    with ExitStack() as stack:
        quorum = stack.enter_context(verifying(live, *VERIFIERS))
        quorum.signs = False
        alice, bob = (stack.enter_context(selling(live, name)) for name in ("alice", "bob"))
        units = {worker.address: worker.sell(4) for worker in (alice, bob)}
        start_watch(live)
        proposed = proposed_file(live, alice)
        post(live, padded(proposed), "v0", "v1")
        ledger = live.ledger("watcher")
        wait_until(lambda: ledger.run(live.run_id).generation == 1, check=live.processes.check)
        assert [ledger.stake_of(address_of(key_of(n))) for n in VERIFIERS] == [0, 0, STAKE, STAKE]
        replace(live, "v0", "v3")
        quorum.signs = True
        wait_until(lambda: earned(live, units) == units)
        run = ledger.run(live.run_id)
        assert run.finalised == sum(units.values()) * live.spec.rate
        assert run.status is LedgerStatus.ACTIVE
        wait_until(lambda: kept(alice, run.num_final - 1))
        quorum.stop()
        live.kill_orchestrator()
        for worker in (alice, bob):
            assert claim(live, worker) == units[worker.address] * live.spec.rate


def test_skipped_work_is_shown_by_its_worker_and_then_paid(tmp_path: Path) -> None:
    """Two verifiers pay a worker's groups but for the last but one: nothing in the header is false, only
    the worker's receipt shows it.
    """
    with market(tmp_path, chain_command) as live, ExitStack() as stack:
        quorum = stack.enter_context(verifying(live, *VERIFIERS[:3]))
        quorum.accepts = quorum.signs = False
        alice, bob = (stack.enter_context(selling(live, name)) for name in ("alice", "bob"))
        units = {worker.address: worker.sell(6) for worker in (alice, bob)}
        quorum.accepts = True
        ledger, operator = live.ledger("watcher"), live.ledger("operator")
        ledger.mint(address_of(key_of("operator")), STAKE)
        operator.stake(STAKE)
        ledger.mint(alice.address, STAKE)  # of which a hundredth is the bond
        start_watch(live)
        post(live, skipping(file_of_several(live, alice), alice.address), "v0", "v1")
        wait_until(lambda: ledger.run(live.run_id).generation == 1, check=live.processes.check)
        assert ledger.stake_of(address_of(key_of("operator"))) == 0
        assert [ledger.stake_of(address_of(key_of(n))) for n in VERIFIERS[:3]] == [STAKE] * 3
        quorum.signs = True
        wait_until(lambda: earned(live, units) == units)


def test_what_was_done_before_a_halt_and_a_lapse_is_paid(tmp_path: Path) -> None:
    with market(tmp_path, chain_command, permit=60, renews=False) as live, ExitStack() as stack:
        stack.enter_context(verifying(live, *VERIFIERS[:3]))
        alice, bob = (stack.enter_context(selling(live, name)) for name in ("alice", "bob"))
        units = {alice.address: alice.sell(3), bob.address: 0}
        ledger = live.ledger("watcher")
        halt(live)
        wait_until(lambda: is_refused(bob))
        wait_until(lambda: earned(live, units) == units)
        assert ledger.run(live.run_id).status is LedgerStatus.HALTED
        resume(live)
        wait_until(lambda: not is_refused(bob))
        units[bob.address] = bob.sell(2)
        wait_until(lambda: is_refused(bob))
        run = ledger.run(live.run_id)
        wait_until(lambda: ledger.block_time() > run.permit_until)
        assert ledger.run(live.run_id).status is LedgerStatus.ACTIVE, "nobody halted it"
        wait_until(lambda: earned(live, units) == units)
        for worker in (alice, bob):
            assert claim(live, worker) == units[worker.address] * live.spec.rate


# what the parties do


def start_watch(live: LiveMarket) -> None:
    """Start `rollcall watch` with a key that has nothing but gas, and wait until it looks."""
    argv = (
        *(sys.executable, "-m", "rollcall", "watch", live.url, "--rpc", live.rpc_url),
        *("--deployment", str(live.folder / "deployment.json")),
        *("--state", str(live.folder / "watch")),
    )
    live.processes.start(Command("watch", argv, {"ROLLCALL_KEY": "0x" + key_of("watcher").hex()}))
    log = live.folder / "logs" / "watch.log"
    wait_until(lambda: "watching the runs" in log.read_text(), check=live.processes.check)


def file_of_several(live: LiveMarket, worker: LightWorker) -> EpochFile:
    """Return the first honest file with more than one group of the worker's; post those before it.

    Which groups are accepted before an epoch closes is chance.
    """
    epoch = 0
    while True:
        file = proposed_file(live, worker, epoch)
        if [c.worker for c in file.contributions].count(worker.address) > 1:
            return file
        post(live, file, "v0", "v1")
        epoch += 1


def proposed_file(live: LiveMarket, reader: LightWorker, epoch: int = 0) -> EpochFile:
    """Return the honest file that the orchestrator wants signed, as any verifier sees it."""
    seller = reader.seller

    def is_proposed() -> bool:
        try:
            return seller.routes.epoch(live.run_id, epoch).stage is EpochStage.SIGNING
        except NotFound:  # it has not opened yet
            return False

    wait_until(is_proposed)
    info = seller.routes.epoch(live.run_id, epoch)
    return EpochFile.from_canonical(seller.routes.blob(info.file, max_bytes=1 << 24, kind="epoch"))


def skipping(file: EpochFile, worker: str) -> EpochFile:
    """Return the file without the worker's last group but one, in sums that agree."""
    skipped = [c for c in file.contributions if c.worker == worker][-2]
    return retold(file, [c for c in file.contributions if c is not skipped])


def post(live: LiveMarket, file: EpochFile, *signers: str) -> None:
    """Post a file's epoch as its signers, without the orchestrator, its data where all can see it."""
    data = file.canonical()
    live.publisher.client.put_blob(data)
    header = header_of(file, data)
    ledger = live.ledger(signers[0])
    digest = Domain(ledger.deployment.chain_id, ledger.deployment.ledger).digest(header)
    signatures = {address_of(key_of(name)): sign(key_of(name), digest) for name in signers}
    ledger.post_epoch(header, file.secret, signatures, uri_of(content_digest(data)))


def replace(live: LiveMarket, before: str, after: str) -> None:
    """Put a verifier in the place of one that was slashed, as the operator."""
    operator = live.ledger("operator")
    index = operator.run(live.run_id).roster.index(address_of(key_of(before)))
    operator.propose_replacement(live.run_id, index, address_of(key_of(after)))
    due = operator.replacement(live.run_id)
    assert due is not None
    wait_until(lambda: operator.block_time() >= due.earliest)
    operator.replace_verifier(live.run_id)


def halt(live: LiveMarket) -> None:
    for name in STEWARDS:
        live.ledger(name).halt_run(live.run_id, keccak256(b"it writes what it must not"))


def resume(live: LiveMarket) -> None:
    run = live.ledger("operator").run(live.run_id)
    earliest = run.halted_at + run.resume_delay
    wait_until(lambda: live.ledger("operator").block_time() >= earliest)
    for name in STEWARDS:
        live.ledger(name).resume_run(live.run_id)


# what can be seen


def is_refused(worker: LightWorker) -> bool:
    """Return whether the orchestrator leases nothing; what it does lease is returned at once."""
    routes = worker.seller.routes
    try:
        answer = routes.lease(worker.info.run_id, LeaseRequest(count=1))
    except RunNotOpen:
        return True
    if isinstance(answer, Leases):
        ids = tuple(signed.lease.lease_id for signed in answer.leases)
        routes.return_leases(worker.info.run_id, ids)
    return False


def earned(live: LiveMarket, workers: Iterable[str]) -> dict[str, int]:
    """Return the units of final epochs by worker, as the market tells them."""
    reader = Reader(live.url)
    return {worker: sum(run.earned for run in reader.worker(worker).runs) for worker in workers}


def kept(worker: LightWorker, epoch: int) -> bool:
    name = f"run-{worker.info.run_id}-epoch-{epoch}.bin"
    return (worker.seller.config.data_dir / "epochs" / name).exists()


def claim(live: LiveMarket, worker: LightWorker) -> int:
    """Claim as a stranger would for the worker, from the file on its disk and a node; return what came."""
    run = live.ledger("watcher").run(live.run_id)
    name = f"run-{live.run_id}-epoch-{run.num_final - 1}.bin"
    data = (worker.seller.config.data_dir / "epochs" / name).read_bytes()
    before = worker.wallet.ledger.balance(worker.address)
    live.claim(EpochFile.from_canonical(data), worker.address, by="watcher")
    return worker.wallet.ledger.balance(worker.address) - before
