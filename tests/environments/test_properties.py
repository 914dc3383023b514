"""What every environment must hold, whatever it asks: one suite over all of them."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from protocol.environments.base import FULL_SCORE, Config, Environment, Problem, item_seed
from protocol.environments.registry import environment, factories
from protocol.errors import Malformed, NotFound

ROOT = Path(__file__).parents[2]
HOSTILE_SECONDS = 60.0
"""A hostile string takes milliseconds; one that hangs a scorer takes for ever."""
NAMES = ("arithmetic", "base_conversion", "chain_sum", "gcd", "gsm8k")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of six word problems in GSM8K's format."""
    path = tmp_path_factory.mktemp("gsm8k") / "rows.jsonl"
    lines = [
        {
            "question": f"A hen lays {i} eggs a day. How many in {i + 2} days?",
            "answer": f"It lays {i}*{i + 2}=<<{i}*{i + 2}={i * (i + 2)}>>.\n#### {i * (i + 2):,}",
        }
        for i in range(40, 46)
    ]
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    return path


@pytest.fixture(scope="module", params=NAMES)
def subject(request: pytest.FixtureRequest, rows: Path) -> Environment:
    return environment(request.param, settings(request.param, rows))


def settings(name: str, rows: Path) -> Config:
    return {"path": str(rows)} if name == "gsm8k" else {}


def hostile_completions(gold: str) -> list[str]:
    """Return what strangers send to hang, crash, run code in or cheat a scorer; none is right."""
    nines = "9" * 10**6
    marks = [f"#{nines}", f"#### {nines}", f"\\boxed{{{nines}}}"]
    brackets = ["(" * 10**6, "#### " + "(" * 200 + "1", "\\boxed{" * 10**5, "{" * 10**6]
    code = ["#### __import__('os')._exit(1)", "#### exec(open(0).read())", "#### $(sleep 99)"]
    digits = ["#### ٣", "#### ²", "#### " + "".join(chr(0x1D7CE + int(d)) for d in "12"), "#٣"]
    nulls = ["\0" * 10**6, "#\0", "#### \0", "#### 1\0", "\ud800", "#### \ud800", "\u202e#### 1"]
    floats = ["#### nan", "#### inf", "#### 1e999999999", "#### 1_0", "#### 0x10", "#### --1"]
    near = [
        f"#{gold}#{gold}1",
        f"#### {gold}\n#### 1{gold}",
        f"#### {gold} or 1{gold}",
        gold * 10**5,
    ]
    return ["", "#", "####", "#" * 10**6, *marks, *brackets, *code, *digits, *nulls, *floats, *near]


def test_the_suite_covers_every_environment() -> None:
    assert set(NAMES) == set(factories())


def test_its_own_solution_scores_full_and_scoring_is_repeatable(subject: Environment) -> None:
    for index in range(subject.num_problems or 200):
        problem = subject.problem(index)
        assert subject.score(problem, problem.solution) == FULL_SCORE
        assert subject.score(problem, problem.solution) == FULL_SCORE
        assert subject.problem(index) == problem


def test_garbage_and_other_problems_solutions_score_nothing(subject: Environment) -> None:
    problems = [subject.problem(index) for index in range(subject.num_problems or 50)]
    for problem in problems:
        others = [other.solution for other in problems if other.gold != problem.gold]
        for completion in ["lorem ipsum", problem.prompt, "#### 0.123", *others]:
            assert subject.score(problem, completion) == 0


def test_hostile_strings_neither_raise_nor_hang_nor_pay(subject: Environment) -> None:
    problem = subject.problem(3)
    for completion in hostile_completions(problem.gold):
        started = time.perf_counter()
        score = subject.score(problem, completion)
        assert score == 0, completion[:40]
        assert time.perf_counter() - started < HOSTILE_SECONDS, completion[:40]


def test_a_list_of_all_guesses_is_paid_by_a_search_but_not_by_us(subject: Environment) -> None:
    problem = subject.problem(1)
    guesses = " ".join(f"#{guess} #### {guess}\n" for guess in [problem.gold, "1", "0"])
    assert problem.gold in guesses
    assert subject.score(problem, guesses) == 0


def test_a_digest_is_32_bytes_and_follows_name_settings_and_data(rows: Path) -> None:
    first = [environment(name, settings(name, rows)).digest for name in NAMES]
    again = [environment(name, settings(name, rows)).digest for name in NAMES]
    assert first == again
    assert len(set(first)) == len(NAMES)
    assert {len(digest) for digest in first} == {32}
    assert environment("arithmetic", {"seed": 1}).digest not in first
    fewer = rows.with_name("fewer.jsonl")
    fewer.write_text(rows.read_text().split("\n", 1)[1])
    assert environment("gsm8k", {"path": str(fewer)}).digest not in first


def test_processes_with_different_hash_seeds_agree(rows: Path) -> None:
    outputs = [_described_in_a_process(hash_seed, rows) for hash_seed in ("0", "4321")]
    assert outputs[0]["hash"] != outputs[1]["hash"], "the processes must differ to compare them"
    assert outputs[0]["environments"] == outputs[1]["environments"]
    assert set(outputs[0]["environments"]) == set(NAMES)


DESCRIBE = """
import json, sys
from protocol.environments.registry import environment
described = {}
for name, settings in json.loads(sys.argv[1]).items():
    subject = environment(name, settings)
    problems = [subject.problem(index) for index in range(6)]
    scores = [subject.score(p, s) for p in problems for s in (p.solution, "#### 6*8", "#1")]
    described[name] = [subject.digest.hex(), [repr(p) for p in problems], repr(scores)]
print(json.dumps({"hash": hash("rollcall"), "environments": described}))
"""


def _described_in_a_process(hash_seed: str, rows: Path) -> dict[str, dict[str, object]]:
    arguments = json.dumps({name: settings(name, rows) for name in NAMES})
    process = subprocess.run(
        [sys.executable, "-c", DESCRIBE, arguments],
        env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=True,
    )
    described: dict[str, dict[str, object]] = json.loads(process.stdout)
    return described


def test_item_seeds_never_meet_across_names_settings_and_indices() -> None:
    configs: list[Config] = [{}, {"seed": 0}, {"seed": 1}, {"seed": "1"}, {"seed": 10}]
    seeds = [
        item_seed(name, config, index)
        for name in ("a", "aa", "b")
        for config in configs
        for index in [*range(50), 2**32, 2**63 - 1]
    ]
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "gsm8k"])
def test_neighbouring_seeds_share_no_run_of_problems(name: str) -> None:
    def prompts(seed: int) -> list[str]:
        return [environment(name, {"seed": seed}).problem(index).prompt for index in range(30)]

    assert sum(a == b for a, b in zip(prompts(7)[1:], prompts(8), strict=False)) <= 1
    assert sum(a == b for a, b in zip(prompts(7), prompts(8)[1:], strict=False)) <= 1


@pytest.mark.parametrize("index", [-1, 2**63])
def test_an_index_outside_its_range_is_refused(subject: Environment, index: int) -> None:
    with pytest.raises(IndexError, match=str(index)):
        subject.problem(index)


def test_the_last_index_is_a_problem(subject: Environment) -> None:
    assert isinstance(subject.problem((subject.num_problems or 2**63) - 1), Problem)


def test_a_finite_environment_ends_where_it_says(subject: Environment) -> None:
    if subject.num_problems is not None:
        with pytest.raises(IndexError):
            subject.problem(subject.num_problems)


def test_unknown_names_and_settings_are_refused_with_what_is_known() -> None:
    with pytest.raises(NotFound, match="arithmetic, base_conversion"):
        environment("sudoku", {})
    for name in NAMES:
        with pytest.raises(Malformed, match="unknown settings"):
            environment(name, {"sede": 1})
