"""What an accused worker's program does by itself: it checks its machine, and appeals where that is right."""

import threading
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from structlog.testing import capture_logs

from ledger.errors import TransactionPending
from ledger.state import SlashStatus
from orchestrator.store.keys import run_prefix
from protocol.canonical import content_digest, keccak256
from protocol.rollout import SignedLease
from protocol.signing import Domain, sign
from rollout_worker.engines.base import Engine
from rollout_worker.engines.registry import open_engine
from rollout_worker.engines.rounded import rounded
from rollout_worker.pay.appeals import Appeals, Reasons, see_out
from rollout_worker.pay.defence import Defence
from tests.stage.accused import VERIFIERS, Accused, accuse, accused, quorum, stake_verifiers
from tests.stage.live import (
    MODEL,
    REDIS_PASSWORD,
    STAKE,
    WINDOWS,
    LiveMarket,
    key_of,
    live_market,
    start_weights,
)
from tests.stage.waiting import wait_until

NAMES = (
    "honest",
    "rounding",
    "misled",
    "unseen",
    "framed",
    "full",
    "ended",
    "crashing",
    "silenced",
)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveMarket]:
    """A market with time enough to appeal on any machine, and an arbiter that is soon too late."""
    with live_market(
        tmp_path_factory.mktemp("market"),
        workers=(*NAMES, *VERIFIERS[1:]),
        verifier=VERIFIERS[0],
        verifiers=quorum(*VERIFIERS),
        threshold=2,
        windows=WINDOWS.model_copy(update={"appeal": 900, "unbond": 2_000}),
    ) as routes:
        stake_verifiers(routes)
        yield routes


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    opened = open_engine("transformers", MODEL, max_model_len=128)
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def _exact(engine: Engine) -> None:
    engine.load(start_weights())


def step(appeals: Appeals) -> bool:
    return appeals.step(give_up=lambda: False)


def written(worker: Accused, slash_id: bytes) -> tuple[str, Defence]:
    """Return reason and evidence as an arbiter gets them, the latter held against the former."""
    folder = worker.seller.config.data_dir / "appeals"
    reason = (folder / f"0x{slash_id.hex()}.txt").read_text(encoding="utf-8")
    evidence = (folder / f"0x{slash_id.hex()}.json").read_bytes()
    assert f"sha256 0x{content_digest(evidence).hex()}" in reason
    assert worker.reasons(slash_id) == [keccak256(reason.encode())]
    return reason, Defence.from_json(evidence)


def test_an_honest_worker_appeals_with_its_replay_and_is_acquitted_by_silence(
    live: LiveMarket, engine: Engine
) -> None:
    with accused(live, "honest") as worker:
        kept = worker.sell(engine)
        appeals = worker.appeals()
        assert not step(appeals), "nobody accuses it"
        slash_id = accuse(live, worker.seller.identity, kept.receipt.work_digest)
        assert step(appeals)
        reason, defence = written(worker, slash_id)
        assert f"num_tokens {kept.work.tokens}" in reason
        assert f"seeds from the secret of epoch {kept.lease.lease.epoch}" in reason
        assert kept.lease.signature.hex() in reason
        assert "TWO LEASES" not in reason
        assert (defence.kept, defence.problem) == (kept, "")
        assert defence.shown is not None
        assert defence.shown.lease == kept.lease
        see_out(worker.appeals(), (), threading.Event())
        assert worker.slash(slash_id).status is SlashStatus.DISMISSED
        account = worker.wallet.ledger.stake_account(worker.seller.identity)
        assert (account.stake, account.locked) == (STAKE, 0)


def test_a_worker_with_four_bit_weights_does_not_appeal_and_says_what_it_saw(
    live: LiveMarket, engine: Engine
) -> None:
    engine.load(rounded(start_weights(), bits=4))
    with accused(live, "rounding") as worker, capture_logs() as said:
        kept = worker.sell(engine)
        appeals = worker.appeals()
        slash_id = accuse(live, worker.seller.identity, kept.receipt.work_digest)
        assert [step(appeals), step(appeals)] == [False, False]
        see_out(appeals, (), threading.Event())
        assert worker.slash(slash_id).status is SlashStatus.PROPOSED
        assert not worker.reasons(slash_id)
    [told] = [entry for entry in said if entry["log_level"] == "error"]
    assert "the own replay agrees: replay_" in told["reason"]
    assert "rollcall doctor --calibrate" in told["remedy"]


def test_two_leases_for_one_nonce_are_named_first(live: LiveMarket, engine: Engine) -> None:
    """The orchestrator shows other seeds than it gave the worker: both leases have its signature."""
    with accused(live, "misled") as worker:
        kept = worker.sell(engine)
        lease = kept.lease.lease
        other = lease.model_copy(update={"seeds": tuple(s ^ 1 for s in lease.seeds)})
        signature = sign(key_of("orchestrator"), worker.seller.domain.digest(other))
        shown = SignedLease(lease=other, signature=signature)
        show(live, shown)
        slash_id = accuse(live, worker.seller.identity, kept.receipt.work_digest)
        assert step(worker.appeals())
        reason, defence = written(worker, slash_id)
        first = reason.splitlines()[0]
        assert first.startswith(f"TWO LEASES for nonce {lease.nonce}, which differ in seeds")
        assert first.count(f"by {live.spec.orchestrator}") == 2
        assert (defence.kept, defence.shown and defence.shown.lease) == (kept, shown)


def test_an_accusation_that_nobody_can_check_is_appealed(live: LiveMarket, engine: Engine) -> None:
    with accused(live, "unseen") as worker:
        kept = worker.sell(engine)
        status = worker.seller.routes.submission(live.run_id, kept.receipt.work_digest)
        hide(live, status.body)
        slash_id = accuse(live, worker.seller.identity, kept.receipt.work_digest)
        assert step(worker.appeals())
        reason, defence = written(worker, slash_id)
        assert (
            "The accusation cannot be checked: the market does not show all of the work" in reason
        )
        assert (defence.kept, defence.stats) == (kept, None)


def test_work_that_was_never_done_is_appealed(live: LiveMarket) -> None:
    with accused(live, "framed") as worker:
        slash_id = accuse(live, worker.seller.identity, keccak256(b"made up"))
        assert step(worker.appeals())
        reason, defence = written(worker, slash_id)
        assert "The worker holds no receipt for this work" in reason
        assert (defence.kept, defence.shown) == (None, None)


def test_neither_a_full_disk_nor_an_odd_model_ends_the_answer_and_the_appeal_is_sent_once_it_can_be(
    live: LiveMarket, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(error: Exception) -> Callable[..., str]:
        def fail(*_: object) -> str:
            raise error

        return fail

    with accused(live, "full") as worker, capture_logs() as said:
        slash_id = accuse(live, worker.seller.identity, keccak256(b"made up, on a full disk"))
        for error in (OSError(28, "No space left on device"), KeyError("no such rope")):
            with monkeypatch.context() as full:
                full.setattr(Reasons, "put", failing(error))
                assert step(worker.appeals())
            assert any(str(error) == line.get("reason") for line in said)
        assert step(worker.appeals())
        written(worker, slash_id)


def test_without_another_try_one_odd_model_ends_all_answers_and_silence_concedes(
    live: LiveMarket, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> str:
        raise KeyError("no such rope")

    with accused(live, "ended") as worker:
        slash_id = accuse(live, worker.seller.identity, keccak256(b"made up, of an odd model"))
        with monkeypatch.context() as off:
            off.setattr(Reasons, "put", fail)
            off.setattr(Appeals, "_attempt", Appeals._attend)
            with pytest.raises(KeyError):
                step(worker.appeals())
        assert worker.slash(slash_id).status is SlashStatus.PROPOSED
        assert not worker.reasons(slash_id)


@pytest.mark.parametrize("is_sent", [True, False])
def test_a_worker_that_dies_while_it_appeals_does_so_once(
    live: LiveMarket, engine: Engine, is_sent: bool
) -> None:
    with accused(live, "silenced" if is_sent else "crashing") as worker:
        kept = worker.sell(engine)
        slash_id = accuse(live, worker.seller.identity, kept.receipt.work_digest)
        ledger = worker.wallet.ledger
        send = ledger.appeal_slash

        def lost(slash_id: bytes, reason: bytes) -> None:
            if is_sent:
                send(slash_id, reason)
            raise TransactionPending("0x00", 0.0)

        ledger.appeal_slash = lost  # type: ignore[method-assign, assignment]
        assert step(worker.appeals())
        ledger.appeal_slash = send  # type: ignore[method-assign]
        file = worker.seller.config.data_dir / "appeals" / f"0x{slash_id.hex()}.txt"
        before = file.read_bytes()
        again = worker.appeals()
        wait_until(lambda: not step(again))
        assert file.read_bytes() == before
        written(worker, slash_id)
        assert worker.slash(slash_id).status is SlashStatus.DISMISSED


UNHELD = Defence(
    slash_id=bytes([7] * 32),
    run_id=1,
    worker="0x" + "11" * 20,
    work_digest=bytes(32),
    accusing_evidence=bytes(32),
    kept=None,
    shown=None,
    body=b"",
    stats=None,
    mismatches=(),
    problem="nobody shows the work",
)


@pytest.mark.parametrize("suffix", ["txt", "json"])
@pytest.mark.parametrize("damage", [lambda _: b"", lambda data: data[:40], lambda _: b"\xff"])
def test_a_reason_is_sent_only_as_its_evidence_gives_it(
    tmp_path: Path, suffix: str, damage: Callable[[bytes], bytes]
) -> None:
    """A digest of half a text would stand on chain for good, and nobody could show what it is of."""
    reasons, domain = Reasons(tmp_path / "appeals"), Domain(1, "0x" + "22" * 20)
    assert reasons.get(UNHELD.slash_id, domain) is None
    written_reason = reasons.put(UNHELD, domain)
    assert reasons.get(UNHELD.slash_id, domain) == written_reason
    path = reasons.path(UNHELD.slash_id, suffix)
    path.write_bytes(damage(path.read_bytes()))
    with capture_logs() as said:
        assert reasons.get(UNHELD.slash_id, domain) is None
    assert [entry["event"] for entry in said] == ["file is damaged"]


def show(live: LiveMarket, signed: SignedLease) -> None:
    """Have the orchestrator show another lease than it gave."""
    settings = tomllib.loads((live.folder / "orchestrator.toml").read_text())
    key = f"{run_prefix(live.run_id)}lease:{signed.lease.lease_id.hex()}"
    with redis.Redis.from_url(settings["redis_url"], password=REDIS_PASSWORD) as client:
        assert client.hset(key, "signed", signed.to_json()) == 0, "there is one already"


def hide(live: LiveMarket, digest: bytes) -> None:
    """Have the orchestrator forget a blob, as one that colludes would."""
    [path] = Path(live.folder / "blobs").rglob(f"*{digest.hex()}*")
    path.unlink()
