"""What was done is named: each cheat on the real model, the honest worker, and a model nobody knows.

With the sanction off, each cheat would be one unpaid group in a run; with a name it is the stake.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache

import pytest
from torch import Tensor, ones

from protocol.checks.evidence import Consequence, Hypothesis, consequence
from protocol.policies.manifest import Weights
from protocol.rollout import Lease, Rollout
from protocol.verdict import NOTHING_MEASURED, Outcome, Verdict, judge
from rollout_worker.engines.base import Request
from rollout_worker.engines.fp8_cache import keeping_fp8
from rollout_worker.engines.rounded import rounded
from rollout_worker.engines.transformers import DecodingRows, TransformersEngine
from rollout_worker.generate import finish_group, requests_of
from rollout_worker.replay.hypotheses import Older, Suspect, _Case, name
from rollout_worker.replay.measure import ReplayModel, only, stats_of
from rollout_worker.replay.nucleus import within_nucleus
from tests.adversarial.sampling.test_another_model import without_last_layer
from tests.adversarial.sampling.test_recomputed_logprobs import recomputed
from tests.adversarial.sampling.test_stale_policy import one_step_away
from tests.stage.sampling_lab import EOS, MODEL, Lab, exact

NUM_GROUPS = 6
VERSION = 3
WHOLE = tuple(range(8))

Groups = Sequence[Sequence[Rollout]]
Cheat = Callable[[Lab, list[Lease]], Groups]


@cache
def suspects() -> ReplayModel:
    """What hypotheses are tried on, apart from the model that replays as leased."""
    return ReplayModel(MODEL)


def versions() -> Iterator[tuple[int, Weights]]:
    """Serve what the run had before, newest first."""
    policy = exact().policy
    for below, size in ((VERSION - 1, 1e-3), (VERSION - 2, 2e-3)):
        yield below, one_step_away(policy, size=size)


def leased(count: int = NUM_GROUPS) -> list[Lease]:
    return [lease.model_copy(update={"policy_version": VERSION}) for lease in exact().leases(count)]


def verdict(
    lease: Lease,
    group: Sequence[Rollout],
    *,
    chosen: tuple[int, ...] = WHOLE,
    older: Older = versions,
) -> Verdict:
    """Replay the chosen rollouts, and say what was done where they are outside the bounds."""
    bench = exact()
    [found] = bench.model.findings([only(lease, group, chosen)])
    stats = stats_of(found)
    broken = judge(stats, bench.thresholds)
    suspect = Suspect(lease, tuple(group), chosen, bench.policy, stats)
    named = name(suspect, suspects(), older, bench.thresholds)
    return Verdict(
        run_id=1,
        work_digest=bytes(32),
        verifier="0x" + "11" * 20,
        outcome=Outcome.REJECTED if broken else Outcome.ACCEPTED,
        rejection=broken[0].value if broken else "",
        detail=named.detail if named else "",
        rollouts=chosen,
        stats=stats,
        hypothesis=named.word if named else "",
        explained=named.explained if named else NOTHING_MEASURED,
        mismatches=(),
        decided_at=0,
        signature=bytes(65),
    )


def follows(found: Verdict) -> Consequence:
    return consequence(found, exact().thresholds)


def served(change: Callable[[Weights], Weights]) -> Cheat:
    """Return the cheat of sampling as leased from other weights."""

    def cheat(bench: Lab, leases: list[Lease]) -> Groups:
        bench.engine.load(change(bench.policy))
        return bench.sample(leases)

    return cheat


def reseeded(change: Callable[[tuple[int, ...]], tuple[int, ...]]) -> Cheat:
    """Return the cheat of sampling by other seeds than those of each rollout."""

    def cheat(bench: Lab, leases: list[Lease]) -> Groups:
        return bench.sample([x.model_copy(update={"seeds": change(x.seeds)}) for x in leases])

    return cheat


def at(temperature: float) -> Cheat:
    millionths = round(temperature * 1e6)

    def cheat(bench: Lab, leases: list[Lease]) -> Groups:
        return bench.sample(
            [x.model_copy(update={"temperature_millionths": millionths}) for x in leases]
        )

    return cheat


def fp8(bench: Lab, leases: list[Lease]) -> Groups:
    assert isinstance(bench.engine, TransformersEngine)
    with keeping_fp8(bench.engine.model):
        return bench.sample(leases)


class NucleusBatch(DecodingRows):
    def draw(self, scaled_BV: Tensor) -> Tensor:
        return super().draw(within_nucleus(scaled_BV, ones(len(scaled_BV)), 0.95))


class NucleusEngine(TransformersEngine):
    def _prefilled(self, requests: Sequence[Request]) -> DecodingRows:
        return NucleusBatch.prefill(self.model, requests)


def top_p(bench: Lab, leases: list[Lease]) -> Groups:
    engine = NucleusEngine(
        MODEL,
        device="cpu",
        dtype=bench.thresholds.compute_dtype,
        max_model_len=128,
        max_sequences=64,
    )
    asked = [request for lease in leases for request in requests_of(lease, eos_token_ids=(EOS,))]
    done = iter(engine.generate(asked))
    return [finish_group(lease, [next(done) for _ in lease.seeds]) for lease in leases]


CHEATS: dict[str, tuple[Cheat, Hypothesis, str]] = {
    "int8": (served(lambda w: rounded(w, bits=8)), Hypothesis.INT8, "int8"),
    "int4": (served(lambda w: rounded(w, bits=4)), Hypothesis.INT4, "int4"),
    "fp8": (fp8, Hypothesis.FP8_CACHE, "fp8"),
    "colder": (at(0.9), Hypothesis.TEMPERATURE, "temperature 0.9 instead of 1"),
    "a little colder": (at(0.97), Hypothesis.TEMPERATURE, "temperature 0.97 instead of 1"),
    "greedy": (at(0.0001), Hypothesis.TEMPERATURE, "temperature 0.0001 instead of 1"),
    "top-p": (top_p, Hypothesis.TOP_P, "top-p 0.9"),
    "own seeds": (
        reseeded(lambda seeds: tuple(seed ^ 1 for seed in seeds)),
        Hypothesis.UNSEEDED,
        "no seed of the lease",
    ),
    "one seed for all": (
        reseeded(lambda seeds: seeds[2:3] * len(seeds)),
        Hypothesis.SIBLING_SEED,
        "other rollouts",
    ),
    "another order": (
        reseeded(lambda seeds: seeds[3:] + seeds[:3]),
        Hypothesis.SIBLING_SEED,
        "other rollouts",
    ),
    "older": (
        served(lambda w: one_step_away(dict(w), size=2e-3)),
        Hypothesis.OLDER_VERSION,
        "version 1 instead of 3",
    ),
}


@pytest.mark.parametrize("cheat", CHEATS)
def test_what_was_done_is_named(cheat: str) -> None:
    made, hypothesis, said = CHEATS[cheat]
    leases = leased()
    groups = made(exact(), leases)
    found = [verdict(lease, group) for lease, group in zip(leases, groups, strict=True)]
    condemned = [v for v in found if v.outcome is Outcome.REJECTED]
    assert len(condemned) >= 2  # where the policy is sure, nothing was gained
    assert all(said in v.detail for v in condemned)
    if cheat in BY_TOKENS:
        assert {v.hypothesis for v in condemned} <= {hypothesis, ""}
        assert {follows(v) for v in condemned} >= EXPECTED_BY_TOKENS[cheat]
    else:
        assert {v.hypothesis for v in condemned} == {hypothesis}
        assert {follows(v) for v in condemned} == {Consequence.NAMED}


SEEDS = {"own seeds", "one seed for all", "another order"}
BY_TOKENS = SEEDS | {"top-p"}
"""Cheats whose claims are the leased policy's: their tokens alone are evidence, and it takes several."""
EXPECTED_BY_TOKENS = {cheat: {Consequence.NAMED} for cheat in SEEDS} | {"top-p": set()}


@pytest.mark.parametrize("cheat", [name for name in CHEATS if name != "top-p"])
def test_one_rollout_of_eight_is_enough_to_name_it(cheat: str) -> None:
    """Of one short completion, a seed of one's own and another of the lease's may draw the same: no name."""
    made, hypothesis, _ = CHEATS[cheat]
    leases = leased()
    groups = made(exact(), leases)
    found = [
        verdict(lease, group, chosen=(i % 8,))
        for i, (lease, group) in enumerate(zip(leases, groups, strict=True))
    ]
    condemned = [v for v in found if v.outcome is Outcome.REJECTED]
    assert condemned
    if cheat not in SEEDS:
        assert {follows(v) for v in condemned} == {Consequence.NAMED}
    unnamed = {""} if cheat in SEEDS else set()
    assert {v.hypothesis for v in condemned} <= {hypothesis} | unnamed
    counted = [len(group[i % 8].token_ids()) for i, group in enumerate(groups)]
    assert [v.stats.num_tokens for v in found] == counted


@pytest.mark.parametrize("cheat", ["int4", "greedy", *sorted(SEEDS)])
def test_right_claims_do_not_hide_what_tokens_tell(cheat: str) -> None:
    """A prefill with the leased weights makes every claim right; fewer tokens then tell, and less apart."""
    made, hypothesis, _ = CHEATS[cheat]
    leases = leased()
    groups = recomputed(leases, made(exact(), leases))
    found = [verdict(lease, group) for lease, group in zip(leases, groups, strict=True)]
    condemned = [v for v in found if v.outcome is Outcome.REJECTED]
    assert len(condemned) >= 2
    assert {v.rejection for v in condemned} <= {"replay_mismatch", "replay_margin"}
    assert {v.hypothesis for v in condemned} <= {hypothesis, ""}
    if cheat in SEEDS:
        assert Consequence.NAMED in {follows(v) for v in condemned}


def test_what_several_hypotheses_explain_gets_no_name() -> None:
    """After a prefill greedy draws differ by a token or two, as a nucleus's or a rounding's would."""
    made, hypothesis, _ = CHEATS["greedy"]
    leases = leased()
    groups = recomputed(leases, made(exact(), leases))
    unclear, first = [], set()
    for lease, group in zip(leases, groups, strict=True):
        found = verdict(lease, group)
        if found.outcome is Outcome.REJECTED and not found.hypothesis:
            suspect = Suspect(lease, tuple(group), WHOLE, exact().policy, found.stats)
            case = _Case.open(suspect, suspects(), exact().thresholds)
            first |= {next(one.hypothesis for one in case.tried(versions) if case.explains(one))}
            unclear.append(found)
    assert unclear
    assert first - {hypothesis}, "the first that explains such a group would be a wrong name"
    assert all("perhaps" in v.detail and "the tokens" in v.detail for v in unclear)
    assert Consequence.NAMED not in {follows(v) for v in unclear}


def test_honest_work_is_never_named() -> None:
    leases = leased(8)
    groups = exact().sample(leases)
    for lease, group in zip(leases, groups, strict=True):
        for chosen in (WHOLE, (3,)):
            found = verdict(lease, group, chosen=chosen)
            assert (found.outcome, found.hypothesis) == (Outcome.ACCEPTED, "")
            assert follows(found) is Consequence.NONE


def test_another_model_is_condemned_without_a_name() -> None:
    bench, leases = exact(), leased()
    bench.engine.load(without_last_layer(bench.policy))
    groups = bench.sample(leases)
    found = [verdict(lease, group) for lease, group in zip(leases, groups, strict=True)]
    assert {follows(v) for v in found} <= {Consequence.GROSS, Consequence.UNPAID}
