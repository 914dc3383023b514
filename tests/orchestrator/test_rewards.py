"""Rewards are recomputed where a stranger's completion can hurt nobody."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import msgpack
import pytest

from orchestrator.config import Rewards
from orchestrator.rewards.pool import Child, RewardPool, ScorerLost
from protocol.environments.registry import environment
from protocol.rollout import Rollout
from tests.stage.place import Place
from tests.stage.terms import EOS, MODEL, make_spec

TOKENIZER = (MODEL / "tokenizer.json").read_bytes()


def tokens(text: str) -> bytes:
    from tokenizers import Tokenizer

    ids = Tokenizer.from_str(TOKENIZER.decode()).encode(text).ids
    return Rollout.of([*ids, EOS], [0.0] * (len(ids) + 1)).tokens


def solution(index: int) -> str:
    return environment("arithmetic", {}).problem(index).solution


def pool(**settings: float) -> RewardPool:
    made = RewardPool(Rewards.model_validate(settings))
    made.learn(1, make_spec(), TOKENIZER)
    return made


def test_groups_asked_for_together_are_scored_apart() -> None:
    async def score() -> list[tuple[int, ...] | None]:
        rewards = pool()
        rewards.start()
        jobs = [(1, n, [tokens(solution(n)), tokens(solution(n + 1))]) for n in range(100)]
        found = await asyncio.gather(*(rewards.score(job) for job in jobs))
        await rewards.close()
        return list(found)

    assert set(asyncio.run(score())) == {(10_000, 0)}


def test_a_child_finds_the_data_that_its_parent_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator whose home cannot be written keeps data elsewhere: the rows are read there by both."""
    monkeypatch.setenv("HF_HOME", "/data/hf")
    monkeypatch.setenv("ROLLCALL_KEY", "0x" + "11" * 32)

    async def surroundings() -> bytes:
        rewards = pool()
        rewards.start()
        assert await rewards.score((1, 5, [tokens(solution(5))])) == (10_000,)
        child = child_pids()[0]
        found = Path(f"/proc/{int(child)}/environ").read_bytes()
        await rewards.close()
        return found

    found = asyncio.run(surroundings()).split(b"\0")
    assert b"HF_HOME=/data/hf" in found
    assert not [pair for pair in found if pair.startswith(b"ROLLCALL_")]


def test_a_child_that_hangs_is_killed_and_its_neighbours_are_scored() -> None:
    """A stopped process stands for any completion that keeps a scorer busy for ever."""

    async def score() -> tuple[object, int]:
        rewards = pool(timeout_seconds=3)
        rewards.start()
        good = (1, 5, [tokens(solution(5)), tokens("#0")])
        assert await rewards.score(good) == (10_000, 0)
        children = [int(line) for line in child_pids()]
        os.kill(children[0], 19)
        found = await rewards.score(good)
        await rewards.close()
        return found, rewards.num_killed

    found, num_killed = asyncio.run(score())
    assert found == (10_000, 0)
    assert num_killed == 1


def test_a_group_that_fails_twice_is_undecided_and_the_next_one_is_scored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = Child.score

    async def hangs_on_task_7(child: Child, jobs: object, runs: object) -> object:
        if any(job[1] == 7 for job in jobs):  # type: ignore[attr-defined]
            await child.kill()
            raise ScorerLost
        return await real(child, jobs, runs)  # type: ignore[arg-type]

    monkeypatch.setattr(Child, "score", hangs_on_task_7)

    async def score() -> list[object]:
        rewards = pool()
        rewards.start()
        jobs = [(1, n, [tokens(solution(n)), tokens("#0")]) for n in (6, 7, 8)]
        found = await asyncio.gather(*(rewards.score(job) for job in jobs))
        await rewards.close()
        return list(found)

    assert asyncio.run(score()) == [(10_000, 0), None, (10_000, 0)]


def test_a_child_that_needs_too_much_memory_ends_and_hurts_nobody() -> None:
    async def score() -> object:
        rewards = pool(memory_bytes=1 << 20)
        rewards.start()
        found = await rewards.score((1, 5, [tokens(solution(5))]))
        await rewards.close()
        return found

    assert asyncio.run(score()) is None


def test_an_undecided_group_is_paid_and_not_trained_on(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    from protocol.verdict import Outcome

    async def undecided(_: object) -> None:
        return None

    monkeypatch.setattr(place.services.rewards, "score", undecided)
    alice = place.party("alice")
    receipts = [alice.deliver(signed.lease) for signed in alice.leases(2)]
    for receipt in receipts:
        assert receipt.rejection == ""
        assert place.party("v0").decide(receipt.work_digest, Outcome.ACCEPTED) == "accepted"
        assert place.status(receipt.work_digest).rewards == ()
    assert place.take_batch(0) is None


def test_the_child_gets_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROLLCALL_KEY", "0x" + "11" * 32)

    async def environment_of_child() -> bytes:
        rewards = pool()
        rewards.start()
        await rewards.score((1, 5, [tokens(solution(5))]))
        data = Path(f"/proc/{child_pids()[0]}/environ").read_bytes()
        await rewards.close()
        return data

    data = asyncio.run(environment_of_child())
    assert b"PYTHONPATH" in data
    assert b"ROLLCALL_KEY" not in data


def child_pids() -> list[str]:
    """Return our scoring children, newest first."""
    import psutil

    found = [
        child
        for child in psutil.Process().children()
        if "orchestrator.rewards.child" in child.cmdline()
    ]
    found.sort(key=lambda child: -child.create_time())
    return [str(child.pid) for child in found]


def test_a_defect_in_scoring_is_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer with too few groups, as no child should give, must not end the serving task."""
    real = Child.score

    async def forgets_one(child: Child, jobs: object, runs: object) -> object:
        answers = await real(child, jobs, runs)  # type: ignore[arg-type]
        return answers[1:]

    async def score() -> list[tuple[int, ...] | None]:
        rewards = pool()
        rewards.start()
        good = (1, 5, [tokens(solution(5)), tokens("#0")])
        with monkeypatch.context() as patched:
            patched.setattr(Child, "score", forgets_one)
            first = await asyncio.wait_for(rewards.score(good), 10)
        second = await asyncio.wait_for(rewards.score(good), 10)
        await rewards.close()
        return [first, second]

    assert asyncio.run(score()) == [None, (10_000, 0)]


def test_what_a_library_prints_is_no_answer() -> None:
    """A line on standard output once counted as the length of a frame."""
    code = (
        "import os, sys; from orchestrator.rewards import child; import msgpack\n"
        "real = child.Scorer.handle\n"
        "def loud(self, message):\n"
        "    print('a warning', flush=True); os.write(1, b'from C')\n"
        "    return 7\n"
        "child.Scorer.handle = loud\n"
        "child.main(2 << 30)\n"
    )
    frame = msgpack.packb({"do": "score"})
    child = subprocess.run(
        [sys.executable, "-c", code],
        input=len(frame).to_bytes(4, "big") + frame,
        capture_output=True,
        check=True,
    )
    assert child.stdout == (1).to_bytes(4, "big") + b"\x07"
    assert b"a warning" in child.stderr


def test_a_group_on_which_scoring_raises_is_undecided_and_the_next_one_is_scored() -> None:
    """A task that does not exist raises in the child, as a defect of an environment would."""

    async def score() -> tuple[list[tuple[int, ...] | None], int]:
        rewards = pool()
        rewards.start()
        good = (1, 5, [tokens(solution(5)), tokens("#0")])
        asked = asyncio.gather(rewards.score((1, -1, good[2])), rewards.score(good))
        found = [*await asked, await rewards.score(good)]
        await rewards.close()
        return found, rewards.num_killed

    found, num_killed = asyncio.run(score())
    assert found == [None, (10_000, 0), (10_000, 0)]
    assert num_killed == 2, "together with its neighbour, then alone"
