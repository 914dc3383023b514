"""The ladder: what one verdict's own figures justify, on both sides of every step."""

import math

import pytest

from protocol.checks.evidence import (
    FAULT_RATE,
    GROSS_DECADES,
    NAMED_DECADES,
    Consequence,
    Hypothesis,
    consequence,
    decades,
    lead,
    token_decades,
)
from protocol.constants import MICRO, NANO
from protocol.errors import Malformed
from protocol.verdict import NOTHING_MEASURED, Outcome, Rejection, ReplayStats, Verdict
from tests.stage.bounds import bounds, thresholds

NUM_TOKENS = 100
PER_TOKEN = 10_000
"""Billionths of a nat that honest claims may miss each token by, on average."""
GROUP = MICRO
BOUNDS = thresholds().model_copy(
    update={
        "mismatches": bounds(0, group=MICRO),
        "margin": bounds(1_000, group=MICRO),
        "gap": bounds(PER_TOKEN, group=GROUP),
    }
)
AT_MOST = PER_TOKEN * NUM_TOKENS + GROUP
PER_BOUND = -math.log10(100 / MICRO / 3)
"""Decades of a gap as large as honest work's bound: a third of the false rejects of honest groups pass it."""


def claims(share: float, *, surprisal: float = 0.0, wrong: int = 0) -> ReplayStats:
    """Return a gap of so many times the honest bound, a surprisal in decades, and lost tokens."""
    return NOTHING_MEASURED.model_copy(
        update={
            "num_tokens": NUM_TOKENS,
            "num_matched": NUM_TOKENS - wrong,
            "gap_nanonats": math.ceil(share * AT_MOST),
            "surprisal_nanonats": math.ceil(surprisal * math.log(10) * NANO),
        }
    )


def lost(wrong: int, *, surprisal: float = 0.0) -> ReplayStats:
    return claims(0.0, surprisal=surprisal, wrong=wrong)


def verdict(
    found: ReplayStats,
    *,
    hypothesis: str = "",
    explained: ReplayStats = NOTHING_MEASURED,
    outcome: Outcome = Outcome.REJECTED,
) -> Verdict:
    return Verdict(
        run_id=1,
        work_digest=bytes(32),
        verifier="0x" + "11" * 20,
        outcome=outcome,
        rejection=Rejection.REPLAY_LOGPROB.value,
        detail="",
        rollouts=(0,),
        stats=found,
        hypothesis=hypothesis,
        explained=explained,
        mismatches=(),
        decided_at=0,
        signature=bytes(65),
    )


def test_lost_tokens_are_counted_by_the_tail_of_a_poisson() -> None:
    """Chernoff's bound is above the tail itself, and within two decades of it."""
    expected = FAULT_RATE * NUM_TOKENS
    for wrong in (1, 2, 5, 20):
        tail = sum(
            math.exp(-expected) * expected**k / math.factorial(k) for k in range(wrong, wrong + 40)
        )
        assert token_decades(lost(wrong), BOUNDS) <= -math.log10(tail)
        assert token_decades(lost(wrong), BOUNDS) >= -math.log10(tail) - 2
    assert token_decades(lost(0), BOUNDS) == 0.0
    assert token_decades(NOTHING_MEASURED, BOUNDS) == 0.0


def test_one_flipped_bit_costs_a_group_and_nothing_more_however_far_it_lost() -> None:
    fault = lost(1, surprisal=2.0).model_copy(
        update={"margin_nanonats": NANO, "max_margin_nanonats": 50 * NANO}
    )
    for hypothesis in Hypothesis:
        found = verdict(fault, hypothesis=hypothesis.value, explained=lost(0))
        assert consequence(found, BOUNDS) is Consequence.UNPAID


def test_a_group_with_more_lost_tokens_than_any_machine_loses_is_gross() -> None:
    first = next(k for k in range(NUM_TOKENS) if token_decades(lost(k), BOUNDS) >= GROSS_DECADES)
    assert first == 4
    assert consequence(verdict(lost(first - 1)), BOUNDS) is Consequence.UNPAID
    assert consequence(verdict(lost(first)), BOUNDS) is Consequence.GROSS


def test_where_honest_work_loses_more_tokens_more_are_expected() -> None:
    noisy = BOUNDS.model_copy(update={"mismatches": bounds(20_000, group=MICRO)})
    assert token_decades(lost(2), noisy) == 0.0
    assert consequence(verdict(lost(6)), noisy) is Consequence.UNPAID
    assert consequence(verdict(lost(20)), noisy) is Consequence.GROSS


def test_claims_alone_are_never_gross() -> None:
    """An engine that reports `logit − logsumexp` in float32 is outside the bounds and has not cheated."""
    rounding = verdict(claims(50.0))
    assert decades(rounding.stats, BOUNDS) == pytest.approx(50 * PER_BOUND, rel=1e-4)
    assert consequence(rounding, BOUNDS) is Consequence.UNPAID


def test_claims_within_what_honest_work_stays_below_are_no_evidence() -> None:
    assert decades(claims(1.0), BOUNDS) == 0.0
    assert decades(claims(1.001), BOUNDS) == pytest.approx(PER_BOUND, rel=1e-2)


def test_a_hypothesis_names_where_it_leads_by_nine_decades() -> None:
    below, above = (claims((NAMED_DECADES + beyond) / PER_BOUND) for beyond in (-0.01, 0.01))
    for found, follows in ((below, Consequence.UNPAID), (above, Consequence.NAMED)):
        named = verdict(found, hypothesis=Hypothesis.INT8, explained=claims(0.0))
        assert consequence(named, BOUNDS) is follows
        assert consequence(verdict(found), BOUNDS) is Consequence.UNPAID


def test_a_rollout_named_twice_is_refused_for_it_would_count_twice() -> None:
    once, times = lost(1), 64
    counts = {name: getattr(once, name) * times for name in ("num_tokens", "num_matched")}
    repeated = verdict(once.model_copy(update=counts))
    assert consequence(verdict(once), BOUNDS) is Consequence.UNPAID
    assert consequence(repeated, BOUNDS) is Consequence.GROSS
    for rollouts in ((0,) * times, (1, 0)):
        with pytest.raises(Malformed, match="above the one before"):
            Verdict.from_json(repeated.model_copy(update={"rollouts": rollouts}).to_json())


def test_a_hypothesis_explains_no_token_that_was_not_replayed_under_it() -> None:
    named = verdict(claims(100.0), hypothesis=Hypothesis.INT8)
    assert lead(named, BOUNDS) >= NAMED_DECADES, "nothing is explained perfectly"
    assert consequence(named, BOUNDS) is Consequence.UNPAID


def test_what_a_hypothesis_leaves_unexplained_is_taken_off_its_lead() -> None:
    found = verdict(claims(10.0), hypothesis=Hypothesis.INT8, explained=claims(2.0))
    assert lead(found, BOUNDS) == pytest.approx(8 * PER_BOUND, rel=1e-3)
    assert consequence(found, BOUNDS) is Consequence.NAMED
    worse = verdict(claims(2.0), hypothesis=Hypothesis.INT8, explained=claims(10.0))
    assert lead(worse, BOUNDS) < 0
    assert consequence(worse, BOUNDS) is Consequence.UNPAID  # by its own figures alone


@pytest.mark.parametrize(
    ("beyond", "follows"), [(-0.01, Consequence.NAMED), (0.01, Consequence.UNPAID)]
)
def test_a_hypothesis_that_is_itself_impossible_names_nothing(
    beyond: float, follows: Consequence
) -> None:
    """Of a model that nobody knows, some temperature is always a little less impossible than honesty."""
    explained = claims((GROSS_DECADES + beyond) / PER_BOUND)
    found = verdict(claims(1_000.0), hypothesis=Hypothesis.TEMPERATURE, explained=explained)
    assert lead(found, BOUNDS) > 1_000
    assert consequence(found, BOUNDS) is follows


def test_tokens_that_no_seed_draws_must_be_rarer_under_the_lease_than_under_the_policy() -> None:
    """Drawn by other seeds, the tokens have the policy's probability; other hypotheses determine them."""
    rare = token_decades(lost(9), BOUNDS)
    for surprisal, follows in (
        (rare - NAMED_DECADES - 0.1, Consequence.NAMED),
        (rare - NAMED_DECADES + 0.1, Consequence.GROSS),
    ):
        found = lost(9, surprisal=surprisal)
        named = verdict(found, hypothesis=Hypothesis.UNSEEDED, explained=lost(0))
        assert lead(named, BOUNDS) == pytest.approx(rare - surprisal, abs=1e-3)
        assert consequence(named, BOUNDS) is follows
        determined = named.model_copy(update={"hypothesis": Hypothesis.SIBLING_SEED.value})
        assert consequence(determined, BOUNDS) is Consequence.NAMED


def test_without_a_hypothesis_nothing_leads() -> None:
    found = verdict(lost(50), explained=NOTHING_MEASURED)
    assert lead(found, BOUNDS) == 0.0
    assert consequence(found, BOUNDS) is Consequence.GROSS


@pytest.mark.parametrize("outcome", [Outcome.ACCEPTED, Outcome.UNDECIDED])
def test_nothing_follows_from_a_group_that_was_not_rejected(outcome: Outcome) -> None:
    found = verdict(lost(50), outcome=outcome, hypothesis=Hypothesis.INT8, explained=lost(0))
    assert consequence(found, BOUNDS) is Consequence.NONE
