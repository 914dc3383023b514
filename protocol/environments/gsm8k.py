"""GSM8K word problems (arXiv:2110.14168) from a local file or a pinned data set.

An answer is compared by its value, and arithmetic as `36/2` is an answer too. The digest covers the rows themselves, so a file and a download of the same rows
are the same environment. Left out: judging the reasoning before the answer.
"""

import json
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from protocol.canonical import content_digest, encode
from protocol.environments import answers
from protocol.environments.answers import ANSWER_LINE, INSTRUCTION, is_number
from protocol.environments.base import (
    FULL_SCORE,
    Config,
    Problem,
    environment_digest,
    with_defaults,
)
from protocol.environments.numerals import number
from protocol.errors import Malformed, NotFound

NAME = "gsm8k"
DEFAULTS: Config = {
    "path": "",
    "rows": "",
    "dataset": "openai/gsm8k",
    "revision": "",
    "split": "train",
}
Rows = list[tuple[str, str]]
MOST_BYTES = 64 << 20
"""An operator names the rows, and every party of its run reads them; the real ones have 5 MB."""
MOST_ROWS = 1 << 20
"""An empty one costs a hundred bytes as well; the real ones are 7,473."""
ROWS_AT_A_TIME = 256
DATA_VARIABLE = "ROLLCALL_DATA"
"""Folders in which each party keeps the files of rows that runs name by digest; else the one it runs in."""


class Gsm8k:
    """Rows of `path`, a JSONL file; of whichever file has the digest `rows`; or of `dataset` at the commit `revision`."""

    def __init__(self, config: Config) -> None:
        settings = {key: str(value) for key, value in with_defaults(config, DEFAULTS).items()}
        if settings["path"]:
            source = settings["path"]
            rows = _file_rows(Path(source))
        elif settings["rows"]:
            source = str(_file_named(settings["rows"]))
            rows = _file_rows(Path(source))
        else:
            source = str(_hub_file(settings["dataset"], settings["revision"], settings["split"]))
            rows = _parquet_rows(Path(source))
        self._rows = _bounded(rows, source)
        is_local = settings["path"] or settings["rows"]
        self._agreed = {"rows": _digest(self._rows).hex()} if is_local else config
        self._golds = [_gold(answer) for _, answer in self._rows]
        self._digest = environment_digest(
            NAME,
            {},
            sources=(__file__, *answers.SOURCES),
            extra=_digest(self._rows),
        )

    @property
    def name(self) -> str:
        return NAME

    @property
    def digest(self) -> bytes:
        return self._digest

    @property
    def agreed_config(self) -> Config:
        return self._agreed

    @property
    def num_problems(self) -> int | None:
        return len(self._rows)

    def problem(self, index: int) -> Problem:
        if not 0 <= index < len(self._rows):
            raise IndexError(f"index {index} is outside the {len(self._rows)} rows")
        question, solution = self._rows[index]
        return Problem(f"{question}\n{INSTRUCTION}\n", self._golds[index], solution)

    def score(self, problem: Problem, completion: str) -> int:
        return FULL_SCORE if is_number(completion, Fraction(problem.gold), expressions=True) else 0


def _gold(answer: str) -> str:
    gold = number(answer.rpartition(ANSWER_LINE)[2].strip())
    if gold is None:
        raise Malformed(f"row ends in {answer[-40:]!r}; it must end in '{ANSWER_LINE} <number>'")
    return str(gold)


def _bounded(rows: Iterator[tuple[str, str]], source: str) -> Rows:
    """Collect rows while there is room for them."""
    found: Rows = []
    num_bytes = 0
    for row in rows:
        found.append(row)
        num_bytes += sum(map(len, row))
        if num_bytes > MOST_BYTES or len(found) > MOST_ROWS:
            raise Malformed(
                f"{source} has more than {MOST_ROWS} rows or {MOST_BYTES} bytes: give fewer rows"
            )
    return found


def _digest(rows: Rows) -> bytes:
    return content_digest(encode([list(row) for row in rows]))


def _file_named(digest: str) -> Path:
    """Look for rows by their digest, whatever their file is called here."""
    folders = os.environ.get(DATA_VARIABLE, ".")
    for folder in folders.split(os.pathsep):
        for path in sorted(Path(folder).glob("*.jsonl")):
            try:
                rows = _bounded(_file_rows(path), str(path))
            except (Malformed, NotFound, OSError):
                continue  # another program's
            if _digest(rows).hex() == digest:
                return path
    raise NotFound(
        f"no *.jsonl in {folders} has the run's rows {digest}: ask its operator for the file, and name the "
        f"folder that you keep it in with {DATA_VARIABLE}"
    )


def _file_rows(path: Path) -> Iterator[tuple[str, str]]:
    """Read JSON lines; `splitlines` would also split at U+2028 inside a question."""
    for at, line in enumerate(_file_text(path).split("\n"), start=1):
        if line.strip():
            try:
                row = json.loads(line)
                question, answer = str(row["question"]), str(row["answer"])
                (question + answer).encode()  # half of a pair of surrogates is no text
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise Malformed(f"{path} line {at} is no question and answer: {error}") from error
            yield question, answer


def _file_text(path: Path) -> str:
    """Read at most `MOST_BYTES`, whatever size a file says that it has."""
    if not path.is_file():
        raise NotFound(f"path = {str(path)!r} is no file; give a JSONL file or a revision")
    with path.open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise Malformed(f"{path} has more than {MOST_BYTES} bytes: give a file of fewer rows")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Malformed(f"{path} is no UTF-8 text at byte {error.start}") from error


def _hub_file(dataset: str, revision: str, split: str) -> Path:
    """Download a split at a full commit: a branch or tag may move, and with it every reward.

    Of data sets in several files, or in another format, nothing is read: give them as a file.
    """
    if len(revision) != 40 or not set(revision) <= set("0123456789abcdef"):
        raise Malformed(
            f"revision = {revision!r} must be a full commit of {dataset}; "
            "or give `path`, a local JSONL file with question and answer in each line"
        )
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub import try_to_load_from_cache as cached

    name = f"main/{split}-00000-of-00001.parquet"
    if found := cached(dataset, name, revision=revision, repo_type="dataset"):
        return Path(str(found))
    url = hf_hub_url(dataset, name, revision=revision, repo_type="dataset")
    size = get_hf_file_metadata(url).size
    if size is None or size > MOST_BYTES:
        raise Malformed(f"{url} has {size} bytes, at most {MOST_BYTES} are read: give fewer rows")
    return Path(hf_hub_download(dataset, name, revision=revision, repo_type="dataset"))


def _parquet_rows(path: Path) -> Iterator[tuple[str, str]]:
    """Read a few rows at a time, each text once: a kilobyte of Parquet may say the same text a million times."""
    import pyarrow
    from pyarrow import compute, parquet

    names = ["question", "answer"]
    try:
        file = parquet.ParquetFile(path, read_dictionary=names)
        found = file.metadata
        size = sum(found.row_group(i).total_byte_size for i in range(found.num_row_groups))
        if size > MOST_BYTES or any(
            not pyarrow.types.is_dictionary(file.schema_arrow.field(name).type) for name in names
        ):
            raise Malformed(
                f"{path} has {size} bytes of {file.schema_arrow}: give texts of at most {MOST_BYTES}"
            )
        left = MOST_BYTES
        for batch in file.iter_batches(ROWS_AT_A_TIME, columns=names):
            for column in batch.columns:
                left -= (
                    compute.sum(
                        compute.binary_length(column.dictionary).take(column.indices)
                    ).as_py()
                    or 0
                )
            if left < 0 or any(column.null_count for column in batch.columns):
                raise Malformed(f"{path} has more than {MOST_BYTES} bytes, or a row without text")
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)
    except (pyarrow.ArrowException, OSError, KeyError) as error:
        raise Malformed(f"{path} holds no questions and answers: {error}") from error
