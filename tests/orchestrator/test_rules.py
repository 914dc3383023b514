"""The pure rules at both sides of their boundaries."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.permits import is_due
from orchestrator.reconciling import EpochPosition, fate_of
from orchestrator.rules import settle
from orchestrator.rules.schedule import epoch_secret, most_groups, most_units
from orchestrator.rules.settle import OpenEpoch, Standing
from orchestrator.store.records import Epoch
from protocol.canonical import keccak256
from protocol.epoch import header_of
from protocol.messages import Account, Contribution, EpochStage
from tests.stage.terms import make_spec

WORKERS = tuple("0x" + f"{n:040d}" for n in (1, 2, 3))


def work(worker: str, nonce: int, units: int = 10, submitted_at: int = 100) -> Contribution:
    return Contribution(
        worker=worker,
        nonce=nonce,
        payload_digest=bytes(32),
        policy_version=0,
        submitted_at=submitted_at,
        tokens=units,
        gflops=1,
        units=units,
        signature=bytes(65),
    )


def test_pacing_lets_out_what_can_still_be_trained_on() -> None:
    spec = make_spec()  # two groups per batch, staleness of one
    assert most_groups(spec, newest_version=0) == 4
    assert most_groups(spec, newest_version=3) == 10


def test_the_budget_is_counted_in_longest_groups() -> None:
    spec = make_spec()  # 2 rollouts of at most 48 tokens
    assert most_units(spec) == 96


def test_epoch_secrets_differ_by_run_and_epoch_and_survive_a_restart() -> None:
    secrets = [epoch_secret(b"m" * 32, run, epoch) for run in range(3) for epoch in range(3)]
    assert len(set(secrets)) == 9
    assert secrets[0] == epoch_secret(b"m" * 32, 0, 0)


def test_only_the_decided_prefix_is_settled() -> None:
    accepted = (work(WORKERS[0], 1), work(WORKERS[0], 2), work(WORKERS[0], 5))
    for first_waiting, nonces in ((None, [1, 2, 5]), (5, [1, 2]), (3, [1, 2]), (1, [])):
        assert settled(Standing(accepted, first_waiting)) == nonces


def test_work_dated_when_nothing_was_owed_is_left_out_for_good() -> None:
    accepted = tuple(work(WORKERS[0], n, submitted_at=98 + n) for n in (1, 2, 3))
    assert settled(Standing(accepted, None), is_owed=lambda at: at != 100) == [1, 3]
    assert settled(Standing(accepted, None), is_owed=lambda at: at <= 99) == [1]


def test_work_dated_after_the_newest_block_waits_with_all_that_follows_it() -> None:
    """Were it settled and the run halted meanwhile, it would be provable fraud of its signers."""
    dates = {1: 99, 2: 101, 3: 100}
    accepted = tuple(work(WORKERS[0], n, submitted_at=at) for n, at in dates.items())
    assert settled(Standing(accepted, None), now=100) == [1]
    assert settled(Standing(accepted, None), now=101) == [1, 2, 3]


def settled(
    standing: Standing, *, now: int = 1_000, is_owed: Callable[[int], bool] = lambda _: True
) -> list[int]:
    found, _ = settle.payable(standing, now=now, is_owed=is_owed)
    return [item.nonce for item in found]


# what became of an epoch, by our record and the chain's: 2 are final, 4 posted, 6 opened

OURS, OTHER, NOTHING = keccak256(b"ours"), keccak256(b"other"), bytes(32)
SIGNING, POSTED = EpochStage.SIGNING, EpochStage.POSTED


@pytest.mark.parametrize(
    ("epoch", "stage", "generation", "header_hash", "fate"),
    [
        (3, POSTED, 7, OURS, EpochPosition.STANDS),
        (3, POSTED, 6, OURS, EpochPosition.STANDS),  # a later one was voided
        (3, SIGNING, 7, OURS, EpochPosition.UNMARKED),
        (3, POSTED, 7, OTHER, EpochPosition.FOREIGN),
        (3, SIGNING, 7, OTHER, EpochPosition.FOREIGN),
        (3, None, 7, OTHER, EpochPosition.FOREIGN),
        (4, SIGNING, 7, NOTHING, EpochPosition.WAITS),
        (4, SIGNING, 6, NOTHING, EpochPosition.VOIDED),
        (4, POSTED, 6, NOTHING, EpochPosition.VOIDED),
        (4, POSTED, 7, NOTHING, EpochPosition.UNPOSTED),
        (4, None, 7, NOTHING, EpochPosition.OPEN),
    ],
)
def test_what_became_of_an_epoch_follows_from_our_record_and_the_chain(
    epoch: int, stage: EpochStage | None, generation: int, header_hash: bytes, fate: EpochPosition
) -> None:
    record = None
    if stage is not None:
        record = Epoch(
            run_id=1,
            epoch=epoch,
            generation=generation,
            stage=stage,
            file=bytes(32),
            header_digest=bytes(32),
            header_hash=OURS,
            num_groups=0,
            total_units=0,
        )
    found = fate_of(record, epoch=epoch, num_posted=4, generation=7, header_hash=header_hash)
    assert found is fate


def test_a_permit_is_renewed_in_its_second_half_and_never_after_its_end() -> None:
    for left, due in ((51, False), (50, False), (49, True), (0, True), (-1, False)):
        assert is_due(until=1_000 + left, period=100, now=1_000) is due


@given(
    st.lists(
        st.tuples(st.sampled_from(WORKERS), st.integers(1, 50), st.integers(0, 100)),
        unique_by=lambda item: item[:2],
        max_size=20,
    )
)
def test_sums_of_header_leaves_and_accounts_agree(items: list[tuple[str, int, int]]) -> None:
    contributions = [work(*item) for item in items]
    before = (Account(worker=WORKERS[0], earned=7, last_nonce=0),)
    opened = OpenEpoch(
        run_id=1, epoch=0, generation=0, prev_account_root=bytes(32), secret=bytes(32)
    )
    file = settle.epoch_file(opened, contributions, before)
    header = header_of(file, file.canonical())
    assert header.total == sum(units for _, _, units in items)
    assert sum(account.earned for account in file.accounts) == 7 + header.total
    assert header.data_hash == keccak256(file.canonical())
    assert header.work_count == len(items)
    order = [(int(item.worker, 16), item.nonce) for item in file.contributions]
    assert order == sorted(order)
    for account in file.accounts:
        nonces = [nonce for worker, nonce, _ in items if worker == account.worker]
        assert account.last_nonce == max(nonces, default=0)
