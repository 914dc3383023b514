"""A whole market whose every party has a node that limits, lags, refuses and knows no EIP-1559.

Deploying, staking, creating a run, joining, selling, settling, claiming, listing, auditing and watching: each goes on
as with a kind node, and nobody's process ends.
"""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from protocol.signing import address_of
from rollcall.__main__ import main
from rollcall.demo.processes import Command
from rollcall.frame.settings import to_toml
from tests.stage.light import selling, verifying
from tests.stage.live import LiveMarket, key_of, live_market
from tests.stage.unfriendly import ALL
from tests.stage.waiting import wait_until

Typed = Callable[..., str]


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveMarket]:
    folder = tmp_path_factory.mktemp("unfriendly")
    with live_market(
        folder, workers=("alice", "walter"), verifier="v", epoch_seconds=2, habits=ALL
    ) as live:
        yield live


@pytest.fixture
def typed(
    market: LiveMarket, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Typed:
    """Type `rollcall …` behind the unfriendly node, as alice."""

    def type_in(*words: object) -> str:
        monkeypatch.setenv("ROLLCALL_RPC", market.rpc_url)
        monkeypatch.setenv("ROLLCALL_DEPLOYMENT", str(market.folder / "deployment.json"))
        monkeypatch.setenv("ROLLCALL_KEY", "0x" + key_of("alice").hex())
        monkeypatch.setenv("COLUMNS", "500")
        monkeypatch.setattr(sys, "argv", ["rollcall", *(str(word) for word in words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
            raise SystemExit(0)
        printed, error = capsys.readouterr()
        assert ended.value.code == 0, printed + error
        assert "pass" not in error
        return printed

    return type_in


def test_a_market_goes_on_behind_an_unfriendly_node(
    market: LiveMarket, typed: Typed, tmp_path: Path
) -> None:
    alice = address_of(key_of("alice"))
    with verifying(market, "v"), selling(market, "alice") as worker:
        worker.sell(4)
        wait_until(lambda: market.ledger("alice").run(market.run_id).num_final > 0)
        assert market.ledger("alice").is_joined(market.run_id, alice)
    listed = {item["run"]: item for item in json.loads(typed("run", "list", "--json"))}
    assert listed[market.run_id]["status"] == "active"
    assert "1 RTEST" in typed("stake")
    paid = typed("claim", "--orchestrator", market.url, "--run", market.run_id, "--yes")
    assert f"run {market.run_id}: paid" in paid
    assert market.ledger("alice").claimed(market.run_id, alice) > 0
    assert "nothing differs" in typed("audit", market.url, "--run", market.run_id)
    watch = ("watch", market.url, "--once", "--state", tmp_path, "--run", market.run_id)
    typed(*watch)
    typed(*watch)
    for words in (("doctor",), ("status", "--orchestrator", market.url)):
        found = " ".join(typed(*words, "--rpc", market.rpc_url).split())
        assert "limits how often it is asked" in found
        assert "blocks at a time" in found
        assert "no fees of EIP-1559" in found
    market.processes.check()


@pytest.mark.slow
def test_a_worker_and_a_verifier_with_engines_are_paid_behind_an_unfriendly_node(
    market: LiveMarket, typed: Typed
) -> None:
    walter = address_of(key_of("walter"))
    for name, word, config in (
        ("walter", "join", market.worker("walter")),
        ("v", "verify", market.verifier("v")),
    ):
        file = market.folder / f"{name}.toml"
        file.write_text(to_toml(config))
        argv = (sys.executable, "-m", "rollcall", word, "--config", str(file))
        secret = {"ROLLCALL_KEY": "0x" + key_of(name).hex()}
        market.processes.start(Command(name, argv, secret))

    def is_paid() -> bool:
        market.processes.check()
        if not market.ledger("alice").run(market.run_id).num_final:
            return False
        typed("claim", "--orchestrator", market.url, "--worker", walter, "--yes")
        return market.ledger("alice").claimed(market.run_id, walter) > 0

    wait_until(is_paid)
