"""Checkpoints are whole or absent, and give back every bit."""

import shutil
from pathlib import Path

import pytest
import torch
from structlog.testing import capture_logs

from protocol.user_error import UserError
from tests.stage import work
from trainer import checkpoint
from trainer.checkpoint import Progress
from trainer.metrics import MetricsFile
from trainer.model import Policy
from trainer.scaling import LossScale


def trained(steps: int) -> tuple[Policy, torch.optim.AdamW]:
    policy = work.policy()
    optimizer = torch.optim.AdamW(list(policy.masters.values()), lr=1e-3, fused=True)
    for step in range(steps):
        move(policy, optimizer, step)
    return policy, optimizer


def move(policy: Policy, optimizer: torch.optim.AdamW, step: int) -> None:
    torch.manual_seed(step)
    for master in policy.masters.values():
        master.grad = torch.randn_like(master)
    optimizer.step()
    policy.refresh()


def progress(version: int) -> Progress:
    spent = {version - 1: (b"a" * 32, b"b" * 32)}
    return Progress(version, 10 * version, spent, LossScale(1024.0, version))


def test_a_checkpoint_gives_back_masters_moments_and_progress(tmp_path: Path) -> None:
    policy, optimizer = trained(2)
    checkpoint.save(tmp_path, progress(2), policy, optimizer, keep=2)
    other, fresh = trained(0)
    assert checkpoint.load(tmp_path, other, fresh) == progress(2)
    for policy_, optimizer_ in ((policy, optimizer), (other, fresh)):
        move(policy_, optimizer_, 2)
    for name, master in policy.masters.items():
        assert torch.equal(master, other.masters[name])


def test_without_its_moments_the_next_step_would_differ(tmp_path: Path) -> None:
    policy, optimizer = trained(2)
    checkpoint.save(tmp_path, progress(2), policy, optimizer, keep=2)
    other, fresh = trained(0)
    checkpoint.load(tmp_path, other, fresh)
    fresh.state.clear()
    for policy_, optimizer_ in ((policy, optimizer), (other, fresh)):
        move(policy_, optimizer_, 2)
    name = next(iter(policy.masters))
    assert not torch.equal(policy.masters[name], other.masters[name])


def test_no_checkpoint_is_no_progress(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path / "none", *trained(0)) is None


def test_half_a_checkpoint_is_not_one(tmp_path: Path) -> None:
    policy, optimizer = trained(0)
    whole = checkpoint.save(tmp_path, progress(1), policy, optimizer, keep=2)
    shutil.copytree(whole, tmp_path / ".version-00000002.partial")
    (tmp_path / ".version-00000002.partial" / "optimizer.safetensors").unlink()
    assert checkpoint.load(tmp_path, policy, optimizer) == progress(1)
    checkpoint.save(tmp_path, progress(2), policy, optimizer, keep=2)
    assert checkpoint.load(tmp_path, policy, optimizer) == progress(2)


def test_only_the_newest_are_kept_and_one_can_be_written_again(tmp_path: Path) -> None:
    policy, optimizer = trained(0)
    for version in (9, 10, 11, 11):
        checkpoint.save(tmp_path, progress(version), policy, optimizer, keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["version-00000010", "version-00000011"]
    assert checkpoint.load(tmp_path, policy, optimizer) == progress(11)


def test_another_models_checkpoint_is_refused(tmp_path: Path) -> None:
    policy, optimizer = trained(0)
    masters = dict(policy.masters)
    policy.masters.pop("model.norm.weight")
    checkpoint.save(tmp_path, progress(1), policy, optimizer, keep=2)
    policy.masters.update(masters)
    with pytest.raises(ValueError, match="other tensors"):
        checkpoint.load(tmp_path, policy, optimizer)


def metrics(folder: Path, offset: int) -> MetricsFile:
    return MetricsFile(folder, offset=offset, version=0, tensorboard=False)


def test_a_resumed_metrics_file_forgets_what_its_checkpoint_does_not_know(tmp_path: Path) -> None:
    first = metrics(tmp_path, 0)
    first.write({"version": 0})
    known = first.offset
    first.write({"version": 1, "reward": 0.5})
    first.close()
    second = metrics(tmp_path, known)
    second.write({"version": 1, "reward": 0.25})
    second.close()
    text = (tmp_path / "metrics.jsonl").read_text()
    assert text == '{"version": 0}\n{"version": 1, "reward": 0.25}\n'


def test_a_metrics_file_that_lost_lines_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has 0 bytes and its checkpoint says 5: restore it"):
        metrics(tmp_path, 5)


def test_numbers_that_json_cannot_hold_are_an_error(tmp_path: Path) -> None:
    file = metrics(tmp_path, 0)
    with pytest.raises(ValueError, match="JSON"):
        file.write({"version": 0, "loss": float("nan")})
    file.close()


def test_tensorboard_events_are_written_by_setting(tmp_path: Path) -> None:
    board = MetricsFile(tmp_path, offset=0, version=0, tensorboard=True)
    board.write({"version": 1, "reward": 0.5, "staleness": {"0": 3}, "policy_digest": "0x"})
    board.close()
    assert list((tmp_path / "tensorboard").glob("events*"))


@pytest.mark.parametrize("name", ["masters.safetensors", "optimizer.safetensors", "progress.json"])
@pytest.mark.parametrize("left", [None, 0, 7, 1_000])
def test_the_next_older_checkpoint_is_taken_where_the_newest_is_not_whole(
    tmp_path: Path, name: str, left: int | None
) -> None:
    policy, optimizer = trained(1)
    checkpoint.save(tmp_path, progress(1), policy, optimizer, keep=2)
    older = {n: master.detach().clone() for n, master in policy.masters.items()}
    move(policy, optimizer, 1)
    newest = checkpoint.save(tmp_path, progress(2), policy, optimizer, keep=2)
    data = (newest / name).read_bytes()
    (newest / name).unlink()
    if left is not None:
        (newest / name).write_bytes(data[: min(left, len(data) - 1)])
    other, fresh = trained(0)
    with capture_logs() as said:
        assert checkpoint.load(tmp_path, other, fresh) == progress(1)
    assert [(entry["event"], entry["file"]) for entry in said] == [("file is damaged", str(newest))]
    assert all(torch.equal(older[n], master) for n, master in other.masters.items())
    move(other, fresh, 1)
    checkpoint.save(tmp_path, progress(2), other, fresh, keep=1)
    assert checkpoint.load(tmp_path, *trained(0)) == progress(2), "the damaged one was replaced"


def test_a_damaged_newer_checkpoint_does_not_push_out_the_whole_ones(tmp_path: Path) -> None:
    policy, optimizer = trained(0)
    for version in (1, 2, 3, 4):
        checkpoint.save(tmp_path, progress(version), policy, optimizer, keep=9)
    for version in (3, 4):
        (tmp_path / f"version-{version:08d}" / "progress.json").write_bytes(b"")
    assert checkpoint.load(tmp_path, policy, optimizer) == progress(2)
    checkpoint.save(tmp_path, progress(3), policy, optimizer, keep=1)
    assert checkpoint.load(tmp_path, policy, optimizer) == progress(3)


def test_without_a_whole_checkpoint_nothing_begins_in_silence(tmp_path: Path) -> None:
    policy, optimizer = trained(0)
    only = checkpoint.save(tmp_path, progress(1), policy, optimizer, keep=2)
    (only / "masters.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"no checkpoint below .* is whole \(versions 1\): restore"):
        checkpoint.load(tmp_path, policy, optimizer)


def test_names_that_are_no_version_are_passed_over(tmp_path: Path) -> None:
    policy, optimizer = trained(0)
    whole = checkpoint.save(tmp_path, progress(2), policy, optimizer, keep=2)
    for stray in ("version-00000002.bak", "version-old", "version-"):
        shutil.copytree(whole, tmp_path / stray)
    checkpoint.save(tmp_path, progress(3), policy, optimizer, keep=1)
    assert checkpoint.load(tmp_path, policy, optimizer) == progress(3)
    assert (tmp_path / "version-00000002.bak").is_dir()
