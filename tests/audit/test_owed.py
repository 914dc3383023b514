"""A watcher answers claims by receipts: with what paid or what condemns, and never a true one."""

from collections.abc import Sequence
from pathlib import Path

from audit.watcher import Mandate, Watcher
from protocol.verdict import Verdict
from tests.ledger.test_disputing import Docket, docket, prove, skipped
from tests.stage.owed import end, taken, verdict_on
from tests.stage.world import STAKE, WINDOW, World


def watcher(
    world: World, folder: Path, case: Docket | None = None, verdicts: Sequence[Verdict] = ()
) -> Watcher:
    """Return a stranger's watcher, which has the case's file and these verdicts."""
    return Watcher(
        world.by("stranger"),
        folder,
        address=world.address("stranger"),
        files=lambda _posted: case.file.canonical() if case else None,
        policy=Mandate(),
        verdicts=lambda _run, digest: [v for v in verdicts if v.work_digest == digest],
    )


def test_paid_work_is_answered_by_its_leaf_also_of_an_epoch_final_before(
    world: World, tmp_path: Path
) -> None:
    case = docket(world)
    world.wait(WINDOW)
    world.by("bob").advance(world.run_id)
    promise = skipped(case, 2)
    world.by("alice").claim_owed([promise])
    watcher(world, tmp_path, case).step()
    assert world.by("alice").claimed_at(promise[0]) == 0
    assert case.stake("alice") == STAKE - STAKE // 100


def test_false_work_is_answered_by_a_quorum_of_true_verdicts_only(
    world: World, tmp_path: Path
) -> None:
    promise, other = taken(world, "alice", 1, 10), taken(world, "alice", 2, 10)
    end(world)
    world.by("alice").claim_owed([promise, other])
    work = promise[0]
    first, second = (verdict_on(world, work, name) for name in ("v0", "v2"))
    strange = verdict_on(world, work, "v1").model_copy(update={"signature": first.signature})
    watcher(world, tmp_path / "few", verdicts=[first, strange]).step()
    assert world.by("alice").claimed_at(work) > 0, "one verdict and a forged one are no quorum"
    watcher(world, tmp_path / "enough", verdicts=[second, strange, first]).step()
    assert world.by("alice").is_condemned(work)
    assert world.by("alice").claimed_at(other[0]) > 0, "what is owed is not answered"


def test_a_dry_run_answers_nothing(world: World, tmp_path: Path) -> None:
    case = docket(world)
    world.wait(WINDOW)
    promise = skipped(case, 2)
    world.by("alice").claim_owed([promise])
    dry = Watcher(
        world.by("stranger"),
        tmp_path,
        address=None,
        files=lambda _posted: case.file.canonical(),
        policy=Mandate(sends=False),
    )
    dry.step()
    assert world.by("alice").claimed_at(promise[0]) > 0


def test_an_omission_of_condemned_work_is_answered_by_verdicts(
    world: World, tmp_path: Path
) -> None:
    case = docket(world, skipping=(2,))
    work, _ = skipped(case, 2)
    prove(case)
    verdicts = [verdict_on(world, work, name) for name in ("v0", "v1")]
    watcher(world, tmp_path, case, verdicts).step()
    assert world.by("bob").epoch(world.run_id, 0).holds == 0
