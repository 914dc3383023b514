"""Every command at the chain, typed as a person would, against a chain in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from devchain.__main__ import development_key
from ledger.deployment import Deployment, LedgerTerms, deploy
from ledger.node import Node
from ledger.state import Office, RunParams
from protocol.canonical import keccak256
from protocol.epoch import AccountLeaf, EpochHeader, FraudReport, account_tree
from protocol.messages import Account as FileAccount
from protocol.messages import EpochFile
from rollcall.__main__ import main
from rollcall.machine.doctor import State, check_ledger
from tests.stage.waiting import started
from tests.stage.whole import WholeLedger

ROOT = Path(__file__).parents[2]
STAKE = 10**18
BUDGET = 10**19
WAIT = 2
"""Seconds of every window that these tests wait for."""
SECRET = keccak256(b"secret")
DEPLOYER, OPERATOR, VERIFIER, WORKER, ARBITER, OTHER = range(6)


def account(index: int) -> LocalAccount:
    return Account.from_key(development_key(index))


@dataclass
class Town:
    """One chain process with a ledger, and the people who type commands there."""

    url: str
    folder: Path
    deployment: Deployment
    ledgers: dict[int, WholeLedger] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        return self.folder / "deployment.json"

    def by(self, index: int) -> WholeLedger:
        if index not in self.ledgers:
            self.ledgers[index] = WholeLedger.connect(self.url, self.deployment, account(index))
        return self.ledgers[index]

    def wait(self) -> None:
        """Let every short window pass: each block is at least a second after its parent."""
        for _ in range(WAIT + 1):
            body = {"jsonrpc": "2.0", "id": 1, "method": "evm_mine", "params": []}
            assert "result" in httpx.post(self.url, json=body).json()

    def run(self, **changes: object) -> int:
        """Create a run of one verifier and return its number."""
        fields: dict[str, object] = {
            "token": self.deployment.token,
            "rate": 10,
            "min_stake": STAKE,
            "challenge_window": WAIT,
            "settle_window": WAIT,
            "resume_delay": WAIT,
            "permit_period": 3_600,
            "threshold": 1,
            "num_parameters": 1_000,
            "spec_hash": keccak256(b"spec"),
            "base_model": keccak256(b"model"),
            "licence": "MIT",
            "intended_use": "tests",
            "verifiers": (account(VERIFIER).address,),
        }
        params = RunParams(**{**fields, **changes})  # type: ignore[arg-type]
        return self.by(OPERATOR).create_run(params, BUDGET, "http://market")


Typed = Callable[..., str]


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    folder = tmp_path_factory.mktemp("town")
    command = [sys.executable, "-m", "devchain", "--port", "0", "--state", str(folder)]
    with started(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        url = [process.stdout.readline().strip() for _ in range(3)][-1]
        terms = LedgerTerms(
            arbiter=account(ARBITER).address,
            unbond_seconds=600,
            revoke_seconds=WAIT,
            min_window_seconds=WAIT,
            response_seconds=WAIT,
            appeal_seconds=60,
            ruling_seconds=60,
            timelock_seconds=WAIT,
        )
        deployment = deploy(Node.at(url), account(DEPLOYER), terms)
        deployment.save(folder / "deployment.json")
        town = Town(url, folder, deployment)
        for index in (OPERATOR, VERIFIER, WORKER, OTHER):
            town.by(DEPLOYER).mint(account(index).address, 10 * BUDGET)
        for index in (VERIFIER, WORKER):
            who = account(index).address
            town.by(index).register(STAKE, who, who)
        yield town


@pytest.fixture
def typed(town: Town, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """Type `rollcall …` as somebody and return what it printed; `fails` expects one line of error."""

    def type_in(*words: object, by: int | str | None = None, fails: bool = False) -> str:
        monkeypatch.setenv("ROLLCALL_RPC", town.url)
        monkeypatch.setenv("ROLLCALL_DEPLOYMENT", str(town.file))
        monkeypatch.setenv("COLUMNS", "500")
        monkeypatch.delenv("ROLLCALL_KEY", raising=False)
        if by is not None:
            key = by if isinstance(by, str) else "0x" + development_key(by).hex()
            monkeypatch.setenv("ROLLCALL_KEY", key)
        monkeypatch.setattr(sys, "argv", ["rollcall", *(str(word) for word in words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
            raise SystemExit(0)
        printed, error = capsys.readouterr()
        if fails:
            assert ended.value.code == 1, printed + error
            assert error.count("\n") == 1, error
            assert error.startswith("✗ ")
            return error
        assert ended.value.code == 0, printed + error
        return printed

    return type_in


def test_a_stake_is_put_in_shown_and_taken_out(town: Town, typed: Typed) -> None:
    who = account(OTHER).address
    assert "is not registered" in typed("stake", by=OTHER)
    assert "would register" in typed("stake", "1.5", "--dry-run", by=OTHER)
    assert not town.by(OTHER).is_registered(who)
    assert "has staked 1.5 RTEST" in typed("stake", "1.5", by=OTHER)
    assert f"{who} has staked 1.5 RTEST" in typed("stake", "--worker", who)
    assert "can be withdrawn from" in typed("unbond", "0.5", by=OTHER)
    assert "are unbonding until" in typed("stake", "--withdraw", by=OTHER, fails=True)
    assert "2 RTEST cannot leave" in typed("unbond", 2, by=OTHER, fails=True)
    assert account(WORKER).address in typed("payout", account(WORKER).address, by=OTHER)
    assert f"is paid to {account(WORKER).address}" in typed("payout", "--worker", who)
    assert "has no credit" in typed("withdraw", by=OTHER, fails=True)


def test_a_hot_key_consents_signs_and_is_revoked(town: Town, typed: Typed) -> None:
    cold, hot = account(WORKER).address, account(9).address
    consent = typed("consent", "--owner", cold, by=9).strip()
    typed("signer", "add", hot, "--consent", consent, by=WORKER)
    assert town.by(WORKER).owner_of(hot) == cold
    assert hot in typed("signer", "list", "--worker", cold)
    assert "a hot key of" in typed("unbond", "all", by=9, fails=True)
    assert "until" in typed("signer", "revoke", hot, by=WORKER)


def test_a_run_is_created_listed_steered_and_closed(
    town: Town, typed: Typed, tmp_path: Path
) -> None:
    config = tmp_path / "launch.toml"
    config.write_text(f"""
rpc_url = "{town.url}"
deployment = "{town.file}"
orchestrator = "http://market"
orchestrator_address = "{account(OPERATOR).address}"
trainer_address = "{account(OPERATOR).address}"
verifiers = ["{account(VERIFIER).address}"]
min_stake = 1
budget = 10
licence = "Apache-2.0"
intended_use = "adding two numbers"
windows = {{ challenge = {WAIT}, settle = {WAIT}, resume = {WAIT}, permit = 3600 }}
plan = {{ model = "{ROOT}/models/start" }}
""")
    before = town.by(OPERATOR).num_runs()
    assert "would create a run" in typed(
        "run", "create", "--config", config, "--dry-run", by=OPERATOR
    )
    assert town.by(OPERATOR).num_runs() == before
    assert "10 RTEST in escrow" in typed("run", "create", "--config", config, by=OPERATOR)
    run = before + 1
    listed = {item["run"]: item for item in json.loads(typed("run", "list", "--json"))}
    assert listed[run]["licence"] == "Apache-2.0"
    assert "adding two numbers" in typed("run", "list")
    shown = typed("run", "show", run)
    assert "until" in shown
    assert "1 of 1 must agree" in shown
    assert "12.5 RTEST" in typed("run", "fund", run, "2.5", by=OTHER)
    assert "its permit holds until" in typed("run", "permit", run, by=OPERATOR)
    assert "nothing has lapsed" in typed("run", "permit", run, "--lapse", by=OTHER, fails=True)
    assert "is no steward" in typed("run", "halt", run, "--reason", "x", by=OTHER, fails=True)
    assert "is halted" in typed("run", "halt", run, "--reason", "a mistake", by=OPERATOR)
    assert "can be done from" in typed("run", "resume", run, by=OPERATOR, fails=True)
    town.wait()
    assert "is active" in typed("run", "resume", run, by=OPERATOR)
    assert "budget left" in typed("run", "list")
    told = typed("run", "replace", run, 0, account(WORKER).address, by=OPERATOR, fails=True)
    assert "only replaced while it is short of stake" in told
    assert "Add --yes" in typed("run", "stop", run, by=OPERATOR, fails=True)
    assert "is stopped" in typed("run", "stop", run, "--yes", by=OPERATOR)
    town.wait()
    assert "12.5 RTEST are in no epoch" in typed("run", "close", run, by=OTHER)
    assert "receipts have time until" in typed("run", "refund", run, by=OTHER, fails=True)
    for _ in range(2):
        town.wait()
    assert "12.5 RTEST are credited" in typed("run", "refund", run, by=OTHER)
    had = town.by(OPERATOR).balance(account(OPERATOR).address)
    typed("withdraw", by=OPERATOR)
    assert town.by(OPERATOR).balance(account(OPERATOR).address) == had + BUDGET + 25 * 10**17


def test_a_foreign_consent_is_refused_before_the_operator_is_registered(
    town: Town, typed: Typed
) -> None:
    operator, hot = account(6).address, account(7).address
    town.by(DEPLOYER).mint(operator, BUDGET)
    settings = {
        "rpc_url": town.url,
        "deployment": town.file,
        "orchestrator": "http://market",
        "orchestrator_address": hot,
        "trainer_address": operator,
        "verifiers": [account(VERIFIER).address],
        "min_stake": 1,
        "budget": 10,
        "windows.challenge": WAIT,
        "windows.settle": WAIT,
        "windows.resume": WAIT,
        "plan.model": ROOT / "models/start",
    }
    create = ["run", "create"]
    for name, value in settings.items():
        create += ["--set", f"{name}={value}"]
    assert "may not act for" in typed(*create, by=6, fails=True)
    foreign = typed("consent", "--owner", operator, by=8).strip()
    told = typed(*create, "--set", f"orchestrator_consent={foreign}", by=6, fails=True)
    assert f"is not {hot}'s for {operator}" in told
    assert "is no signature" in typed(
        *create, "--set", "orchestrator_consent=0x12", by=6, fails=True
    )
    broken = [*create, "--set", "windows.challenge=1"]
    assert "change [windows]" in typed(*broken, by=6, fails=True)
    assert not town.by(OPERATOR).is_registered(operator)
    consent = typed("consent", "--owner", operator, by=7).strip()
    done = typed(*create, "--set", f"orchestrator_consent={consent}", by=6)
    assert f"{hot} may open epochs for {operator}" in done
    assert town.by(OPERATOR).owner_of(hot) == operator


def final_epoch(town: Town, run_id: int, units: int) -> EpochFile:
    """Post an epoch that pays the worker, and return its file."""
    who = account(WORKER).address
    leaf = AccountLeaf(who, units, 1)
    town.by(OPERATOR).open_epoch(run_id, keccak256(SECRET))
    header = EpochHeader(
        run_id=run_id,
        epoch=0,
        generation=0,
        prev_account_root=bytes(32),
        work_root=keccak256(b"work"),
        account_root=account_tree([leaf]).root,
        work_count=1,
        account_count=1,
        total=units,
        tokens=units,
        gflops=1,
        data_hash=keccak256(b"data"),
    )
    signatures = {account(VERIFIER).address: signed(town, VERIFIER, header.struct_hash())}
    town.by(OTHER).post_epoch(header, SECRET, signatures, "")
    item = FileAccount(worker=who, earned=units, last_nonce=1)
    return EpochFile(
        run_id=run_id,
        epoch=0,
        generation=0,
        prev_account_root=bytes(32),
        secret=SECRET,
        contributions=(),
        accounts=(item,),
    )


def signed(town: Town, index: int, struct_hash: bytes) -> bytes:
    digest = keccak256(b"\x19\x01" + town.by(index).domain_separator() + struct_hash)
    return bytes(account(index).unsafe_sign_hash(digest).signature)


def test_a_claim_needs_an_epoch_file_and_nobodys_machine(
    town: Town, typed: Typed, tmp_path: Path
) -> None:
    run = town.run()
    town.by(WORKER).join_run(run)
    (tmp_path / "0.bin").write_bytes(final_epoch(town, run, 7).canonical())
    claim = ("claim", "--file", tmp_path, "--run", run)
    assert "not yet: epoch 0 is final at" in typed(*claim, by=WORKER)
    town.wait()
    town.by(OTHER).advance(run)
    assert "Add --yes" in typed(*claim, by=WORKER, fails=True)
    assert "cannot be taken back" in typed("run", "retract", run, 0, by=VERIFIER, fails=True)
    dry = typed(*claim, "--dry-run", by=WORKER)
    assert "claimable 0.00000000000000007 RTEST" in dry
    assert "would claim 0.00000000000000007 RTEST" in dry
    had = town.by(WORKER).balance(account(WORKER).address)
    paid = typed(*claim, "--yes", "--worker", account(WORKER).address, by=OTHER)
    assert f"run {run}: paid 0.00000000000000007 RTEST now" in paid
    assert town.by(WORKER).balance(account(WORKER).address) == had + 70
    assert "claimable 0 RTEST" in typed(*claim, "--yes", by=WORKER)
    assert "say where epoch files are" in typed("claim", by=WORKER, fails=True)
    down = typed("claim", "--orchestrator", "http://127.0.0.1:9", by=WORKER, fails=True)
    assert "no orchestrator answers" in down


def test_a_wrongful_slash_is_appealed_and_reversed(town: Town, typed: Typed) -> None:
    run, who = town.run(), account(WORKER).address
    town.by(WORKER).join_run(run)
    report = FraudReport(
        run, who, keccak256(b"work"), keccak256(b"no evidence"), STAKE, town.by(WORKER).block_time()
    )
    signatures = {account(VERIFIER).address: signed(town, VERIFIER, report.struct_hash())}
    slash = "0x" + town.by(OTHER).propose_slash(report, signatures).hex()
    listed = typed("appeal", by=WORKER)
    assert slash in listed
    assert "1 RTEST held" in listed
    assert "appealed; publish" in typed("appeal", slash, "--reason", "another card", by=WORKER)
    told = typed("appeal", slash, "--rule", "innocent", by=OTHER, fails=True)
    assert "has no such office" in told
    assert "ruled innocent" in typed("appeal", slash, "--rule", "innocent", by=ARBITER)
    assert "dismissed already" in typed("appeal", slash, "--settle", by=OTHER, fails=True)
    assert town.by(WORKER).stake_of(who) == STAKE
    assert "give an ID with one of" in typed("appeal", slash, by=WORKER, fails=True)


def test_a_guardian_pauses_unpauses_and_resigns(town: Town, typed: Typed) -> None:
    pause = ("council", "pause", 24, "--reason", "claims are paid twice")
    assert "use the arbiter's key for rulings" in typed(*pause, by=OTHER, fails=True)
    assert "a pause of 7 days 1 h is longer" in typed(
        *("council", "pause", 169, "--reason", "why"), by=DEPLOYER, fails=True
    )
    assert "would pause the ledger for 24 h" in typed(*pause, "--dry-run", by=DEPLOYER)
    assert town.by(OTHER).paused_until() == 0
    said = typed(*pause, by=DEPLOYER)
    assert keccak256(b"claims are paid twice").hex() in said
    until = town.by(OTHER).paused_until()
    assert until >= town.by(OTHER).block_time() + 23 * 3_600
    assert town.by(OTHER).next_pause_at() == until + 29 * 86_400
    run_id = town.by(OTHER).num_runs()
    assert "the ledger is paused until" in typed("run", "fund", run_id, 1, by=OTHER, fails=True)
    assert "no such office" in typed("council", "unpause", by=OTHER, fails=True)
    typed("council", "unpause", by=DEPLOYER)
    assert town.by(OTHER).paused_until() <= town.by(OTHER).block_time()
    assert "nothing is paused" in typed("council", "unpause", by=DEPLOYER, fails=True)
    assert "the next pause may begin at" in typed(*pause, by=DEPLOYER, fails=True)

    guardian = account(DEPLOYER).address
    resign = ("council", "resign", "guardian")
    assert "is no guardian" in typed(*resign, "--yes", by=OTHER, fails=True)
    assert "would resign as guardian" in typed(*resign, "--dry-run", by=DEPLOYER)
    assert "Add --yes" in typed(*resign, by=DEPLOYER, fails=True)
    assert town.by(OTHER).holds(Office.GUARDIAN, guardian)
    typed(*resign, "--yes", by=DEPLOYER)
    assert not town.by(OTHER).holds(Office.GUARDIAN, guardian)
    assert "no such office" in typed("council", "unpause", by=DEPLOYER, fails=True)


def test_what_is_wrong_on_the_way_to_the_ledger_is_one_line(
    town: Town, typed: Typed, tmp_path: Path
) -> None:
    assert "no chain answers at http://127.0.0.1:9" in typed(
        *("run", "list", "--rpc", "http://127.0.0.1:9"), fails=True
    )
    assert "write http://localhost:8545" in typed(
        *("run", "list", "--rpc", "localhost:8545"), fails=True
    )
    assert "no deployment file at" in typed(
        *("run", "list", "--deployment", tmp_path / "none.json"), fails=True
    )
    (tmp_path / "junk.json").write_text("{")
    assert "is no deployment file of this version" in typed(
        *("run", "list", "--deployment", tmp_path / "junk.json"), fails=True
    )
    other = json.loads(town.file.read_text())
    (tmp_path / "chain.json").write_text(json.dumps({**other, "chain_id": 5}))
    assert f"serves {other['chain_id']}, not 5" in typed(
        *("run", "list", "--deployment", tmp_path / "chain.json"), fails=True
    )
    nobody = {key: "0x" + "11" * 20 for key, value in other.items() if str(value).startswith("0x")}
    (tmp_path / "empty.json").write_text(json.dumps({**other, **nobody}))
    assert "no ledger answers at" in typed(
        *("run", "list", "--deployment", tmp_path / "empty.json"), fails=True
    )
    assert "name a node with --rpc" in typed("run", "list", "--rpc", "", fails=True)
    assert "set ROLLCALL_KEY" in typed("unbond", "all", fails=True)
    assert "there is no run 999" in typed("run", "show", 999, fails=True)
    assert "is not an amount" in typed("stake", "lots", by=WORKER, fails=True)
    poor = Account.from_key(b"\x77" * 32)
    town.by(OTHER).mint(poor.address, STAKE)
    assert "gas: send it" in typed("stake", 1, by="0x" + poor.key.hex(), fails=True)


@pytest.mark.parametrize("command", ["audit", "watch"])
def test_auditing_nobody_or_nowhere_is_one_line(typed: Typed, tmp_path: Path, command: str) -> None:
    nobody, options = "http://127.0.0.1:9", []
    if command == "watch":
        options = ["--once", "--state", str(tmp_path)]
        assert "set ROLLCALL_KEY" in typed(command, nobody, *options, fails=True)
    down = typed(command, nobody, *options, "--rpc", nobody, by=OTHER, fails=True)
    assert "no chain answers at" in down
    absent = typed(command, nobody, *options, "--deployment", tmp_path / "no", by=OTHER, fails=True)
    assert "no deployment file at" in absent


def test_the_doctor_looks_whether_the_ledger_answers(
    town: Town, typed: Typed, tmp_path: Path
) -> None:
    asked = ("doctor", "--rpc", town.url, "--deployment")
    assert "runs, staking in RTEST" in typed(*asked, town.file, by=WORKER)
    check = check_ledger(town.url, tmp_path / "none.json")
    assert (check.state, bool(check.remedy)) == (State.FAIL, True)


def test_the_installed_command_says_one_line_and_exits_1(town: Town) -> None:
    """The same through a process, so that nothing above hides a trace."""
    done = subprocess.run(
        [sys.executable, "-m", "rollcall", "unbond", "all", "--rpc", "http://127.0.0.1:9"],
        env={**os.environ, "ROLLCALL_KEY": "0x" + development_key(WORKER).hex(), "COLUMNS": "500"},
        cwd=town.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("✗ no chain answers at http://127.0.0.1:9")
