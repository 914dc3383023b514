"""Which fraud reports a verifier signs: those that its own replays are worth, whoever asks.

Two verifiers, and the second rejects and names all that it is handed. One worker sold an honest group and two
that it wrote by hand, another worker one more: what is written is gross, and no hypothesis explains it.
"""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from structlog.testing import capture_logs

from client.verifier import VerifierRoutes
from protocol.checks.evidence import Consequence
from protocol.errors import Malformed
from protocol.messages import (
    FraudReportSignature,
    FraudReportTask,
    FraudReportTasks,
    SubmissionStatus,
)
from protocol.rollout import Rollout
from protocol.verdict import Outcome
from rollout_worker.engines.base import Engine
from rollout_worker.engines.registry import open_engine
from rollout_worker.verify.accusations import ReportSigner
from rollout_worker.verify.epochs import Verifier
from rollout_worker.verify.main import Watch, _find_runs
from rollout_worker.verify.opening import open_verifier
from tests.adversarial.verifier.test_framing import false_work
from tests.stage.accused import VERIFIERS, Accused, accused, quorum, stake_verifiers
from tests.stage.light import Voter
from tests.stage.live import MODEL, STAKE, LiveMarket, key_of, live_market, start_weights

NUM_WRITTEN = 20
"""Tokens of each rollout that is written."""


@dataclass(frozen=True, slots=True)
class Stage:
    """The honest verifier with all groups judged, and their digests."""

    live: LiveMarket
    verifier: Verifier
    honest: bytes
    first: bytes
    second: bytes
    foreign: bytes

    def watch(self) -> Watch:
        """Return the verifier's program as it starts: with what its book holds."""
        return Watch(self.verifier, self.verifier.routes.run(self.live.run_id))

    def task(self, work_digest: bytes, *, also: bytes = bytes(32)) -> FraudReportTask:
        """Return a report as an orchestrator would word it by the lying verifier's verdict."""
        status = self.verifier.routes.submission(self.live.run_id, work_digest)
        [verdict] = (v for v in status.verdicts if v.verifier != self.verifier.identity)
        return FraudReportTask(
            run_id=self.live.run_id,
            worker=status.lease.lease.worker,
            work_digest=work_digest,
            evidence_digest=verdict.evidence_digest(),
            amount=str(STAKE),
            reported_at=int(time.time()),
            also=also,
        )


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    opened = open_engine("transformers", MODEL, max_model_len=128)
    opened.load(start_weights())
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, engine: Engine) -> Iterator[Stage]:
    with (
        live_market(
            tmp_path_factory.mktemp("market"),
            workers=("writer", "other", *VERIFIERS[1:]),
            verifier=VERIFIERS[0],
            verifiers=quorum(*VERIFIERS),
            threshold=2,
        ) as live,
        accused(live, "writer") as writer,
        accused(live, "other") as other,
    ):
        stake_verifiers(live)
        honest = writer.sell(engine).receipt.work_digest
        first, second, foreign = (written(worker) for worker in (writer, writer, other))
        stop = threading.Event()
        with (
            open_verifier(live.verifier(VERIFIERS[1]), key_of(VERIFIERS[1]), stop) as liar,
            open_verifier(live.verifier(VERIFIERS[0]), key_of(VERIFIERS[0]), stop) as verifier,
        ):
            voter = Voter(liar, live.run_id)
            voter.vote(false_work)
            found = Stage(live, verifier, honest, first, second, foreign)
            watch = found.watch()
            watch.step()  # replays
            watch.step()  # seals, and tells what it found: the other has sealed
            voter.vote(false_work)
            yield found


def written(worker: Accused) -> bytes:
    """Send a group that no model sampled; return its digest."""
    signed, eos = worker.lease(), worker.info.spec.eos_token_ids[0]
    tokens = [[5 + (s + p) % 100 for p in range(NUM_WRITTEN)] + [eos] for s in signed.lease.seeds]
    group = [Rollout.of(ids, [-0.5] * len(ids)) for ids in tokens]
    receipt = worker.send(signed, group, engine="transformers-cpu").receipt
    assert not receipt.rejection
    return receipt.work_digest


def test_two_groups_that_its_own_replays_find_gross_are_reported_by_their_name(
    stage: Stage,
) -> None:
    routes, run_id = stage.verifier.routes, stage.live.run_id
    own = {
        digest: next(
            v
            for v in routes.submission(run_id, digest).verdicts
            if v.verifier == stage.verifier.identity
        )
        for digest in (stage.honest, stage.first, stage.second, stage.foreign)
    }
    assert own.pop(stage.honest).outcome is Outcome.ACCEPTED
    assert {v.outcome for v in own.values()} == {Outcome.REJECTED}
    [report] = routes.fraud_reports(run_id).tasks
    assert {report.work_digest, report.also} == {stage.first, stage.second}
    stage.watch().step()
    assert stage.verifier.counters.snapshot()["fraud_reports_signed"] == 1


def asked(stage: Stage, task: FraudReportTask, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have an orchestrator ask for a signature; return why it is not given, or nothing."""
    signed: list[FraudReportSignature] = []
    tasks = FraudReportTasks(tasks=(task,))
    routes = stage.verifier.routes
    with monkeypatch.context() as lying, capture_logs() as said:
        lying.setattr(routes, "fraud_reports", lambda *_, **__: tasks)
        lying.setattr(routes, "sign_fraud_report", lambda _, sent, **__: signed.append(sent))
        stage.watch().step()
    reasons = [str(e["reason"]) for e in said if e["event"] == "fraud report not signed"]
    assert len(reasons) + len(signed) == 1
    return "".join(reasons)


def test_a_nameless_report_needs_a_second_gross_group_of_the_same_worker(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = stage.verifier.routes.submission(stage.live.run_id, stage.foreign).lease.lease.worker
    for also, reason in (
        (stage.first, ""),
        (bytes(32), "its evidence is gross and nameless, and it names no second group"),
        (stage.second, "its evidence is gross and nameless, and it names no second group"),
        (stage.foreign, f"the second group is {other}'s"),
        (stage.honest, "own replay of the second group finds it none"),
    ):
        assert asked(stage, stage.task(stage.second, also=also), monkeypatch) == reason


def test_a_report_takes_no_more_than_the_ledger_asks_for(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else an orchestrator that names ten times the stake of a run has all that its workers hold."""
    task, routes = stage.task(stage.second, also=stage.first), stage.verifier.routes
    more = task.model_copy(update={"amount": str(10 * STAKE)})
    assert "are above" in asked(stage, more, monkeypatch)
    lied = routes.run(stage.live.run_id).model_copy(update={"min_stake": more.amount})
    monkeypatch.setattr(routes, "run", lambda *_, **__: lied)
    assert asked(stage, more, monkeypatch) == "", "a verifier that believes it signs"
    monkeypatch.setattr(routes, "runs", lambda **_: (lied,))
    watches: dict[int, Watch] = {}
    with capture_logs() as said:
        _find_runs(stage.verifier, watches)
    assert not watches
    assert "asks for a stake of" in next(
        e["reason"] for e in said if e["event"] == "run not watched"
    )


def test_another_s_word_takes_no_stake(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The liar's verdict names honest work int4, in figures of its own: only a replay tells."""
    task = stage.task(stage.honest, also=stage.first)
    with monkeypatch.context() as trusting:
        trusting.setattr(ReportSigner, "_consequence", lambda *_: Consequence.NAMED)
        assert asked(stage, task, monkeypatch) == ""
    reason = "own replay finds no ground to take stake: none"
    assert asked(stage, task, monkeypatch) == reason


def test_a_report_before_the_vote_is_decided_gets_neither_a_signature_nor_a_replay(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever signs or not tells what it found: an orchestrator would ask before a friend has voted."""
    task = stage.task(stage.first, also=stage.second)
    show_one_verdict(stage, monkeypatch)
    reason = f"1 of 2 verdicts on 0x{stage.first.hex()} are shown"
    assert asked(stage, task, monkeypatch) == reason
    with monkeypatch.context() as off:
        off.setattr(ReportSigner, "_why_open", lambda *_: None)
        assert asked(stage, task, monkeypatch) == "", "with the defence off"


def show_one_verdict(stage: Stage, early: pytest.MonkeyPatch) -> None:
    """Show of each group no verdict but the other verifier's, as while it is open."""
    real = VerifierRoutes.submission

    def hiding(routes: VerifierRoutes, run_id: int, digest: bytes, **how: Any) -> SubmissionStatus:
        status = real(routes, run_id, digest, **how)
        theirs = tuple(v for v in status.verdicts if v.verifier != stage.verifier.identity)
        return status.model_copy(update={"verdicts": theirs})

    early.setattr(VerifierRoutes, "submission", hiding)


def test_nobody_is_accused_of_another_s_work(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The orchestrator shows the lease of somebody else with the groups that this verifier condemned."""
    routes, run_id = stage.verifier.routes, stage.live.run_id
    shown, innocent = routes.submission, routes.submission(run_id, stage.foreign).lease

    def swapped(of: int, digest: bytes, **how: Any) -> SubmissionStatus:
        return shown(of, digest, **how).model_copy(update={"lease": innocent})

    def decided(of: int, _: bytes, **how: Any) -> SubmissionStatus:
        return shown(of, stage.first, **how)

    with monkeypatch.context() as lying:
        task = stage.task(stage.second, also=stage.first)
        lying.setattr(routes, "submission", decided)
        assert "what is shown of the work is not its worker's: asked" in asked(stage, task, lying)
    monkeypatch.setattr(routes, "submission", swapped)
    task = stage.task(stage.first, also=stage.second)
    assert task.worker == innocent.lease.worker
    with monkeypatch.context() as off:
        off.setattr(ReportSigner, "_signed_work", lambda _, digest: swapped(run_id, digest))
        assert asked(stage, task, monkeypatch) == "", "with the defence off"
    told = asked(stage, task, monkeypatch)
    assert told.startswith("what is shown of the work is not its worker's: what is shown as work")


def test_an_amount_that_no_token_has_is_no_report(stage: Stage) -> None:
    """Reading its digits would end the verifier's program."""
    task = stage.task(stage.first).model_copy(update={"amount": "9" * 5_000})
    with pytest.raises(ValueError, match="Exceeds the limit"):
        int(task.amount)
    with pytest.raises(Malformed, match=r"amount: .* at most 78 characters"):
        FraudReportTask.from_json(task.to_json())
