"""Sealed votes: what binds a verifier, what hides its verdict, and what it wants to hold before it tells that."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.checks.seal import broken_seal, seals_that_hold, why_not_open
from protocol.messages import ClosedVote
from protocol.signing import sign
from protocol.verdict import NOTHING_MEASURED, Outcome, Seal, Verdict
from tests.stage.terms import DOMAIN, RUN, key

WORK, NOW = bytes([7]) * 32, 1_800_000_000
NAMES = ("one", "two", "three")
ROSTER = tuple(key(name).address for name in NAMES)


def verdict(name: str, **changes: Any) -> Verdict:
    fields = {
        "run_id": RUN,
        "work_digest": WORK,
        "verifier": key(name).address,
        "outcome": Outcome.ACCEPTED,
        "rejection": "",
        "detail": "",
        "rollouts": (0,),
        "stats": NOTHING_MEASURED,
        "mismatches": (),
        "decided_at": NOW,
        "signature": bytes(65),
    }
    return Verdict.model_validate(fields | changes)


def seal(found: Verdict, by: str) -> Seal:
    unsigned = Seal.of(found)
    signature = sign(bytes(key(by).key), DOMAIN.digest(unsigned))
    return unsigned.model_copy(update={"signature": signature})


def held(*seals: Seal, own: Verdict) -> tuple[Seal, ...]:
    def spoke_for(signer: str, verifier: str, at: int) -> bool:
        return signer == verifier or (signer == key("hot").address and at < NOW)

    vote = ClosedVote(work_digest=WORK, seals=seals)
    return seals_that_hold(vote, own, verifiers=ROSTER, domain=DOMAIN, spoke_for=spoke_for, now=NOW)


OWN = verdict("one")
MINE, YOURS = seal(OWN, "one"), seal(verdict("two"), "two")


def test_a_seal_binds_every_field_of_a_verdict_and_is_another_with_another_salt() -> None:
    digests = {
        Seal.of(verdict("one", **change)).evidence_digest
        for change in (
            *({}, {"salt": b"s" * 32}, {"outcome": Outcome.REJECTED}, {"detail": "x"}),
            *({"rollouts": (1,)}, {"decided_at": NOW + 1}, {"verifier": ROSTER[1]}),
            *({"run_id": RUN + 1}, {"work_digest": bytes(32)}),
        )
    }
    assert len(digests) == 9
    signed = OWN.model_copy(update={"signature": bytes([1]) * 65})
    assert Seal.of(signed) == Seal.of(OWN), "who checks it need not know the signature"


@pytest.mark.parametrize(
    "foreign",
    [
        seal(verdict("two"), "three"),
        seal(verdict("four"), "four"),
        seal(verdict("two"), "hot"),
        seal(verdict("two", work_digest=bytes(32)), "two"),
        seal(verdict("two", run_id=RUN + 1), "two"),
        YOURS.model_copy(update={"signature": bytes(65)}),
    ],
    ids=["forged", "stranger", "revoked key", "other work", "other run", "unsigned"],
)
def test_only_seals_of_the_runs_verifiers_on_the_same_work_hold(foreign: Seal) -> None:
    assert held(MINE, YOURS, own=OWN) == (MINE, YOURS)
    assert held(MINE, foreign, own=OWN) == (MINE,)


def test_a_verdict_waits_for_as_many_seals_as_must_agree_with_its_own_among_them() -> None:
    assert why_not_open((MINE, YOURS), OWN, threshold=2) is None
    assert why_not_open((MINE,), OWN, threshold=1) is None
    assert "1 of 2 verifiers" in str(why_not_open((MINE,), OWN, threshold=2))
    theirs = seal(verdict("one", detail="another"), "one")
    for seals in ((YOURS, seal(verdict("three"), "three")), (theirs, YOURS)):
        assert "my own seal" in str(why_not_open(seals, OWN, threshold=2))


@given(st.lists(st.sampled_from(NAMES), min_size=1), st.integers(1, 3))
def test_no_number_of_copies_is_another_verifier(names: list[str], threshold: int) -> None:
    seals = held(*(seal(verdict(name), name) for name in names), own=OWN)
    is_enough = "one" in names and len(set(names)) >= threshold
    assert (why_not_open(seals, OWN, threshold=threshold) is None) == is_enough


def test_a_seal_is_broken_by_another_vote_and_by_nothing_else() -> None:
    other = verdict("two", outcome=Outcome.REJECTED, rejection="replay_mismatch")
    assert broken_seal((OWN, other), (MINE, YOURS)) == YOURS
    assert broken_seal((OWN, verdict("two")), (MINE, YOURS)) is None
    assert broken_seal((OWN, verdict("three")), (MINE, YOURS)) is None, "none of it is shown"
    undecided = verdict("two", outcome=Outcome.UNDECIDED)
    assert broken_seal((undecided,), (YOURS,)) is None, "it vouches for nothing"
