"""Refuse a dtype that a model's activations do not fit into.

float16 has no number above 65,504: a model with larger activations computes infinities in it, and a group
whose logits are no numbers can neither be sampled nor replayed. What is looked at is every module's output
in float32, over some prompts.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from protocol.precision import ComputeDtype
from rollout_worker.engines.causal import CausalModel, read_weights

ROOM = 2.0
"""Largest activations over the prompts may be this much below the dtype's largest number: other prompts
have larger ones."""


def require_range(
    model_dir: Path,
    policies: Sequence[Path],
    prompts: Sequence[Sequence[int]],
    dtype: ComputeDtype,
) -> str:
    """Return what was found, in words; raise `ValueError` naming the layer where it does not fit."""
    model = CausalModel(model_dir, device="cpu")
    largest, where = 0.0, ""
    for path in policies:
        model.load(read_weights(path))
        value, name = max((value, name) for name, value in largest_values(model, prompts).items())
        if value > largest:
            largest, where = value, name
    if not largest * ROOM < dtype.largest:
        raise ValueError(
            f"{where} reaches {largest:.6g}, {dtype} ends at {dtype.largest:.6g}: choose bfloat16, which has "
            "float32's range, or float32"
        )
    return f"largest activation {largest:.6g} ({where}); {dtype} ends at {dtype.largest:.6g}"


@torch.inference_mode()
def largest_values(model: CausalModel, prompts: Sequence[Sequence[int]]) -> dict[str, float]:
    """Return the largest magnitude of every module's output over the prompts, and of the logits."""
    found: dict[str, float] = {}

    def note(name: str, output: Any) -> None:
        tensors = output if isinstance(output, tuple) else (output,)
        for tensor in tensors:
            if isinstance(tensor, torch.Tensor) and tensor.is_floating_point():
                value = float(tensor.abs().nan_to_num(nan=torch.inf).max())
                found[name] = max(found.get(name, 0.0), value)

    hooks = [
        module.register_forward_hook(lambda _m, _i, output, name=name: note(name, output))
        for name, module in model.decoder.named_modules()
        if name
    ]
    try:
        for prompt in prompts:
            ids = torch.tensor([list(prompt)], device=model.device)
            hidden = model.decoder(input_ids=ids, use_cache=False).last_hidden_state
            note("the logits", model.logits(hidden[0]))
    finally:
        for hook in hooks:
            hook.remove()
    return found
