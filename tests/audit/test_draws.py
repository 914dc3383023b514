"""The audit draw, drawn again from public data: every way to spare a group its replay is told."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from audit import draws
from audit.draws import PaidCounts
from audit.record import PublicRecord
from orchestrator import intake, leases, replays
from orchestrator.rules.schedule import Opening
from orchestrator.store.groups import GroupStore
from orchestrator.store.keys import run_prefix
from protocol.checks.draw import Draw
from protocol.constants import MICRO
from protocol.messages import Contribution, SubmissionStatus
from protocol.rollout import Rollout, Submission
from protocol.run import AuditPolicy
from protocol.signing import sign
from protocol.verdict import Outcome, Verdict
from tests.orchestrator.test_dropping import drawn_at
from tests.orchestrator.test_settling import earn, final
from tests.stage.auditor import Auditor
from tests.stage.evidence import measured
from tests.stage.front import serving
from tests.stage.ground import Ground
from tests.stage.place import Place, opened

THINNED = AuditPolicy(num_probation_groups=2, rate_millionths=250_000)


@contextmanager
def auditing(ground: Ground, redis_url: str, folder: Path) -> Iterator[Auditor]:
    """A market whose replays thin out after two groups."""
    more: dict[str, Any] = {"groups_per_batch": 40, "max_worker_leases": 40}
    with (
        opened(ground, redis_url, folder / "blobs", audit=THINNED, **more) as place,
        serving(place) as (front, chain),
    ):
        yield Auditor(place, front, chain, folder)


def test_shares_that_fall_with_the_record_are_drawn_again(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    """Out of order too: what was decided late counts for nobody's record early."""
    with auditing(ground, redis_url, tmp_path) as auditor:
        place = auditor.place
        alice, verifier = place.party("alice"), place.party("v0")
        leases = [signed.lease for signed in alice.leases(16)]
        rates = []
        for lease in [*leases[3:12], *leases[:3], *leases[12:]]:
            digest = alice.deliver(lease).work_digest
            rates.append(drawn_at(place, digest))
            if place.state(digest).value == "replay":
                verifier.decide(digest, Outcome.ACCEPTED)
        assert rates[:9] == [MICRO] * 2 + [250_000] * 7
        assert rates[9:12] == [MICRO, MICRO, 250_000], "nonces 1 to 3 have no record"
        assert rates[12:] == [250_000] * 4
        final(place, 0)
        holds, printed = auditor.audit()
        assert holds, printed
        replayed, due = replays_told(printed)
        assert replayed == due >= 2, "what the record asked for; the orchestrator replayed more"


def replays_told(printed: str) -> tuple[int, int]:
    """Return how many drawn groups are vouched for, of how many, in the first epoch."""
    row = next(line for line in printed.splitlines() if line.startswith("│"))
    replayed, due = row.split("│")[1:-1][8].strip().split("/")
    return int(replayed), int(due)


def test_every_way_to_spare_a_group_its_replay_is_told(
    auditor: Auditor, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = auditor.place
    with monkeypatch.context() as lying:
        lying.setattr(Draw, "selects", lambda *_: False)
        unseen = sell(place)
    with monkeypatch.context() as lying:
        lying.setattr(intake, "rate_millionths", lambda *_, **__: 0)
        thinned = sell(place)
    forged = sell(place)
    place.party("v0").decide(forged, Outcome.ACCEPTED)
    change_verdict(place, forged, signature=bytes(65))
    strange = sell(place)
    place.party("v0").decide(strange, Outcome.ACCEPTED)
    change_verdict(place, strange, verifier=place.ground.address("alice"))
    assert len({unseen, thinned, forged, strange}) == 4
    final(place, 0)
    holds, printed = auditor.audit()
    assert not holds
    told = [line for line in printed.splitlines() if "✗" in line]
    assert [("nonce 2" in line) for line in told] == [False, True, False, False], printed
    assert "was drawn at 0 %, its record of 1 groups asks for 100 %" in told[1]
    for nonce, line in zip((1, 3, 4), (told[0], told[2], told[3]), strict=True):
        assert f"nonce {nonce} " in line
        assert "drawn for replay and is paid with 0 of 1 accepting" in line
    assert replays_told(printed) == (0, 3)


def test_a_verdict_on_a_convenient_rollout_vouches_for_nothing(
    ground: Ground, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Orchestrator and verifier collude: one rollout is honest, and the drawn one nobody replays."""
    monkeypatch.setattr(replays, "_require_covering", lambda *_: None)
    one_of_four = AuditPolicy(num_probation_groups=0, rate_millionths=MICRO - 1, num_rollouts=1)
    with (
        opened(ground, redis_url, tmp_path / "blobs", audit=one_of_four, group_size=4) as place,
        serving(place) as (front, chain),
    ):
        elsewhere, shorter, broken, whole = (sell(place) for _ in range(4))
        verifier = place.party("v0")
        drawn, _ = place.drawn(elsewhere)
        other = next((i,) for i in range(4) if i not in drawn)
        verifier.decide(elsewhere, Outcome.ACCEPTED, rollouts=other)
        few = measured(place.drawn(shorter)[1] - 1, place.spec.thresholds)
        verifier.decide(shorter, Outcome.ACCEPTED, stats=few)
        verifier.decide(broken, Outcome.ACCEPTED, {"wrong": 3})
        verifier.decide(whole, Outcome.ACCEPTED)
        final(place, 0)
        auditor = Auditor(place, front, chain, tmp_path)
        with monkeypatch.context() as blind:
            blind.setattr(draws, "_covers", lambda *_: True)
            holds, printed = auditor.audit()
            assert holds, printed
        holds, printed = auditor.audit()
        assert not holds
        told = " ".join(printed.split())
        assert f"with 0 of 1 accepting verdicts on its drawn rollouts {list(drawn)}" in told
        assert replays_told(printed) == (1, 4)


@pytest.mark.parametrize("shown", [(), (Rollout(tokens=b"abc", logprobs=b""),)])
def test_a_paid_group_without_whole_rollouts_is_told_and_ends_no_audit(
    auditor: Auditor, shown: tuple[Rollout, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    place, real = auditor.place, PublicRecord.submission
    earn(place)
    final(place, 0)

    def cut(
        record: PublicRecord, run_id: int, digest: bytes, *, most_bytes: int
    ) -> tuple[SubmissionStatus, Submission]:
        status, body = real(record, run_id, digest, most_bytes=most_bytes)
        return status, body.model_copy(update={"rollouts": shown})

    monkeypatch.setattr(PublicRecord, "submission", cut)
    holds, printed = auditor.audit()
    assert not holds
    assert "is paid and lacks whole tokens of rollouts" in " ".join(printed.split())


def test_a_receipt_of_another_nonce_dates_no_draw(
    auditor: Auditor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signed by the orchestrator over the right work: but no worker was ever given it."""
    place, real = auditor.place, PublicRecord.submission
    earn(place)
    final(place, 0)
    domain, key = place.services.chain.domain, place.services.key

    def another(
        record: PublicRecord, run_id: int, digest: bytes, *, most_bytes: int
    ) -> tuple[SubmissionStatus, Submission]:
        status, body = real(record, run_id, digest, most_bytes=most_bytes)
        receipt = status.receipt.model_copy(update={"nonce": 99})
        signed = receipt.model_copy(update={"signature": sign(key, domain.digest(receipt))})
        return status.model_copy(update={"receipt": signed}), body

    assert auditor.audit()[0]
    monkeypatch.setattr(PublicRecord, "submission", another)
    holds, printed = auditor.audit()
    assert not holds
    assert "but for other work" in " ".join(printed.split())


def sell(place: Place) -> bytes:
    alice = place.party("alice")
    [signed] = alice.leases()
    return alice.deliver(signed.lease).work_digest


def change_verdict(place: Place, digest: bytes, **changes: Any) -> None:
    """Have the orchestrator show another verdict than it was given."""
    run = place.services.runs[place.run_id]
    key = f"{run_prefix(run.run_id)}verdicts:{digest.hex()}"
    [(verifier, raw)] = place.call(place.services.store.queue.hash, key).items()
    changed = Verdict.from_json(raw).model_copy(update=changes).to_json()
    place.call(partial(place.services.store.queue.call, "HSET", key, verifier, changed))


def test_the_secret_of_another_epoch_draws_nothing(
    auditor: Auditor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may choose among secrets may choose the one that spares a friend."""
    place = auditor.place
    earn(place)
    final(place, 0)
    place.wait(300)
    with monkeypatch.context() as lying:
        lying.setattr(intake, "Draw", lambda rate, **_: Draw(epoch=0, rate=rate))
        real = GroupStore.submit

        async def submit(store: GroupStore, *group: Any, **facts: Any) -> tuple[str, bytes]:
            """Record it unhindered: an honest store asks whether the secret is out."""
            return await real(store, *group, **{**facts, "secret_epoch": None})

        lying.setattr(GroupStore, "submit", submit)
        earn(place)
    final(place, 1)
    holds, printed = auditor.audit()
    assert not holds
    assert "by the secret of epoch 0, which was not the open one then" in " ".join(printed.split())


def test_a_prompt_of_another_task_is_told(
    auditor: Auditor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Task and seeds are the drawn ones, and yet the worker was given an easier problem."""
    place = auditor.place
    prompt = leases._prompt
    with monkeypatch.context() as lying:
        lying.setattr(leases, "_prompt", lambda run, tokens, _: prompt(run, tokens, 7))
        digest = sell(place)
    place.party("v0").decide(digest, Outcome.ACCEPTED)
    earn(place)
    final(place, 0)
    holds, printed = auditor.audit()
    assert not holds
    told = [line for line in printed.splitlines() if "✗" in line]
    assert len(told) == 1
    assert "nonce 1 of" in told[0]
    assert "prompt is not that of task" in told[0]


def test_weights_that_the_trainer_never_signed_are_told(
    auditor: Auditor, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = auditor.place
    with monkeypatch.context() as lying:
        changed = {"policy_digest": bytes(range(32))}
        lying.setattr(leases, "Opening", lambda **given: Opening(**{**given, **changed}))
        digest = sell(place)
    place.party("v0").decide(digest, Outcome.ACCEPTED)
    final(place, 0)
    holds, printed = auditor.audit()
    assert not holds
    assert "not the one the trainer signed as version 0" in " ".join(printed.split())


def test_a_tokenizer_that_is_gone_leaves_prompts_unchecked(
    auditor: Auditor, tmp_path: Path
) -> None:
    place = auditor.place
    earn(place)
    final(place, 0)
    digest = place.spec.tokenizer_digest.hex()
    (tmp_path / "blobs" / digest[:2] / digest).unlink()
    holds, printed = auditor.audit()
    assert not holds
    assert "the tokenizer is not published" in printed


def test_a_record_counts_what_was_paid_before_or_else_the_nonce() -> None:
    work = contribution_of("0x" + 40 * "1")
    other = contribution_of("0x" + 40 * "2")
    records = PaidCounts()
    records.take([work(1), work(4), other(2)])
    records.take([work(9)])
    assert [records.before(w) for w in (work(1), work(4), work(9), other(2))] == [0, 1, 2, 0]
    records.take(None)
    records.take([work(12)])
    assert records.before(work(12)) == 11, "an epoch is not published: anything may be in it"


def contribution_of(worker: str) -> Callable[[int], Contribution]:
    def made(nonce: int) -> Contribution:
        return Contribution.model_construct(worker=worker, nonce=nonce)

    return made
