"""Nothing is escrowed that no role can run: what a launch finds before it sends anything.

Folders and rows are as people have them. What can be used is used, and the rest is a line with its remedy.
"""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from eth_account import Account
from safetensors.torch import save_file

from client.model_folder import end_tokens, read_policy
from protocol.environments.gsm8k import DATA_VARIABLE, Gsm8k
from protocol.environments.registry import environment
from protocol.errors import NotFound
from protocol.policies.manifest import entries, policy_digest
from protocol.precision import ComputeDtype
from protocol.run import RunSpec
from protocol.user_error import UserError
from rollcall.cli.launch import put_on_chain
from rollcall.cli.launch_config import LaunchConfig
from rollcall.cli.spec import RunPlan, spec_of
from rollcall.rehearsal import rehearse as rehearsing
from rollcall.rehearsal.folder import Candidate, look_at_folder
from rollcall.rehearsal.rehearse import rehearse
from tests.stage.bounds import thresholds
from tests.stage.models import embedding, rewritten, tiny, with_tensors
from tests.stage.terms import MODEL
from trainer.evaluate import held_out

WHO = "0x" + "11" * 20


def bounded(folder: Path) -> Path:
    """Write bounds for the folder's policy, as a calibration would."""
    digest = policy_digest(entries(read_policy(folder)))
    law = thresholds(digest, match=0.99, margin=0.01, gap=0.05)
    (folder / "thresholds.json").write_text(law.model_dump_json())
    return folder


def word_problems(path: Path, count: int = 40, words: int = 3) -> Path:
    """Write rows of sums that the starting model's tokenizer knows the characters of."""
    rows = [
        {"question": "9+" * words + f"{i}=?", "answer": f"{i}\n#### {9 * words + i}"}
        for i in range(count)
    ]
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def plan(**changes: Any) -> RunPlan:
    return RunPlan.model_validate({"model": MODEL, **changes})


def of_rows(path: Path, **changes: Any) -> RunPlan:
    rows = {"environment": "gsm8k", "environment_config": {"path": str(path)}}
    return plan(**{**rows, "max_prompt_tokens": 96, "num_held_out": 8, **changes})


def spec(chosen: RunPlan) -> RunSpec:
    return spec_of(chosen, orchestrator=WHO, trainer=WHO)


def told(chosen: RunPlan) -> list[str]:
    said: list[str] = []
    rehearse(chosen, spec(chosen), said.append)
    return said


def complaints(folder: Path, **changes: Any) -> list[str]:
    asked: dict[str, Any] = {"max_prompt_tokens": 32, "max_tokens": 32, **changes}
    found = list(look_at_folder(Candidate(folder, ComputeDtype.FLOAT32, **asked)))
    assert all(finding.is_fatal for finding in found)
    return [finding.text for finding in found]


def test_the_demos_own_plan_has_nothing_to_be_said_of_it() -> None:
    assert told(plan()) == []


# ---------------------------------------------------------------- money


def test_what_is_refused_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A biased head is taken by nobody; with the rehearsal off, the launch goes on to the chain."""
    folder = tiny(tmp_path / "phi", "phi")
    config = LaunchConfig.model_validate(
        {
            "rpc_url": "http://127.0.0.1:9",
            "deployment": tmp_path / "deployment.json",
            "orchestrator": "http://market",
            "orchestrator_address": WHO,
            "trainer_address": WHO,
            "verifiers": (WHO,),
            "plan": plan(model=bounded(folder)),
        }
    )
    key = bytes(Account.create().key)
    with pytest.raises(UserError, match="models of model_type 'phi' are not known"):
        put_on_chain(config, key, lambda _: None)

    def sent(*_: object) -> None:
        raise ConnectionError("money moves")

    monkeypatch.setattr("rollcall.demo.deploying.ensure_deployment", sent)
    for room in ("rollcall.cli.spec", "rollcall.rehearsal.folder", "trainer.opening"):
        monkeypatch.setattr(f"{room}.why_unknown", lambda *_, **__: None)
    with pytest.raises(UserError, match="no trainer can open"):
        put_on_chain(config, key, lambda _: None)
    monkeypatch.setattr(rehearsing, "look_at_folder", lambda *_: [])
    with pytest.raises(ConnectionError, match="money moves"):
        put_on_chain(config, key, lambda _: None)


# ---------------------------------------------------------------- tasks


def test_rows_are_leased_as_far_as_there_are_and_the_last_ones_held_out(tmp_path: Path) -> None:
    """E1, E2: 4,294,967,296 tasks of 1,319 rows, and held-out problems beyond them all."""
    found = spec(of_rows(word_problems(tmp_path / "rows.jsonl")))
    assert (found.num_tasks, found.held_out_start, found.num_held_out) == (32, 32, 8)
    fewer = spec(of_rows(tmp_path / "rows.jsonl", num_tasks=10))
    assert (fewer.num_tasks, fewer.held_out_start) == (10, 32)


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"num_tasks": 33}, "num_tasks = 33 is more than gsm8k has .*set it to 32 or less"),
        (
            {"num_held_out": 40},
            "gsm8k has 40 rows here, and num_held_out = 40 leaves none to lease",
        ),
    ],
)
def test_more_tasks_than_rows_are_refused(
    tmp_path: Path, changes: dict[str, int], remedy: str
) -> None:
    rows = word_problems(tmp_path / "rows.jsonl")
    with pytest.raises(UserError, match=remedy):
        spec(of_rows(rows, **changes))
    assert spec(of_rows(rows, num_tasks=32))
    assert spec(of_rows(rows, num_held_out=39)).num_tasks == 1


def test_sums_without_an_end_keep_their_own_held_out_side() -> None:
    assert spec(plan()).held_out_start == spec(plan()).num_tasks == 1 << 32
    with pytest.raises(UserError, match=r"num_tasks = 4294967297 is more than arithmetic has"):
        spec(plan(num_tasks=(1 << 32) + 1))


def test_a_run_of_rows_is_evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """E2: the trainer asked for row 4294967296. Longer prompts than the run's are passed over here too."""
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path))
    rows = word_problems(tmp_path / "rows.jsonl")
    with rows.open("a") as file:
        file.write(json.dumps({"question": "9+" * 90, "answer": "#### 1"}) + "\n")
    chosen = spec(of_rows(rows))
    tokenizer = MODEL / "tokenizer.json"
    problems = held_out(chosen, tokenizer, num_problems=99, batch=4, seed=0).problems
    made = Gsm8k({"path": str(rows)})
    assert list(problems) == [made.problem(i) for i in range(33, 40)]


def test_one_spec_follows_from_the_same_rows_at_two_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E5: the path was hashed, so that every party needed the file at the operator's very path."""
    ours, theirs = (word_problems(tmp_path / name / f"{name}.jsonl") for name in ("op", "worker"))
    found = spec(of_rows(ours))
    assert found.canonical_digest() == spec(of_rows(theirs)).canonical_digest()
    assert str(tmp_path) not in found.to_json().decode()
    monkeypatch.setenv(DATA_VARIABLE, f"{tmp_path}:{tmp_path / 'worker'}")
    ours.unlink()
    assert (
        environment(found.environment, found.environment_config).digest == found.environment_digest
    )
    theirs.write_text(theirs.read_text().replace("9", "8"))
    with pytest.raises(NotFound, match=r"has the run's rows [0-9a-f]{64}: ask its operator"):
        environment(found.environment, found.environment_config)


def test_prompts_that_do_not_fit_are_told(tmp_path: Path) -> None:
    """E3: two thirds of GSM8K's prompts are longer than the default."""
    rows = word_problems(tmp_path / "rows.jsonl")
    with rows.open("a") as file:
        for words in (20, 40):
            file.write(json.dumps({"question": "9+" * words, "answer": "#### 1"}) + "\n")
    said = told(of_rows(rows, num_held_out=0))
    assert said == [
        "WARNING: 2 of 42 tasks have prompts of more than max_prompt_tokens = 96 tokens and are passed over: "
        "set it to 138 to have them"
    ]
    assert told(of_rows(rows, num_held_out=0, max_prompt_tokens=138)) == []
    with pytest.raises(UserError, match=r"40 of 40 tasks .* all there are: set it to"):
        told(of_rows(rows, num_held_out=2, max_prompt_tokens=16))


def test_completions_that_are_cut_before_their_answer_are_told(tmp_path: Path) -> None:
    """M9: half to four fifths of GSM8K's answers are longer than 256 tokens; the default is 64."""
    rows = word_problems(tmp_path / "rows.jsonl")
    [said] = told(of_rows(rows, max_tokens=8))
    assert said.startswith("WARNING: ")
    assert "reference answers have more than max_tokens = 8 tokens" in said
    assert told(of_rows(rows, max_tokens=16)) == []


def test_a_tokenizer_that_cannot_write_the_answers_is_refused(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"question": "9?", "answer": "#### ½"}) + "\n")
    rows.write_text(json.dumps({"question": "9?", "answer": "#### 9"}) + "\n")
    folder = tiny(tmp_path / "model")
    tokens = json.loads((folder / "tokenizer.json").read_text())
    tokens["model"]["vocab"].pop("#")
    tokens["model"]["merges"] = [m for m in tokens["model"].get("merges", []) if "#" not in str(m)]
    tokens["added_tokens"] = [t for t in tokens["added_tokens"] if "#" not in t["content"]]
    (folder / "tokenizer.json").write_text(json.dumps(tokens))
    with pytest.raises(UserError, match="1 of 1 right answers do not score 10000"):
        told(of_rows(rows, model=bounded(folder), num_held_out=0))


# ---------------------------------------------------------------- folders


def test_a_folder_of_every_usual_kind_is_opened_by_all(tmp_path: Path) -> None:
    assert complaints(tiny(tmp_path)) == []


@pytest.mark.parametrize(
    ("config", "generation", "ends"),
    [
        (2, None, (2,)),
        ([2, 3, 4], None, (2, 3, 4)),
        ([4, 2], 3, (2, 3, 4)),
        (..., [2], (2,)),
        (None, 5, (5,)),
    ],
)
def test_any_of_several_ends_is_an_end(
    tmp_path: Path, config: Any, generation: Any, ends: tuple[int, ...]
) -> None:
    """M1: Llama 3 and Gemma 3 name a list, and Qwen's generation_config.json another id than its config.json."""
    folder = rewritten(tiny(tmp_path), eos_token_id=config)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": generation}))
    assert end_tokens(folder) == ends
    assert complaints(folder) == []
    assert spec(plan(model=bounded(folder))).eos_token_ids == ends


@pytest.mark.parametrize("missing", [..., None, []])
def test_a_model_without_an_end_is_refused_in_a_line(tmp_path: Path, missing: Any) -> None:
    folder = rewritten(tiny(tmp_path), eos_token_id=missing)
    (folder / "generation_config.json").unlink()
    [said] = complaints(folder)
    assert said.endswith(
        "config.json names no eos_token_id: add the id of the token that ends a text, which "
        "tokenizer_config.json calls eos_token"
    )
    with pytest.raises(UserError, match="names no eos_token_id"):
        spec(plan(model=bounded(folder)))


def test_a_tied_models_copy_of_its_embedding_is_none_of_its_weights(tmp_path: Path) -> None:
    """M2: Qwen3's and Granite's files have it. Launch counted it, vLLM sampled, all others refused."""
    folder = tiny(tmp_path, tie_word_embeddings=True)
    bare = policy_digest(entries(read_policy(folder)))
    with_tensors(folder, lm_head__weight=embedding(folder))
    assert policy_digest(entries(read_policy(folder))) == bare
    assert complaints(folder) == []
    assert spec(plan(model=bounded(folder))).model_digest == bare


def test_a_head_that_is_no_copy_is_refused(tmp_path: Path) -> None:
    folder = tiny(tmp_path, tie_word_embeddings=True)
    head = embedding(folder)
    head[5, 5] = -head[5, 5]
    [said] = complaints(with_tensors(folder, lm_head__weight=head))
    assert "has lm_head.weight, which is not the copy" in said
    [said] = complaints(with_tensors(folder, lm_head__weight=head[:, :32]))
    assert "has lm_head.weight, which is not the copy" in said


def test_an_untied_head_is_a_weight(tmp_path: Path) -> None:
    assert "lm_head.weight" in read_policy(tiny(tmp_path))


def test_harmless_tensors_and_files_beside_the_weights_are_left(tmp_path: Path) -> None:
    """M8: old folders have rotary tables, and Mistral's its own file in another form."""
    folder = tiny(tmp_path)
    bare = policy_digest(entries(read_policy(folder)))
    with_tensors(folder, model__layers__0__self_attn__rotary_emb__inv_freq=torch.ones(8))
    save_file({"tok_embeddings.weight": torch.ones(2, 2)}, folder / "consolidated.safetensors")
    assert policy_digest(entries(read_policy(folder))) == bare
    assert complaints(folder) == []


def test_tensors_that_are_not_the_models_are_refused(tmp_path: Path) -> None:
    said = complaints(with_tensors(tiny(tmp_path), model__surprise=torch.ones(2)))
    assert all("cannot be trained" in one or "can open" in one for one in said)
    assert len(said) == 3  # by each role


Change = Callable[[Path], object]
UNFIT: dict[str, tuple[Change, str]] = {
    "quantised": (lambda f: rewritten(f, quantization_config={"bits": 4}), "quantization_config"),
    "longer than its positions": (
        lambda f: rewritten(f, max_position_embeddings=63),
        "63 positions",
    ),
    "with a window": (
        lambda f: rewritten(f, sliding_window=16),
        r"16 positions \(sliding_window\)",
    ),
    "without a type": (lambda f: rewritten(f, model_type=...), "models of model_type '' are not"),
    "of another vocabulary": (
        lambda f: rewritten(f, vocab_size=100),
        "they do not belong together",
    ),
    "with an end beyond it": (lambda f: rewritten(f, eos_token_id=128), "none of the 128 tokens"),
    "without weights": (
        lambda f: (f / "model.safetensors").unlink(),
        "it has no model.safetensors",
    ),
    "without a tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "it has no tokenizer.json"),
    "without anything": (shutil.rmtree, "has no config.json and"),
    "whose config is no object": (lambda f: (f / "config.json").write_text("[]"), "cannot be read"),
    "whose tokenizer is none": (
        lambda f: (f / "tokenizer.json").write_text("{}"),
        "is no tokenizer",
    ),
    "with other layers": (lambda f: rewritten(f, num_hidden_layers=3), "no trainer can open"),
}


@pytest.mark.parametrize("kind", UNFIT)
def test_an_unfit_folder_is_a_line_with_a_remedy(tmp_path: Path, kind: str) -> None:
    """M3 to M6: each was taken, or answered with a traceback."""
    change, expected = UNFIT[kind]
    folder = tiny(tmp_path)
    change(folder)
    said = complaints(folder)
    assert any(re.search(expected, one) for one in said), said
    assert not any("\n" in one for one in said)
    assert all(":" in one for one in said)
