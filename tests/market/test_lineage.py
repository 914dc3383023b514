"""A real trainer at a real orchestrator: what it signs leads back to the workers, and bears looking into."""

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from client.trainer import open_trainer_routes
from rollcall.__main__ import app
from tests.stage.light import selling, verifying
from tests.stage.live import MODEL, LiveMarket, key_of, live_market
from trainer.config import TrainerConfig
from trainer.main import open_trainer

pytestmark = pytest.mark.slow
"""The demo's trainer meets the same checks; this is the command on what it leaves."""

WORKERS, STEPS, GROUPS = ("light-0", "light-1"), 2, 4


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LiveMarket, list[str]]]:
    """A market whose trainer made two versions of groups that both workers sold under version 0."""
    folder = tmp_path_factory.mktemp("lineage")
    torch.set_num_threads(1)
    with ExitStack() as stack:
        live = stack.enter_context(
            live_market(
                folder,
                workers=WORKERS,
                verifier="checker",
                plan={"groups_per_batch": GROUPS, "num_held_out": 1},
            )
        )
        stack.enter_context(verifying(live, "checker"))
        sellers = [stack.enter_context(selling(live, name)) for name in WORKERS]
        for _ in range(STEPS):
            for seller in sellers:
                seller.sell(GROUPS // len(sellers))
        train(live, folder)
        yield live, [seller.address for seller in sellers]


def train(live: LiveMarket, folder: Path) -> None:
    config = TrainerConfig(
        orchestrator=live.url,
        run_id=live.run_id,
        model_dir=MODEL,
        work_dir=folder / "trainer",
        steps=STEPS,
        evaluate_every=0,
        tensorboard=False,
    )
    stop = threading.Event()
    key = key_of("trainer")
    with (
        open_trainer_routes(live.url, live.run_id, key) as client,
        open_trainer(config, key, client, stop) as trainer,
    ):
        trainer.train()


def test_a_trained_policy_leads_back_to_its_workers(
    trained: tuple[LiveMarket, list[str]],
) -> None:
    live, addresses = trained
    found = CliRunner().invoke(app, ["provenance", live.url, "--json", "--check", "100"])
    assert found.exit_code == 0, found.output
    body = json.loads(found.stdout)
    assert body["version"] == STEPS
    assert [len(step["groups"]) for step in body["steps"]] == [GROUPS] * STEPS
    shares = {one["worker"]: one["advantage_share"] for one in body["workers"]}
    assert set(shares) == set(addresses)
    assert sum(shares.values()) == pytest.approx(1)
    assert "all as recorded" in found.stderr
