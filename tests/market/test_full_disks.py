"""A full disk at each writer, as a limit on the size of files: nothing torn is left, and somebody is told."""

import subprocess
import sys
from pathlib import Path

import pytest

from protocol.signing import address_of
from protocol.verdict import Outcome, Verdict
from tests.orchestrator.test_doors import files_of
from tests.stage.evidence import evidence
from tests.stage.terms import law

PROGRAM = """
import os, resource, sys
from pathlib import Path
folder = Path(sys.argv[1])
def fill(most_bytes):
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, resource.RLIM_INFINITY))
"""


LEAVE = """
sys.stdout.flush()
os._exit(0)  # the store's own threads may still be writing: Python would abort under them
"""


def run(folder: Path, program: str) -> str:
    """Run a program in a process of its own, whose disk it may fill; return what it said."""
    words = [sys.executable, "-c", PROGRAM + program + LEAVE, str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def verdict(number: int) -> Verdict:
    return Verdict.model_validate(
        {
            "run_id": 1,
            "work_digest": number.to_bytes(32, "big"),
            "verifier": address_of(bytes(range(1, 33))),
            "outcome": Outcome.ACCEPTED,
            "detail": "",
            "rollouts": (0,),
            "mismatches": (),
            "decided_at": 1_800_000_000,
            "signature": bytes(65),
            **evidence(Outcome.ACCEPTED, 8, law(bytes(32))),
        }
    )


@pytest.mark.parametrize("size", [4_000, 200_000], ids=["small", "large"])
def test_a_blob_that_does_not_fit_is_not_there_and_its_sender_comes_again(
    tmp_path: Path, size: int
) -> None:
    said = run(
        tmp_path,
        f"""
import asyncio
from orchestrator.store.blobs import Blobs
from protocol.canonical import content_digest
from protocol.errors import Busy
async def main():
    blobs, data = Blobs(f"file://{{folder}}"), bytes({size})
    fill(1_000)
    try:
        await blobs.add(data)
    except Busy as error:
        print(error.code, error.retry_after_seconds)
    print(await blobs.size(content_digest(data)))
    fill(resource.RLIM_INFINITY)
    assert await blobs.get(await blobs.add(data)) == data
asyncio.run(main())
""",
    )
    assert "busy 1.0\nNone\n" in said
    assert "make room" in said
    assert len(files_of(tmp_path)) == 1, "nothing torn is left"


@pytest.mark.parametrize(
    "written",
    [
        "ReceiptBook(path).keep(kept(BOOK.work('alice', n)))",
        "VerdictBook(path).keep(verdict(n))",
    ],
    ids=["receipts", "verdicts"],
)
def test_what_a_worker_or_verifier_notes_is_whole_or_not_there(
    tmp_path: Path, written: str
) -> None:
    """A torn record would make all after it unreadable: they are what pays, or what is never contradicted."""
    said = run(
        tmp_path,
        f"""
from protocol.user_error import UserError
from rollout_worker.pay.receipts import ReceiptBook
from rollout_worker.verify.verdicts import VerdictBook
from tests.market.test_full_disks import verdict
from tests.rollout_worker.test_omissions import BOOK, kept
path = folder / "notes"
n = 1
{written}
size = path.stat().st_size
fill(size + size // 2)
n = 2
try:
    {written}
except UserError as error:
    print(error)
assert path.stat().st_size == size
fill(resource.RLIM_INFINITY)
n = 3
{written}
data = path.read_bytes()
assert data[:size] and len(data) > size
print(len(ReceiptBook(path).all()) if "Receipt" in {written!r} else len(VerdictBook(path).digests()))
""",
    )
    assert "takes no more" in said
    assert "free space on its disk and start again" in said
    assert said.splitlines()[-1] == "2"


def test_a_checkpoint_that_does_not_fit_leaves_the_one_before(tmp_path: Path) -> None:
    said = run(
        tmp_path,
        """
from protocol.user_error import UserError
from tests.trainer.test_checkpoint import progress, trained
from trainer import checkpoint
policy, optimizer = trained(1)
checkpoint.save(folder / "c", progress(3), policy, optimizer, keep=2)
fill(10_000)
later = progress(4)
try:
    checkpoint.save(folder / "c", later, policy, optimizer, keep=2)
except UserError as error:
    print(error)
fill(resource.RLIM_INFINITY)
print(checkpoint.load(folder / "c", policy, optimizer).version)
checkpoint.save(folder / "c", later, policy, optimizer, keep=2)
print(checkpoint.load(folder / "c", policy, optimizer).version)
""",
    )
    assert "free space and start the trainer again" in said
    assert said.splitlines()[-2:] == ["3", "4"]
