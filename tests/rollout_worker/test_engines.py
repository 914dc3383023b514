"""One suite over both engines: a lease means the same tokens whoever serves it."""

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from protocol import sampling
from protocol.checks.calibration import logit_error
from protocol.constants import NANO
from protocol.environments.arithmetic import Arithmetic
from protocol.policies.manifest import HostTensor
from protocol.precision import ComputeDtype
from protocol.rollout import Lease, Rollout
from protocol.verdict import judge
from rollout_worker.engines import gumbel
from rollout_worker.engines.base import Engine, Request
from rollout_worker.engines.causal import host_tensor_of, read_weights, tensor_of
from rollout_worker.engines.registry import NAMES, open_engine
from rollout_worker.engines.vllm import VllmEngine
from rollout_worker.generate import generate_groups
from rollout_worker.replay.calibrate import workload_of
from rollout_worker.replay.measure import ReplayModel, claims_of, rows_of, stats_of
from rollout_worker.replay.vllm import VllmReplay
from rollout_worker.replay.vllm_worker import Sequences
from tests.stage.bounds import COMMITTED

MODEL = Path(__file__).parents[2] / "models" / "start"
EOS = 2


@pytest.fixture(scope="module")
def engines() -> Iterator[dict[str, Engine]]:
    """Both engines, opened once: a start of vLLM costs seconds. A replay came first: numba is loaded."""
    assert importlib.import_module("rollout_worker.replay.candidates")
    opened = {name: open_engine(name, MODEL, max_model_len=128, max_sequences=64) for name in NAMES}
    yield opened
    for engine in opened.values():
        engine.close()


@pytest.fixture(params=NAMES)
def engine(request: pytest.FixtureRequest, engines: dict[str, Engine]) -> Engine:
    """Each engine in turn, back on the starting policy."""
    chosen = engines[request.param]
    chosen.load(read_weights(MODEL / "model.safetensors"))
    return chosen


def leases(num_groups: int) -> list[Lease]:
    workload = workload_of(
        MODEL, Arithmetic({}), num_groups=num_groups, group_size=8, max_tokens=64
    )
    return list(workload.leases(salt=77))


def other_policy() -> dict[str, HostTensor]:
    """Another model: every tensor moved, the shared embedding included."""
    draw = torch.Generator().manual_seed(1)

    def moved(host: HostTensor) -> HostTensor:
        weight = tensor_of(host).float()
        noise = torch.randn(weight.shape, generator=draw)
        return host_tensor_of((weight * (1 + 0.2 * noise)).bfloat16())

    return {n: moved(t) for n, t in read_weights(MODEL / "model.safetensors").items()}


def rejected(policy: dict[str, HostTensor], work: list[tuple[Lease, tuple[Rollout, ...]]]) -> int:
    """Replay under `policy` and count the groups that break the calibrated bounds."""
    model = ReplayModel(MODEL)
    model.load(policy)
    found = [stats_of(group) for group in model.findings(work)]
    return sum(judge(stats, COMMITTED) is not None for stats in found)


def test_the_torch_stream_is_the_reference_stream() -> None:
    seeds = torch.tensor([0, 1, 2**63 - 1, 2**32 + 7, 81985529216486895])
    positions = torch.tensor([0, 5, 77, 2**31 - 1, 3])
    expected = sampling.random_bits(
        seeds.numpy()[:, None], positions.numpy()[:, None], np.arange(500)[None]
    )
    bits = gumbel.random_bits(seeds, positions, 500).numpy().view(np.uint32)
    assert (bits == expected).all()
    exact = sampling.gumbel(
        seeds.numpy()[:, None], positions.numpy()[:, None], np.arange(500)[None]
    )
    error = np.abs(gumbel.gumbel(seeds, positions, 500).numpy() - exact)
    assert error[exact > 0].max() < 2e-6  # what can win
    assert error.max() < 1e-4  # what u near 1 makes lose


def test_a_lease_gives_the_same_tokens_on_both_engines(engines: dict[str, Engine]) -> None:
    start = read_weights(MODEL / "model.safetensors")
    groups = []
    for engine in engines.values():
        engine.load(start)
        groups.append(generate_groups(engine, leases(32), eos_token_ids=(EOS,)))
    assert tokens_of(groups[0]) == tokens_of(groups[1])


def tokens_of(groups: Sequence[Sequence[Rollout]]) -> list[list[bytes]]:
    return [[rollout.tokens for rollout in group] for group in groups]


def test_honest_work_matches_every_token_and_claims_what_a_replay_finds(engine: Engine) -> None:
    work = list(
        zip(leases(64), generate_groups(engine, leases(64), eos_token_ids=(EOS,)), strict=True)
    )
    assert rejected(read_weights(MODEL / "model.safetensors"), work) == 0
    stats = [stats_of(group) for group in ReplayModel(MODEL).findings(work)]
    num_tokens = sum(group.num_tokens for group in stats)
    assert sum(group.num_wrong for group in stats) == 0
    assert sum(group.gap_nanonats for group in stats) < 1e-5 * num_tokens * NANO


@pytest.mark.parametrize("dtype", [ComputeDtype.FLOAT16, ComputeDtype.BFLOAT16])
def test_the_sixteen_bit_dtypes_stay_within_what_their_rounding_explains(
    dtype: ComputeDtype,
) -> None:
    """Honest claims differ by at most the floor of the gap, on average, and ties nearer are lost."""
    engine = open_engine("transformers", MODEL, dtype=dtype, max_model_len=128, max_sequences=64)
    work = list(
        zip(leases(32), generate_groups(engine, leases(32), eos_token_ids=(EOS,)), strict=True)
    )
    stats = [stats_of(group) for group in ReplayModel(MODEL, dtype=dtype).findings(work)]
    num_tokens = sum(group.num_tokens for group in stats)
    assert sum(group.gap_nanonats for group in stats) < logit_error(dtype) * num_tokens * NANO
    assert sum(group.margin_nanonats for group in stats) < logit_error(dtype) * num_tokens * NANO
    assert sum(group.num_wrong for group in stats) < logit_error(dtype) * num_tokens
    engine.close()


def test_logprobs_are_those_of_the_softmax_without_the_noise(engine: Engine) -> None:
    model = ReplayModel(MODEL)
    work = list(
        zip(leases(32), generate_groups(engine, leases(32), eos_token_ids=(EOS,)), strict=True)
    )
    gaps = np.concatenate([f.gaps for group in model.findings(work) for f in group])
    assert gaps.mean() < 1e-5
    surprisals = np.concatenate([r.worker_logprobs() for _, group in work for r in group])
    assert surprisals.max() <= 0


def test_reloading_changes_the_policy_and_back_restores_it(engine: Engine) -> None:
    start, other = read_weights(MODEL / "model.safetensors"), other_policy()
    first = generate_groups(engine, leases(16), eos_token_ids=(EOS,))
    engine.load(other)
    changed = generate_groups(engine, leases(16), eos_token_ids=(EOS,))
    assert changed != first
    assert rejected(other, list(zip(leases(16), changed, strict=True))) == 0
    assert rejected(start, list(zip(leases(16), changed, strict=True))) == 16
    engine.load(start)
    assert generate_groups(engine, leases(16), eos_token_ids=(EOS,)) == first


def test_a_policy_of_another_model_is_refused_and_the_old_one_stays(engine: Engine) -> None:
    before = generate_groups(engine, leases(4), eos_token_ids=(EOS,))
    weights = other_policy()
    norm = weights.pop("model.norm.weight")
    with pytest.raises(ValueError, match=r"model\.norm\.weight"):
        engine.load(weights)
    shorter = replace(norm, shape=(64,), bits=norm.bits[:64])
    with pytest.raises(ValueError, match=r"model\.norm\.weight"):
        engine.load({**weights, "model.norm.weight": shorter})
    assert generate_groups(engine, leases(4), eos_token_ids=(EOS,)) == before


def test_prompts_of_all_lengths_end_right(engine: Engine) -> None:
    draw = np.random.default_rng(3)
    requests = [
        Request(
            prompt=tuple(int(t) for t in draw.integers(4, 100, size=length)),
            seed=int(draw.integers(2**62)),
            temperature=1.0,
            max_tokens=budget,
            eos_token_ids=(EOS,),
        )
        for length in (1, 2, 7, 40, 100)
        for budget in (1, 3, 28)
        for _ in range(4)
    ]
    for request, completion in zip(requests, engine.generate(requests), strict=True):
        tokens = completion.tokens.tolist()
        assert len(completion.logprobs) == len(tokens)
        assert EOS not in tokens[:-1]
        assert len(tokens) == request.max_tokens or tokens[-1] == EOS
        assert 1 <= len(tokens) <= request.max_tokens
    # A token's place decides its noise, whatever its neighbours: alone is as in company.
    alone = [engine.generate([request])[0].tokens.tolist() for request in requests[::4]]
    together = [done.tokens.tolist() for done in engine.generate(requests)[::4]]
    assert alone == together


def test_more_requests_than_fit_at_once_keep_their_order(engine: Engine) -> None:
    many = leases(24)  # 192 rollouts on an engine of 64
    whole = generate_groups(engine, many, eos_token_ids=(EOS,))
    halves = [
        group
        for part in (many[:12], many[12:])
        for group in generate_groups(engine, part, eos_token_ids=(EOS,))
    ]
    assert tokens_of(whole) == tokens_of(halves)


def test_what_does_not_fit_is_refused(engine: Engine) -> None:
    too_long = Request(
        prompt=(5,) * 100, seed=1, temperature=1.0, max_tokens=29, eos_token_ids=(EOS,)
    )
    with pytest.raises(ValueError, match="max_model_len 128"):
        engine.generate([too_long])
    assert len(engine.generate([replace(too_long, max_tokens=28)])) == 1


@pytest.fixture
def vllm_replay(engines: dict[str, Engine]) -> VllmReplay:
    """A replay on the vLLM engine, which has sampled and cached before, with the starting policy."""
    engine = engines["vllm"]
    assert isinstance(engine, VllmEngine)
    replay = VllmReplay(engine, MODEL)
    replay.load(read_weights(MODEL / "model.safetensors"))
    return replay


def test_vllm_replays_what_either_engine_sampled(engine: Engine, vllm_replay: VllmReplay) -> None:
    work = list(
        zip(leases(48), generate_groups(engine, leases(48), eos_token_ids=(EOS,)), strict=True)
    )
    again = vllm_replay.findings(work)  # siblings and their prompts are in the prefix cache now
    stats = [stats_of(group) for group in vllm_replay.findings(work)]
    assert [stats_of(group) for group in again] == stats
    assert [judge(group, COMMITTED) for group in stats] == [None] * 48
    assert sum(group.gap_nanonats for group in stats) < 1e-5 * NANO * sum(
        group.num_tokens for group in stats
    )
    plain = [stats_of(group) for group in ReplayModel(MODEL).findings(work)]
    assert [group.num_tokens for group in stats] == [group.num_tokens for group in plain]
    assert [group.num_matched for group in stats] == [group.num_matched for group in plain]


def test_vllm_names_the_false_token_that_transformers_does(vllm_replay: VllmReplay) -> None:
    [lease] = leases(1)
    tokens = np.array([9, 33, 50, 70, EOS], dtype=np.uint32)
    group = [Rollout.of(tokens[: 1 + i % 5], np.full(1 + i % 5, -1.0)) for i in range(8)]
    sides = [replay.findings([(lease, group)])[0] for replay in (vllm_replay, ReplayModel(MODEL))]
    for ours, theirs in zip(*sides, strict=True):
        assert ours.expected.tolist() == theirs.expected.tolist()
        assert (
            np.abs(ours.margins - theirs.margins).max() < 1e-3
        )  # nonsense is far from honest text
        assert (ours.margins > 0).tolist() == (ours.expected != ours.claimed).tolist()


def test_vllm_replays_sequences_that_it_cuts_between_steps(
    engines: dict[str, Engine], vllm_replay: VllmReplay
) -> None:
    draw = np.random.default_rng(6)
    work = [
        (lease, [Rollout.of(draw.integers(4, 100, size=110), np.full(110, -1.0)) for _ in range(8)])
        for lease in leases(8)
    ]
    engine = engines["vllm"]
    assert isinstance(engine, VllmEngine)
    most = engine.with_llm(
        lambda llm: llm.llm_engine.vllm_config.scheduler_config.max_num_batched_tokens
    )
    assert most < 64 * 110  # of the 64 sequences of a step, which also need their prompts
    ours, theirs = (
        np.concatenate([found.expected for group in r.findings(work) for found in group])
        for r in (vllm_replay, ReplayModel(MODEL))
    )
    assert len(ours) == 8 * 8 * 110
    assert (ours == theirs).mean() > 0.999


def test_no_buffer_changes_what_vllm_finds(
    engines: dict[str, Engine], vllm_replay: VllmReplay
) -> None:
    engine = engines["vllm"]
    assert isinstance(engine, VllmEngine)
    work = list(
        zip(leases(2), generate_groups(engine, leases(2), eos_token_ids=(EOS,)), strict=True)
    )
    small = VllmReplay(engine, MODEL, buffer_bytes=8_192)  # one position at a time
    sides = [[f for group in r.findings(work) for f in group] for r in (vllm_replay, small)]
    for ours, theirs in zip(*sides, strict=True):
        assert ours.expected.tolist() == theirs.expected.tolist()
        assert np.abs(ours.margins - theirs.margins).max() < 1e-5
        assert np.abs(ours.gaps - theirs.gaps).max() < 1e-4  # low bits of a head on one position


def test_vllm_replays_no_position_that_it_did_not_compute(
    engines: dict[str, Engine], vllm_replay: VllmReplay
) -> None:
    engine = engines["vllm"]
    assert isinstance(engine, VllmEngine)
    rows = rows_of(
        [(leases(1)[0], generate_groups(engine, leases(1), eos_token_ids=(EOS,))[0])], 128
    )

    def skipping(llm: Any) -> None:
        sequences = Sequences(
            first_request=llm.request_counter.counter,
            prompt_lengths=[len(row.completed.prompt) for row in rows],
            lengths=[len(row.completed.tokens) for row in rows],
            claims=claims_of(rows, torch.device("cpu")),
        )
        llm.collective_rpc("start_replay", args=(sequences, 1 << 20))
        try:
            llm.collective_rpc("replayed")
        finally:
            llm.collective_rpc("end_replay")

    with pytest.raises(RuntimeError, match="no hidden states for"):
        engine.with_llm(skipping)
    longest = Rollout.of(np.full(125, 5), np.full(125, -1.0))
    with pytest.raises(ValueError, match="do not fit max_model_len 128"):
        vllm_replay.findings([(leases(1)[0], [longest] * 8)])


def test_tempered_sampling_is_the_same_on_both_engines_and_exact(
    engines: dict[str, Engine],
) -> None:
    start = read_weights(MODEL / "model.safetensors")
    tempered = [
        lease.model_copy(update={"temperature_millionths": 900_000}) for lease in leases(32)
    ]
    sides = []
    for engine in engines.values():
        engine.load(start)
        sides.append(generate_groups(engine, tempered, eos_token_ids=(EOS,)))
    assert tokens_of(sides[0]) == tokens_of(sides[1])
    assert tokens_of(sides[0]) != tokens_of(
        generate_groups(engine, leases(32), eos_token_ids=(EOS,))
    )
    ours, theirs = (
        np.concatenate([r.worker_logprobs() for group in side for r in group]) for side in sides
    )
    assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-9)
    for side in sides:
        assert rejected(start, list(zip(tempered, side, strict=True))) == 0
        at_one = list(zip(leases(32), side, strict=True))
        assert rejected(start, at_one) == 32  # the temperature is in the claims, and it is checked


def test_vllm_on_a_gpu_refuses_what_it_cannot_claim_exactly() -> None:
    with pytest.raises(ValueError, match=r"float32.*set engine\.name to transformers") as refused:
        open_engine("vllm", MODEL, device="cuda", dtype=ComputeDtype.FLOAT32, max_model_len=128)
    assert "\n" not in str(refused.value)


def test_an_engine_starts_no_process_that_could_outlive_it(engines: dict[str, Engine]) -> None:
    assert engines["vllm"].generate([]) == []
    names = [" ".join(child.cmdline()) for child in psutil.Process().children(recursive=True)]
    # Python's own tracker, which any test may have started, ends with the process that it tracks for.
    others = [name for name in names if "resource_tracker" not in name]
    assert not [name for name in others if "vllm" in name.lower() or "multiprocessing" in name]


def test_an_unknown_engine_is_named() -> None:
    with pytest.raises(ValueError, match="'llama' is unknown; choose one of vllm, transformers"):
        open_engine("llama", MODEL, max_model_len=128)
