"""Checkpoints: everything that training needs to go on with the same numbers.

Masters and optimizer state as safetensors, the rest as JSON. A checkpoint is written to a temporary
folder, flushed and renamed, so that one with a final name is whole. No random state is stored: every
random draw is seeded by (seed, version). Nothing is ever unpickled.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from local.files import UNREADABLE, flush, numbered, tell_damaged
from protocol.user_error import UserError
from trainer.model import Policy
from trainer.scaling import LossScale

PREFIX = "version-"
MOMENTS = ("exp_avg", "exp_avg_sq", "step")
"""The state of torch's AdamW, per parameter."""


class NotSaved(UserError):
    """A checkpoint could not be written; the one before is whole."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where training stands beside its tensors; version −1 before version 0 is published.

    `spent` are the leases of the groups that recent steps trained on: no work is trained on twice, even
    if the orchestrator offers it again, under whatever digest.
    """

    version: int
    metrics_offset: int
    spent: Mapping[int, tuple[bytes, ...]]
    scale: LossScale


def save(
    folder: Path, progress: Progress, policy: Policy, optimizer: torch.optim.AdamW, *, keep: int
) -> Path:
    """Write the checkpoint durably, then remove all but the newest `keep`; raise `NotSaved`."""
    try:
        return _save(folder, progress, policy, optimizer, keep=keep)
    except (OSError, SafetensorError) as error:
        raise NotSaved(
            f"the checkpoint of version {progress.version} does not fit below {folder} ({error}): free "
            "space and start the trainer again; it goes on from the checkpoint before"
        ) from error


def _save(
    folder: Path, progress: Progress, policy: Policy, optimizer: torch.optim.AdamW, *, keep: int
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"{PREFIX}{progress.version:08d}"
    temporary = folder / f".{final.name}.partial"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    save_file(_plain(policy.masters), temporary / "masters.safetensors")
    save_file(_moments(policy, optimizer), temporary / "optimizer.safetensors")
    (temporary / "progress.json").write_text(_to_json(progress))
    for path in (*temporary.iterdir(), temporary):
        flush(path)
    if final.exists():  # left by an earlier process that got further before its folder was restored
        shutil.rmtree(final)
    temporary.rename(final)
    flush(folder)
    kept = [
        path for version, path in numbered(folder, PREFIX).items() if version <= progress.version
    ]
    for old in kept[:-keep]:
        shutil.rmtree(old)
    return final


def load(folder: Path, policy: Policy, optimizer: torch.optim.AdamW) -> Progress | None:
    """Take up the newest checkpoint that is whole, or return None where there is none at all.

    The versions after an older one are made again from their batches, to the same bits.
    """
    kept = numbered(folder, PREFIX)
    for version in sorted(kept, reverse=True):
        try:
            masters, moments, progress = _read(kept[version])
        except (OSError, SafetensorError, *UNREADABLE) as error:
            tell_damaged(kept[version], error, "training goes on from an older checkpoint")
            continue
        policy.set_masters(masters)
        for name, master in policy.masters.items():
            state = {m: moments[f"{name}|{m}"] for m in MOMENTS if f"{name}|{m}" in moments}
            if state:
                on_device = {m: t if m == "step" else t.to(master.device) for m, t in state.items()}
                optimizer.state[master] = on_device
        return progress
    if kept:
        raise UserError(
            f"no checkpoint below {folder} is whole (versions {', '.join(map(str, kept))}): restore one, or "
            "remove them to train from version 0 again, which makes the same weights from the same batches"
        )
    return None


def _read(checkpoint: Path) -> tuple[dict[str, Tensor], dict[str, Tensor], Progress]:
    return (
        load_file(checkpoint / "masters.safetensors"),
        load_file(checkpoint / "optimizer.safetensors"),
        _from_json((checkpoint / "progress.json").read_text()),
    )


def _plain(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in parameters.items()}


def _moments(policy: Policy, optimizer: torch.optim.AdamW) -> dict[str, Tensor]:
    return _plain(
        {
            f"{name}|{moment}": optimizer.state[master][moment]
            for name, master in policy.masters.items()
            if master in optimizer.state
            for moment in MOMENTS
        }
    )


def _to_json(progress: Progress) -> str:
    spent = {
        str(step): [lease.hex() for lease in leases] for step, leases in progress.spent.items()
    }
    return json.dumps(
        {
            "version": progress.version,
            "metrics_offset": progress.metrics_offset,
            "spent": spent,
            "loss_scale": asdict(progress.scale),
        },
        indent=1,
    )


def _from_json(text: str) -> Progress:
    values = json.loads(text)
    spent = {
        int(step): tuple(bytes.fromhex(lease) for lease in leases)
        for step, leases in values["spent"].items()
    }
    scale = LossScale(**values["loss_scale"])
    return Progress(values["version"], values["metrics_offset"], spent, scale)
