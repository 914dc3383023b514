"""Attack: answer a run's demand for activation commitments without having computed any.

The tokens are honest here, so a run that asks for nothing takes each of these groups: what earns
nothing is the commitment.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from orchestrator import admission
from protocol.activations import TOPK, proof_bytes
from protocol.polynomial import PRIME
from protocol.rollout import Lease, payload_digest
from protocol.verdict import Rejection
from tests.adversarial.activation_lab import (
    MEASURED,
    PUBLISHED,
    Group,
    admitted,
    condemned,
    proved,
    with_proofs,
    without,
)
from tests.adversarial.sampling_lab import TERMS, exact, share, submission_of

SIZE = proof_bytes()


@cache
def honest() -> tuple[list[Lease], list[Group]]:
    bench = exact()
    leases = bench.leases(16)
    return leases, proved(bench, leases)


def each(data: bytes, change: Callable[[bytes], bytes]) -> bytes:
    return b"".join(change(data[i : i + SIZE]) for i in range(0, len(data), SIZE))


def invented(proof: bytes) -> bytes:
    """A polynomial drawn at random, the same for the same proof."""
    draw = np.random.default_rng(int.from_bytes(proof[:8], "big"))
    return np.array([PRIME, *draw.integers(0, PRIME, TOPK)], dtype=">u2").tobytes()


MALFORMED: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "missing": (lambda _: b"", "not 0 bytes"),
    "one missing": (lambda data: data[SIZE:], "proofs of 258 bytes are not"),
    "extra": (lambda data: data + data[:SIZE], "proofs of 258 bytes are not"),
    "torn": (lambda data: data[:-1], "proofs of 258 bytes are not"),
    "null": (lambda data: bytes(len(data)), "modulus 0 "),
    "zero modulus": (lambda data: each(data, lambda p: b"\0\0" + p[2:]), "modulus 0 "),
    "small modulus": (lambda data: each(data, lambda p: b"\0\x65" + p[2:]), "modulus 101 "),
    "constant": (lambda data: each(data, lambda p: p[:4] + bytes(SIZE - 4)), "constant"),
    "outside the field": (lambda data: each(data, lambda p: p[:-2] + b"\xff\xff"), "in the field"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_no_prover_sends_is_refused_at_the_door(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, says = MALFORMED[name]
    leases, groups = honest()
    forged = with_proofs(groups[0], change)
    rejection, detail = admitted(leases[0], forged)
    assert rejection is Rejection.BAD_ACTIVATIONS
    assert says in detail or name == "missing"
    monkeypatch.setattr(admission, "_activations", lambda *_: None)
    assert admitted(leases[0], forged) == (None, "")


def test_a_run_that_asks_for_nothing_takes_nothing() -> None:
    bench = exact()
    leases, groups = honest()
    assert share(bench.caught(leases, without(groups))) == 0
    finding = admission.admit(
        leases[0], submission_of(leases[0], groups[0]), TERMS, newest_version=0
    )
    assert finding is not None
    assert finding.rejection is Rejection.BAD_ACTIVATIONS


def test_honest_commitments_pass_even_bounds_as_tight_as_measured() -> None:
    bench = exact()
    leases, groups = honest()
    assert share(condemned(bench, leases, groups, PUBLISHED)) == 0
    assert share(condemned(bench, leases, groups, MEASURED)) == 0


def test_invented_polynomials_are_caught_in_every_group() -> None:
    bench = exact()
    leases, groups = honest()
    forged = [with_proofs(group, lambda data: each(data, invented)) for group in groups]
    assert share(bench.caught(leases, without(forged))) == 0  # the tokens are what was leased
    assert set(condemned(bench, leases, forged, PUBLISHED)) == {Rejection.REPLAY_ACTIVATIONS}


def test_another_groups_commitments_are_caught() -> None:
    """Of rollouts that take as many proofs: where numbers differ, admission says so."""
    bench = exact()
    leases, groups = honest()
    moved = []
    for i, group in enumerate(groups):
        others = [r.activations for other in (*groups[i + 1 :], *groups[:i]) for r in other]
        by_size = {len(data): data for data in others}
        moved.append(with_proofs(group, lambda data, found=by_size: found.get(len(data), data)))  # type: ignore[misc]
    assert share(bench.caught(leases, without(moved))) == 0
    assert share(condemned(bench, leases, moved, MEASURED)) == 1


def test_a_commitment_belongs_to_its_lease_policy_and_signer() -> None:
    leases, groups = honest()
    lease, group = leases[0], groups[0]
    signed = payload_digest(lease, submission_of(lease, group))
    swapped = with_proofs(group, lambda data: each(data, invented))
    assert payload_digest(lease, submission_of(lease, swapped)) != signed
    assert payload_digest(leases[1], submission_of(leases[1], group)) != signed
    stale = lease.model_copy(update={"policy_digest": bytes([1]) * 32})
    assert payload_digest(stale, submission_of(stale, group)) != signed
