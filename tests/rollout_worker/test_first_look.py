"""Before money moves: the market, the run, the key's part in it, the wallet and the engine are looked at."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from eth_account import Account

from ledger.ledger import Ledger
from protocol.errors import Refused
from protocol.signing import address_of
from protocol.user_error import UserError
from rollcall.demo.services import free_port
from rollcall.frame.settings import to_toml
from rollout_worker.main import open_seller, serve
from rollout_worker.verify.opening import open_verifier
from tests.stage.live import LiveMarket, key_of, live_market


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveMarket]:
    folder = tmp_path_factory.mktemp("market")
    with live_market(
        folder, workers=("newcomer", "engineless"), verifier="verifier", spenders=("tokenless",)
    ) as market:
        yield market


def ledger_of(live: LiveMarket, name: str) -> Ledger:
    return Ledger.connect(live.rpc_url, live.launched.deployment, Account.from_key(key_of(name)))


def is_untouched(live: LiveMarket, name: str) -> bool:
    """Return whether an account has registered, staked and joined nothing."""
    ledger, who = ledger_of(live, name), address_of(key_of(name))
    return not (
        ledger.is_registered(who) or ledger.stake_of(who) or ledger.is_joined(live.run_id, who)
    )


def work(live: LiveMarket, name: str, **changes: object) -> None:
    with open_seller(live.worker(name, **changes), key_of(name), threading.Event()) as opened:
        serve(*opened)


def test_an_address_without_a_scheme_is_named_and_stakes_nothing(live: LiveMarket) -> None:
    place = f"127.0.0.1:{free_port()}"
    with pytest.raises(UserError, match=place):
        work(live, "newcomer", orchestrator=place)
    assert is_untouched(live, "newcomer")


def test_join_at_a_wrong_address_is_one_line_and_stakes_nothing(
    live: LiveMarket, tmp_path: Path
) -> None:
    place = f"http://127.0.0.1:{free_port()}"
    file = tmp_path / "worker.toml"
    file.write_text(to_toml(live.worker("newcomer", orchestrator=place)))
    done = subprocess.run(
        [sys.executable, "-m", "rollcall", "join", "--config", str(file)],
        env={"ROLLCALL_KEY": "0x" + key_of("newcomer").hex(), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    [line] = done.stderr.splitlines()
    assert line.startswith("✗ ")
    assert place in line
    assert done.returncode == 1
    assert is_untouched(live, "newcomer")


def test_a_run_that_is_not_served_is_named_beside_those_that_are(live: LiveMarket) -> None:
    with pytest.raises(
        UserError, match=rf"run 7 is not served there; .* serves runs {live.run_id}"
    ):
        work(live, "newcomer", runs=[7])
    assert is_untouched(live, "newcomer")


def test_a_run_of_another_ledger_is_refused_before_a_stake(
    live: LiveMarket, tmp_path: Path
) -> None:
    other = json.loads((live.folder / "deployment.json").read_text())
    other["ledger"] = other["registry"]
    (tmp_path / "deployment.json").write_text(json.dumps(other))
    chain = {"rpc_url": live.rpc_url, "deployment": tmp_path / "deployment.json", "stake": 1}
    with pytest.raises(UserError, match=f"run {live.run_id} cannot be worked for"):
        work(live, "newcomer", chain=chain)
    assert is_untouched(live, "newcomer")


@pytest.mark.parametrize("role", ["trainer", "orchestrator", "verifier"])
def test_the_key_of_another_role_is_refused(live: LiveMarket, role: str) -> None:
    with pytest.raises(
        UserError, match=f"{role}'s key in run {live.run_id}: take a key of its own"
    ):
        work(live, role)


def test_a_verifier_with_another_roles_key_is_refused(live: LiveMarket) -> None:
    with (
        pytest.raises(Refused, match="trainer's key in run"),
        open_verifier(live.verifier("trainer"), key_of("trainer"), threading.Event()),
    ):
        pass


def test_tokens_and_gas_are_told_in_one_line_in_tokens(live: LiveMarket) -> None:
    nobody = address_of(key_of("penniless"))
    with pytest.raises(
        UserError, match=f"{nobody} needs 1 RTEST of stake, and has 0 RTEST; it needs .* for gas"
    ):
        work(live, "penniless")
    with pytest.raises(UserError, match="needs 1 RTEST of stake, and has 0 RTEST: send it") as told:
        work(live, "tokenless")
    assert "gas" not in str(told.value)
    assert is_untouched(live, "tokenless")


def test_an_engine_that_does_not_open_ends_the_worker_before_a_stake(live: LiveMarket) -> None:
    with pytest.raises(UserError, match=r"engine.device=cuda:99 does not open"):
        work(live, "engineless", engine={"name": "transformers", "device": "cuda:99"})
    assert is_untouched(live, "engineless")
