"""Every sampling attack of the lab: how a worker makes rollouts for leases that it did not serve.

An attack loads and samples; it hands in the log-probabilities that its own engine gives, or invents
some. What a cheat gains by prefilling the result with the right weights and claiming *those*
log-probabilities needs no sampling of its own: `figures` judges every attack a second time with no gap
at all, which is the best that such a prefill can do. Left out: what admission alone refuses
(`tests/adversarial/test_submission_*.py`).
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from benchmarks.attacks import edits, reliquary
from benchmarks.attacks.bench import Bench, Change, Policies
from benchmarks.attacks.weights import noisy, shifted
from protocol.checks.evidence import Hypothesis
from protocol.policies.manifest import Weights
from protocol.rollout import Lease, Rollout
from rollout_worker.engines.base import Completion, Request
from rollout_worker.engines.fp8_cache import keeping_fp8
from rollout_worker.engines.rounded import rounded
from rollout_worker.engines.transformers import TransformersEngine
from rollout_worker.generate import requests_of

Groups = list[tuple[Rollout, ...]]
Cheat = Callable[[Bench, Sequence[Lease]], Groups]

BOTH = ("transformers", "vllm")
EVERY = (*BOTH, reliquary.NAME)
EMULATED = ("transformers", reliquary.NAME)
"""Engines whose cache can be made fp8 here."""
NUM_DRAWS = 4
GOLD_LOGPROB = -1e-4
"""What a splicer claims of tokens that it did not sample: that they were sure."""
NEAR, WIDE = 0.01, 0.1
"""Leads in nats under which a saboteur forks: within bfloat16's rounding, and beyond it."""


@dataclass(frozen=True, slots=True)
class Attack:
    """One cheat. `served` makes the weights whose forward pass the cheat has, for commitments to it."""

    name: str
    title: str
    cheat: Cheat
    served: Callable[[Policies], Weights] = lambda policies: policies.named("exact")
    leased: str = "exact"
    engines: tuple[str, ...] = EVERY
    needs: tuple[str, ...] = ()
    """Policies besides the exact one, which not every model has."""
    named: Hypothesis | None = None
    """What hypothesis replay should call it; None where no hypothesis is right."""
    forks: bool = False
    """Whether it takes runners-up to move rewards: aimed at by how far, not by groups."""

    @property
    def is_honest(self) -> bool:
        return self.name.startswith("honest")

    @property
    def has_aims(self) -> bool:
        """Whether such a worker ought to be condemned within so many groups (`rows.AIMS`)."""
        return not self.is_honest and not self.forks


def attacks() -> dict[str, Attack]:
    """Return every attack by name, honest work first."""
    return {attack.name: attack for attack in _attacks()}


def _attacks() -> list[Attack]:
    return [
        Attack("honest", "honest work", _honest),
        _served(
            "honest-later",
            "honest work, 20 steps on",
            lambda policies: policies.named("later"),
            leased="later",
            needs=("later",),
        ),
        Attack("seed", "another seed", _another_seed, named=Hypothesis.UNSEEDED),
        Attack("best-of-n", f"best of {NUM_DRAWS} draws", _best_of_n, named=Hypothesis.UNSEEDED),
        Attack("copied", "another worker's group", _copied, named=Hypothesis.UNSEEDED),
        Attack("sibling", "one seed for all", _one_seed, named=Hypothesis.SIBLING_SEED),
        Attack("gold", "the gold answer", _gold),
        Attack("spliced", "half the gold answer, then sampled", _spliced),
        Attack(
            "tail-seed",
            "honest half, then another seed",
            partial(_tail, model="exact"),
            named=Hypothesis.UNSEEDED,
        ),
        Attack(
            "tail-model",
            "honest half, then another model",
            partial(_tail, model="other"),
            needs=("other",),
        ),
        Attack("truncated", "cut in half and ended", _truncated),
        Attack("lengthened", "carried on past its end", _lengthened),
        _served(
            "other-model",
            "another model",
            lambda policies: policies.named("other"),
            needs=("other",),
        ),
        _served(
            "stale",
            "a policy 20 steps stale",
            lambda policies: policies.named("exact"),
            leased="later",
            needs=("later",),
            named=Hypothesis.OLDER_VERSION,
        ),
        Attack("greedy", "greedy", _at(1e-4), named=Hypothesis.TEMPERATURE),
        Attack("t090", "temperature 0.9", _at(0.9), named=Hypothesis.TEMPERATURE),
        Attack("t097", "temperature 0.97", _at(0.97), named=Hypothesis.TEMPERATURE),
        Attack("top-p", "top-p 0.95", partial(edits.nucleus, share=0.95), named=Hypothesis.TOP_P),
        _forks("fork-up", lead=NEAR, is_raising=True),
        _forks("fork-down", lead=NEAR, is_raising=False),
        _forks("fork-up-wide", lead=WIDE, is_raising=True),
        _served(
            "int4",
            "int4 weights",
            lambda policies: _rounded(policies, 4),
            named=Hypothesis.INT4,
        ),
        _served(
            "int8",
            "int8 weights",
            lambda policies: _rounded(policies, 8),
            named=Hypothesis.INT8,
        ),
        _served(
            "shifted",
            "weights + 0.003 × N(0, 1)",
            lambda policies: shifted(policies.named("exact"), size=0.003, seed=policies.seed),
        ),
        _served(
            "noise",
            "weights × (1 + 0.003 × N(0, 1))",
            lambda policies: noisy(policies.named("exact"), share=0.003, seed=policies.seed),
        ),
        Attack("fp8", "fp8 (e4m3) cache", _fp8, engines=EMULATED, named=Hypothesis.FP8_CACHE),
        Attack(
            "fp8-one",
            "fp8 cache in one of eight",
            _fp8_in_one,
            engines=EMULATED,
            named=Hypothesis.FP8_CACHE,
        ),
    ]


def _served(
    name: str,
    title: str,
    served: Callable[[Policies], Weights],
    *,
    leased: str = "exact",
    needs: tuple[str, ...] = (),
    named: Hypothesis | None = None,
) -> Attack:
    """Return the attack of honest sampling from other weights than leased."""

    def cheat(bench: Bench, leases: Sequence[Lease]) -> Groups:
        bench.load(served(bench.policies))
        return bench.sample(leases)

    return Attack(name, title, cheat, served=served, leased=leased, needs=needs, named=named)


def _forks(name: str, *, lead: float, is_raising: bool) -> Attack:
    """Return the attack of near-tie forks. Inverse CDF is no race: nobody leads, and it is left out there."""
    title = f"near ties under {lead:g} nats, to {'raise' if is_raising else 'lower'} rewards"
    cheat = partial(edits.forked, lead=lead, is_raising=is_raising)
    return Attack(name, title, cheat, engines=BOTH, forks=True)


def _rounded(policies: Policies, bits: int) -> Weights:
    return rounded(policies.named("exact"), bits=bits)


def _honest(bench: Bench, leases: Sequence[Lease]) -> Groups:
    bench.load(bench.policies.named("exact"))
    return bench.sample(leases)


def _with_seed(k: int) -> Change:
    def change(request: Request) -> Request:
        return replace(request, seed=request.seed ^ k)

    return change


def _another_seed(bench: Bench, leases: Sequence[Lease]) -> Groups:
    bench.load(bench.policies.named("exact"))
    return bench.sample(leases, _with_seed(1))


def _copied(bench: Bench, leases: Sequence[Lease]) -> Groups:
    """Hand in what was sampled for the same prompts under another's leases."""
    bench.load(bench.policies.named("exact"))
    theirs = bench.leases(salt=1)
    assert [lease.prompt for lease in theirs] == [lease.prompt for lease in leases]
    return bench.sample(theirs)


def _one_seed(bench: Bench, leases: Sequence[Lease]) -> Groups:
    """Draw every rollout by the lease's first seed: one completion, handed in eight times."""
    bench.load(bench.policies.named("exact"))
    return bench.sample(
        [lease.model_copy(update={"seeds": lease.seeds[:1] * lease.group_size}) for lease in leases]
    )


def _best_of_n(bench: Bench, leases: Sequence[Lease]) -> Groups:
    """Draw again under seeds of one's own, and keep for each leased seed what scores best."""
    bench.load(bench.policies.named("exact"))
    draws = [bench.sample(leases, _with_seed(k)) for k in range(NUM_DRAWS)]
    return [
        tuple(
            max(candidates, key=lambda rollout: bench.score(lease, rollout))
            for candidates in zip(*group, strict=True)
        )
        for lease, group in zip(leases, zip(*draws, strict=True), strict=True)
    ]


def _at(temperature: float) -> Cheat:
    def cheat(bench: Bench, leases: Sequence[Lease]) -> Groups:
        bench.load(bench.policies.named("exact"))
        return bench.sample(leases, lambda request: replace(request, temperature=temperature))

    return cheat


def _given(tokens: Sequence[int]) -> Completion:
    ids = np.asarray(tokens, dtype=np.uint32)
    return Completion(ids, np.full(len(ids), GOLD_LOGPROB, dtype=np.float32))


def _gold(bench: Bench, leases: Sequence[Lease]) -> Groups:
    given = {lease.lease_id: _given(bench.gold(lease)) for lease in leases}
    return [
        tuple(Rollout.of(given[x.lease_id].tokens, given[x.lease_id].logprobs) for _ in x.seeds)
        for x in leases
    ]


def _spliced(bench: Bench, leases: Sequence[Lease]) -> Groups:
    bench.load(bench.policies.named("exact"))
    starts = []
    for lease in leases:
        gold = bench.gold(lease)
        starts.append([_given(gold[: len(gold) // 2]) for _ in lease.seeds])
    return bench.continued(leases, starts)


def _tail(bench: Bench, leases: Sequence[Lease], *, model: str) -> Groups:
    """Keep the first half of honest completions; go on under another seed, or with another model."""

    def head(rollout: Rollout) -> Completion:
        half = len(rollout.token_ids()) // 2
        return Completion(rollout.token_ids()[:half], rollout.worker_logprobs()[:half])

    heads = [[head(rollout) for rollout in group] for group in _honest(bench, leases)]
    bench.load(bench.policies.named(model))
    return bench.continued(leases, heads, _with_seed(1 if model == "exact" else 0))


def _truncated(bench: Bench, leases: Sequence[Lease]) -> Groups:
    """Stop half-way and write the end, whose log-probability is claimed as sure."""

    def cut(rollout: Rollout) -> Rollout:
        half = max(1, len(rollout.token_ids()) // 2)
        ids, logprobs = rollout.token_ids()[:half].copy(), rollout.worker_logprobs()[:half].copy()
        ids[-1], logprobs[-1] = _eos(bench), GOLD_LOGPROB
        return Rollout.of(ids, logprobs)

    return [tuple(cut(rollout) for rollout in group) for group in _honest(bench, leases)]


def _lengthened(bench: Bench, leases: Sequence[Lease]) -> Groups:
    """Write a space in place of the end, and sample on: tokens are what is paid."""
    [space] = bench.encoded(" ")

    def opened(rollout: Rollout) -> Completion:
        ids, logprobs = rollout.token_ids().copy(), rollout.worker_logprobs().copy()
        ids[ids == _eos(bench)] = space
        return Completion(ids, logprobs)

    honest = _honest(bench, leases)
    return bench.continued(leases, [[opened(rollout) for rollout in group] for group in honest])


def _eos(bench: Bench) -> int:
    return bench.workload.eos_token_ids[0]


def _fp8(bench: Bench, leases: Sequence[Lease]) -> Groups:
    bench.load(bench.policies.named("exact"))
    with _keeping_fp8(bench):
        return bench.sample(leases)


def _fp8_in_one(bench: Bench, leases: Sequence[Lease]) -> Groups:
    """Keep the cache in fp8 for the first completion of each group."""
    honest = _honest(bench, leases)
    asked = [requests_of(x, eos_token_ids=(_eos(bench),))[0] for x in leases]
    with _keeping_fp8(bench):
        firsts = bench.engine.generate(asked)
    return [
        (Rollout.of(first.tokens, first.logprobs), *group[1:])
        for first, group in zip(firsts, honest, strict=True)
    ]


def _keeping_fp8(bench: Bench) -> AbstractContextManager[None]:
    if not isinstance(bench.engine, TransformersEngine):
        raise ValueError("the fp8 cache is emulated on the transformers engine only")
    return keeping_fp8(bench.engine.model)
