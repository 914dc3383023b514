"""Step records: read strictly, and what share of a step each group has."""

from typing import Any

import pytest

from protocol.errors import Malformed
from protocol.policies.lineage import (
    NO_LINEAGE,
    Records,
    StepRecord,
    TrainedGroup,
    read_record,
    shares_of,
)

WORKERS = tuple("0x" + f"{n:040d}" for n in (1, 2))


def group(n: int, rewards: tuple[int, ...], tokens: tuple[int, ...]) -> TrainedGroup:
    return TrainedGroup(
        work_digest=n.to_bytes(32, "big"),
        worker=WORKERS[n % 2],
        policy_version=0,
        rewards=rewards,
        tokens=tokens,
    )


def record(*groups: TrainedGroup, **changes: Any) -> StepRecord:
    fields = {
        "run_id": 7,
        "version": 1,
        "previous": NO_LINEAGE,
        "divides_by_deviation": False,
        "groups": groups,
    }
    return StepRecord.model_validate(fields | changes)


def test_a_share_is_of_tokens_and_of_absolute_advantage() -> None:
    # Advantages ±½ over 10 and 30 tokens weigh 20; ±¼ (rewards 0 and ½) over 20 and 20 weigh 10.
    shares = shares_of(record(group(1, (10_000, 0), (10, 30)), group(2, (5_000, 0), (20, 20))))
    assert [share.tokens for share in shares] == [0.5, 0.5]
    assert [share.weight for share in shares] == pytest.approx([20 / 30, 10 / 30])


def test_what_was_left_out_of_the_loss_has_no_share() -> None:
    shares = shares_of(record(group(1, (10_000, 0), (0, 0)), group(2, (10_000, 0), (5, 0))))
    assert [(share.tokens, share.weight) for share in shares] == [(0, 0), (1, 1)]
    nothing = shares_of(record(group(1, (10_000, 0), (0, 0))))
    assert [(share.tokens, share.weight) for share in nothing] == [(0, 0)]
    assert shares_of(record()) == ()


def test_dividing_by_the_deviation_makes_groups_weigh_alike() -> None:
    groups = group(1, (10_000, 0), (10, 10)), group(2, (5_000, 0), (10, 10))
    shares = shares_of(record(*groups, divides_by_deviation=True))
    assert [share.weight for share in shares] == pytest.approx([0.5, 0.5], abs=1e-3)


def test_a_record_is_read_only_as_it_was_named() -> None:
    made = record(group(1, (10_000, 0), (1, 2)))
    data = made.canonical()
    assert read_record(data, digest=made.digest(), run_id=7, version=1) == made
    for wrong in (
        {"digest": bytes(32), "run_id": 7, "version": 1},
        {"digest": made.digest(), "run_id": 8, "version": 1},
        {"digest": made.digest(), "run_id": 7, "version": 2},
    ):
        with pytest.raises(Malformed):
            read_record(data, **wrong)  # type: ignore[arg-type]


def test_counts_are_one_for_each_reward() -> None:
    with pytest.raises(ValueError, match="2 rewards and 1 token"):
        group(1, (10_000, 0), (1,))
    with pytest.raises(ValueError, match="less than or equal"):
        group(1, (10_000, 0), (1, 65_537))


def test_records_travel_as_their_own_bytes() -> None:
    made = record(group(1, (10_000, 0), (1, 2)))
    sent = Records(run_id=7, first=1, records=(made.canonical(),))
    assert Records.from_canonical(sent.canonical()).records == (made.canonical(),)
