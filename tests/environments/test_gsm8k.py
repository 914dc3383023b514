"""Golden rewards of word problems; the real test set where it is at hand."""

import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice, pairwise
from pathlib import Path
from threading import Thread

import huggingface_hub
import pyarrow
import pytest
from pyarrow import parquet

import protocol.environments.gsm8k as gsm8k_module
from protocol.environments.base import FULL_SCORE, Problem
from protocol.environments.gsm8k import MOST_BYTES, MOST_ROWS, Gsm8k
from protocol.errors import Malformed, NotFound

REAL = Path(
    os.environ.get("ROLLCALL_GSM8K", Path(__file__).parents[3] / "shared/data/gsm8k/test.jsonl")
)
PROBLEM = Problem("", "1800", "")


def written(path: Path, *answers: str) -> str:
    path.write_text("".join(json.dumps({"question": "?", "answer": a}) + "\n" for a in answers))
    return str(path)


@pytest.fixture(scope="module")
def gsm8k(tmp_path_factory: pytest.TempPathFactory) -> Gsm8k:
    return Gsm8k({"path": written(tmp_path_factory.mktemp("gsm8k") / "rows", "so\n#### 1,800")})


@pytest.mark.parametrize(
    ("completion", "score"),
    [
        ("#### 1800", FULL_SCORE),
        ("#### $1,800.00.", FULL_SCORE),
        ("It is \\boxed{1800}.", FULL_SCORE),
        ("#### 3600/2", FULL_SCORE),
        ("\\boxed{\\frac{3600}{2}}", FULL_SCORE),
        ("#### 18 * 10^2", FULL_SCORE),
        ("1800", 0),
        ("#### 1801", 0),
        ("#### 1800 or 1801", 0),
        ("#### 1800 #### 1801", 0),
        ("#### 180000%%", 0),
        ("#### 1800 $ $ 17", 0),
        ("#### about", 0),
    ],
)
def test_golden_rewards(gsm8k: Gsm8k, completion: str, score: int) -> None:
    assert gsm8k.score(PROBLEM, completion) == score


def test_an_exponent_bomb_is_wrong_at_once(gsm8k: Gsm8k) -> None:
    for bomb in ("#### 10^{999999999}", "#### 9^{9^{9^{9}}}", "#### 1800 = 9^{9^{9^{9}}}"):
        assert gsm8k.score(PROBLEM, bomb) == 0


def test_the_same_rows_have_the_same_digest_wherever_they_lie(tmp_path: Path) -> None:
    first = Gsm8k({"path": written(tmp_path / "a", "#### 1", "#### 2")})
    same = Gsm8k({"path": written(tmp_path / "b", "#### 1", "#### 2")})
    swapped = Gsm8k({"path": written(tmp_path / "c", "#### 2", "#### 1")})
    assert first.digest == same.digest
    assert first.digest != swapped.digest


def test_a_row_without_a_number_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(Malformed, match="unclear"):
        Gsm8k({"path": written(tmp_path / "rows", "#### unclear")})


UNREADABLE = [
    "{",
    "[]",
    '{"question": "?"}',
    "7",
    "[" * 2_000,
    '{"question": "\\ud800", "answer": ""}',
]


@pytest.mark.parametrize("line", UNREADABLE, ids=lambda line: line[:20])
def test_a_line_that_is_no_row_is_refused_with_its_number(tmp_path: Path, line: str) -> None:
    path = written(tmp_path / "rows", "#### 1")
    with Path(path).open("a") as file:
        file.write(line)
    with pytest.raises(Malformed, match="line 2"):
        Gsm8k({"path": path})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="absent"):
        Gsm8k({"path": str(tmp_path / "absent")})


def test_a_file_costs_its_readers_no_more_than_its_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator names it, and it may say that it has no size, as those of /proc do."""
    path = written(tmp_path / "rows", "#### 1")
    monkeypatch.setattr("protocol.environments.gsm8k.MOST_BYTES", Path(path).stat().st_size)
    assert Gsm8k({"path": path}).num_problems == 1
    with Path(path).open("a") as file:
        file.write("\n")
    with pytest.raises(Malformed, match="has more than"):
        Gsm8k({"path": path})
    with monkeypatch.context() as off:
        off.setattr("protocol.environments.gsm8k.MOST_BYTES", 1 << 20)
        assert Gsm8k({"path": path}).num_problems == 1, "the whole file is read"
    os.mkfifo(tmp_path / "endless")
    with pytest.raises(NotFound, match="is no file"):
        Gsm8k({"path": str(tmp_path / "endless")})


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "rows").write_bytes(b"\xff")
    with pytest.raises(Malformed, match="no UTF-8 text at byte 0"):
        Gsm8k({"path": str(tmp_path / "rows")})


def test_a_line_separator_inside_a_question_does_not_split_it(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    row = json.dumps({"question": "a\u2028b", "answer": "#### 1"}, ensure_ascii=False)
    path.write_text(row + "\n", encoding="utf-8")
    assert Gsm8k({"path": str(path)}).problem(0).prompt.startswith("a\u2028b")


@pytest.mark.parametrize("revision", ["", "main", "v1.0", "a" * 39, "A" * 40])
def test_a_download_needs_a_full_commit(revision: str) -> None:
    with pytest.raises(Malformed, match="full commit"):
        Gsm8k({"revision": revision})


@pytest.mark.skipif(not REAL.exists(), reason=f"{REAL} is absent; set ROLLCALL_GSM8K to the file")
def test_every_real_solution_scores_full_and_its_neighbours_nothing() -> None:
    gsm8k = Gsm8k({"path": str(REAL)})
    problems = [gsm8k.problem(index) for index in range(gsm8k.num_problems or 0)]
    assert len(problems) == 1319
    for problem, neighbour in pairwise(problems):
        assert gsm8k.score(problem, problem.solution) == FULL_SCORE
        if problem.gold != neighbour.gold:
            assert gsm8k.score(problem, neighbour.solution) == 0


DRESSES = (
    *(
        "#### **{}**",
        "#### {} dollars",
        "#### ${}$",
        "so \\boxed{{{}}}",
        "####\n{}",
        "#### Answer: {}",
    ),
    *("#### The answer is {}.", "#### <answer>{}</answer>", "#### {} ####", "#### {} people\n####"),
    *("#### US${}", "#### `{}`", "#### x = {}", "#### \\text{{{} km}}", "#### {} (in total)"),
    *("#### | Total | {} |", "#### ***{}*** \U0001f389", "#### {} kg (1 stone)", "#### <b>{}</b>"),
    *("#### Therefore, she has {} left.", "#### The sum of 3 and 4 is {}", "#### 0 + {0} = {0}"),
)


@pytest.mark.skipif(not REAL.exists(), reason=f"{REAL} is absent; set ROLLCALL_GSM8K to the file")
def test_every_real_answer_scores_full_in_every_dress() -> None:
    gsm8k = Gsm8k({"path": str(REAL)})
    for gold in {int(gsm8k.problem(index).gold) for index in range(gsm8k.num_problems or 0)}:
        problem = Problem("", str(gold), "")
        for number in (str(gold), f"{gold:,}", f"{gold:,}".replace(",", "\u202f"), f"{gold}.00"):
            for dress in DRESSES:
                assert gsm8k.score(problem, dress.format(number)) == FULL_SCORE, (number, dress)
        for dress in DRESSES:
            assert gsm8k.score(problem, dress.format(gold + 1)) == 0
            assert gsm8k.score(problem, dress.format(f"{gold} or {gold + 1}")) == 0
            assert gsm8k.score(problem, dress.format(f"{gold} {gold + 1}")) == 0


COMMIT = "a" * 40


def parquet_of(path: Path, rows: int, text: str) -> Path:
    """Write rows that all have one text: a few kilobytes, whatever their number."""
    answers = pyarrow.array([0] * rows, pyarrow.int32())
    one = pyarrow.DictionaryArray.from_arrays(answers, pyarrow.array([text]))
    table = pyarrow.table({"question": one, "answer": one})
    parquet.write_table(table, path, compression="zstd", dictionary_pagesize_limit=1 << 30)
    return path


def test_rows_of_a_hub_are_the_rows_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = parquet_of(tmp_path / "rows.parquet", 3, "so\n#### 1")
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: str(there))
    lines = json.dumps({"question": "so\n#### 1", "answer": "so\n#### 1"}) + "\n"
    (tmp_path / "rows.jsonl").write_text(3 * lines)
    same = Gsm8k({"path": str(tmp_path / "rows.jsonl")})
    assert Gsm8k({"revision": COMMIT}).digest == same.digest


BOMBS = {
    "a long text in many rows": (1000, "#### 1".rjust(1 << 20)),
    "many rows": (MOST_ROWS + 1, "#### 1"),
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_a_kilobyte_of_a_hub_costs_its_readers_no_more_than_a_file_may(
    bomb: tuple[int, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = parquet_of(tmp_path / "rows.parquet", *bomb)
    assert there.stat().st_size < 1 << 16
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: str(there))
    with pytest.raises(Malformed, match=f"{MOST_ROWS} rows|{MOST_BYTES} bytes"):
        Gsm8k({"revision": COMMIT})
    with monkeypatch.context() as off:
        for limit in ("MOST_BYTES", "MOST_ROWS"):
            off.setattr(gsm8k_module, limit, 1 << 60)
        read = list(islice(gsm8k_module._parquet_rows(there), 200))
    assert sum(len(question) for question, _ in read) == 200 * len(bomb[1])


@pytest.mark.parametrize("columns", [{"question": [1]}, {"question": ["?"], "answer": [None]}])
def test_a_table_of_other_things_than_texts_is_refused(
    columns: dict[str, list[object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet.write_table(pyarrow.table(columns), tmp_path / "rows.parquet")
    (tmp_path / "none.parquet").write_bytes(b"PAR1")
    for name in ("rows.parquet", "none.parquet"):
        there = str(tmp_path / name)
        monkeypatch.setattr(
            huggingface_hub, "try_to_load_from_cache", lambda *_, there=there, **__: there
        )
        with pytest.raises(Malformed):
            Gsm8k({"revision": COMMIT})


@pytest.mark.parametrize("size", [64, 1 << 40])
def test_a_hubs_file_is_fetched_only_where_it_is_small(size: int, tmp_path: Path) -> None:
    """By a hub on this machine; a data set there has as many bytes as its owner likes."""
    asked: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        def answer(self) -> None:
            asked.extend([self.command] * self.path.endswith(".parquet"))
            self.send_response(200)
            heads = {"ETag": '"x"', "X-Repo-Commit": COMMIT, "Content-Length": str(size)}
            for name, value in heads.items():
                self.send_header(name, value)
            self.end_headers()

        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.answer()
            self.wfile.write(bytes(64))

        def log_message(self, *_: object) -> None:
            pass

    program = f"from protocol.environments.gsm8k import Gsm8k; Gsm8k({{'revision': '{COMMIT}'}})"
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        Thread(target=server.serve_forever).start()
        env = os.environ | {
            "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
            "HF_HOME": str(tmp_path),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
        }
        done = subprocess.run(
            [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=False
        )
        server.shutdown()
    if size == 64:
        assert "GET" in asked and "holds no questions and answers" in done.stderr
    else:
        assert asked == ["HEAD"], done.stderr
        assert f"has {size} bytes, at most {MOST_BYTES} are read" in done.stderr
