"""A worker of an engine class that the run does not know: doctor, trial, admission, pay; a cheat is refused."""

import json
import threading
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from protocol.baseline import Trials
from protocol.messages import WorkerInfo
from protocol.signing import address_of
from protocol.verdict import Outcome
from rollcall.__main__ import app
from rollcall.explain import Explanation, explain
from rollcall.reader import Reader
from rollout_worker import loop, verifier
from rollout_worker.loop import open_seller
from rollout_worker.receipts import ReceiptBook
from rollout_worker.verifier import open_verifier
from tests.rollout_worker.live import MODEL, LiveMarket, key_of, live_market, wait_until

NEW = "transformers-cpu-bfloat16"
NUM_GROUPS = 100
GROUPS_PER_CALL = 50
CHEAT_BITS = 4
FEW_MORE = range(NUM_GROUPS, NUM_GROUPS + 10)
"""A lease may be granted between a group's arrival and its entry into the trial."""


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveMarket]:
    """A run whose operator calibrated vLLM only, and takes other classes on trial."""
    folder = tmp_path_factory.mktemp("trials")
    entries = json.loads((MODEL / "thresholds.json").read_text())
    known = folder / "known.json"
    known.write_text(json.dumps([e for e in entries if e["engine_class"] == "vllm-cpu-bfloat16"]))
    plan = {
        "thresholds": known,
        "trial_groups": NUM_GROUPS,
        "trial_workers": 1,
        "group_size": 2,
        "max_tokens": 48,
    }
    with live_market(
        folder,
        workers=("honest", "cheat"),
        verifier="checker",
        max_worker_leases=2 * NUM_GROUPS,
        plan=plan,
    ) as live:
        yield live


@pytest.fixture(scope="module")
def checking(market: LiveMarket) -> Iterator[None]:
    """A verifier program at work."""
    stop = threading.Event()
    with open_verifier(market.verifier("checker"), key_of("checker"), stop) as opened:
        thread = threading.Thread(target=verifier.serve, args=(opened,))
        thread.start()
        yield
        stop.set()
        thread.join()


def trials(market: LiveMarket) -> Trials:
    return Reader(market.url).trials(market.run_id)


def standing(market: LiveMarket, name: str) -> WorkerInfo | None:
    """Return a worker's standing, None before its first lease."""
    return next(iter(Reader(market.url).worker(address_of(key_of(name))).runs), None)


def explained(market: LiveMarket, name: str) -> Explanation:
    """Reproduce the verdict on a worker's first accepted group from public data."""
    reader = Reader(market.url)
    kept = ReceiptBook(market.folder / name / "receipts").all()
    digests = [k.receipt.work_digest for k in kept if not k.receipt.rejection]
    accepted = (d for d in digests if reader.submission(market.run_id, d).verdicts)
    return explain(
        reader,
        next(accepted),
        run_id=market.run_id,
        device="cpu",
        fetched=lambda _name, _done, _total: None,
        spoke_for=None,
    )


def num_on_trial(found: WorkerInfo) -> int:
    assert set(found.rejected_by_reason) == {"on_trial"}
    return found.rejected_by_reason["on_trial"]


def has_earned(market: LiveMarket, name: str) -> bool:
    found = standing(market, name)
    return found is not None and found.accepted_groups > 0


def work_until_over(market: LiveMarket, name: str, stop: threading.Event, bits: int = 0) -> None:
    engine = {"name": "transformers", "max_model_len": 128, "quantise_bits": bits}
    config = market.worker(name, engine=engine, groups_per_call=GROUPS_PER_CALL)
    with open_seller(config, key_of(name), stop) as (seller, wallet):
        loop.serve(seller, wallet)


def test_doctor_names_the_trial_that_a_run_offers(market: LiveMarket) -> None:
    arguments = ["--engine", "transformers", "--groups", "8", "--json"]
    result = CliRunner().invoke(
        app, ["doctor", "--calibrate", "--orchestrator", market.url, *arguments]
    )
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["engine_class"], found["is_on_trial"]) == (NEW, True)
    assert found["subject"].startswith(f"run {market.run_id} ")


@pytest.mark.slow
@pytest.mark.usefixtures("checking")
def test_four_bits_are_measured_refused_by_the_ceiling_and_told_so(market: LiveMarket) -> None:
    work_until_over(market, "cheat", threading.Event(), bits=CHEAT_BITS)  # ends: it is refused
    trial = next(t for t in trials(market).trials if t.worker == address_of(key_of("cheat")))
    assert trial.signed is not None
    assert "an engine class of this run has at most" in trial.signed.baseline.refusal
    found = standing(market, "cheat")
    assert found is not None
    assert (found.accepted_groups, found.is_excluded) == (0, False)
    assert num_on_trial(found) in FEW_MORE


@pytest.mark.usefixtures("checking")
def test_honest_work_of_an_unknown_class_is_admitted_judged_and_accepted(
    market: LiveMarket,
) -> None:
    stop = threading.Event()
    worker = threading.Thread(target=work_until_over, args=(market, "honest", stop))
    worker.start()
    try:
        wait_until(lambda: has_earned(market, "honest"), seconds=120)
    finally:
        stop.set()
        worker.join()
    [admitted] = trials(market).admitted
    assert admitted.engine_class == NEW
    assert [s.baseline.worker for s in admitted.baselines] == [address_of(key_of("honest"))]
    found = standing(market, "honest")
    assert found is not None
    assert num_on_trial(found) in FEW_MORE
    seen = explained(market, "honest")  # anyone gets the class's bounds, and the same verdict
    assert seen.outcome is Outcome.ACCEPTED
    assert [judgement.is_reproduced for judgement in seen.judgements] == [True]
