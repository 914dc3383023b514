"""Messages: strict fields, two forms that agree, and mistakes that are named."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Malformed, by_code
from protocol.rollout import Lease, Rollout, Submission, lease_id, payload_digest, rollout_seed
from protocol.signing import address_of

WORKER = address_of(bytes(31) + b"\x01")

leases = st.builds(
    Lease,
    lease_id=st.binary(min_size=32, max_size=32),
    run_id=st.integers(0, (1 << 63) - 1),
    worker=st.just(WORKER),
    nonce=st.integers(1, 99),
    epoch=st.integers(0, 9),
    environment=st.just("arithmetic"),
    index=st.integers(0, (1 << 63) - 1),
    prompt=st.lists(st.integers(0, 99), max_size=9).map(tuple),
    policy_version=st.integers(0, 99),
    policy_digest=st.binary(min_size=32, max_size=32),
    temperature_millionths=st.just(1_000_000),
    max_tokens=st.integers(1, 64),
    seeds=st.lists(st.integers(0, (1 << 63) - 1), min_size=2, max_size=8).map(tuple),
    rate=st.integers(1, 10**15),
    deadline=st.integers(0, 1 << 40),
)


@given(leases)
def test_both_forms_read_back_as_the_same_message(lease: Lease) -> None:
    assert Lease.from_canonical(lease.canonical()) == lease
    assert Lease.from_json(lease.to_json()) == lease


def submission(**changes: Any) -> Submission:
    fields: dict[str, Any] = {
        "lease_id": bytes(32),
        "engine": "transformers-cpu",
        "prompt": (1, 2),
        "rollouts": (Rollout.of([3, 4], [-0.5, -0.25]), Rollout.of([4], [-1.0])),
        "submitted_at": 1_800_000_000,
        "signature": bytes(65),
    }
    return Submission(**{**fields, **changes})


def example_lease() -> Lease:
    return Lease(
        lease_id=lease_id(1, WORKER, 1),
        run_id=1,
        worker=WORKER,
        nonce=1,
        epoch=0,
        environment="arithmetic",
        index=5,
        prompt=(1, 2),
        policy_version=0,
        policy_digest=bytes(32),
        temperature_millionths=1_000_000,
        max_tokens=8,
        seeds=(1, 2),
        rate=1,
        deadline=9,
    )


def test_the_commitment_binds_every_part_of_a_group() -> None:
    lease = example_lease()
    base = payload_digest(lease, submission())
    changed = [
        payload_digest(lease, submission(prompt=(1, 3))),
        payload_digest(lease, submission(engine="vllm-cpu")),
        payload_digest(lease, submission(rollouts=(Rollout.of([3, 4], [-0.5, -0.25]),))),
        payload_digest(lease, submission(rollouts=submission().rollouts[::-1])),
        payload_digest(
            lease,
            submission(rollouts=(Rollout.of([3, 4], [-0.5, -0.2]), Rollout.of([4], [-1.0]))),
        ),
    ]
    other: dict[str, object] = {
        name: value + 1 if isinstance(value, int) else value[:-1]
        for name, value in lease.model_dump().items()
    }
    changed += [
        payload_digest(lease.model_copy(update={name: value}), submission())
        for name, value in other.items()
    ]
    assert len({base, *changed}) == 1 + len(changed)


def test_seeds_differ_by_run_lease_secret_and_place() -> None:
    a, b = lease_id(1, WORKER, 1), lease_id(1, WORKER, 2)
    secret, other = bytes(32), bytes([1]) * 32
    seeds = {
        rollout_seed(1, a, secret, 0),
        rollout_seed(1, a, secret, 1),
        rollout_seed(2, a, secret, 0),
        rollout_seed(1, b, secret, 0),
        rollout_seed(1, a, other, 0),
    }
    assert len(seeds) == 5
    assert all(0 <= seed < 1 << 63 for seed in seeds)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("nonce", 0),
        ("nonce", True),
        ("run_id", "1"),
        ("seeds", (1,)),
        ("lease_id", bytes(31)),
        ("worker", "0x12"),
        ("surprise", 1),
    ],
)
def test_a_wrong_field_is_named(field: str, value: Any) -> None:
    from protocol.canonical import encode

    data = encode({**example_lease().model_dump(), field: value})
    with pytest.raises(Malformed, match=field):
        Lease.from_canonical(data)


def test_every_error_has_a_code_of_its_own_and_a_client_status() -> None:
    known = by_code()
    assert known["lease_expired"].__name__ == "LeaseExpired"
    assert all(400 <= cls.status <= 503 for code, cls in known.items() if code != "market_error")
