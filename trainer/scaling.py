"""Scale a float16 loss so that small gradients do not vanish (arXiv:1710.03740, section 3.2).

The scale is a power of two, so that dividing by it again is exact. If a gradient overflows, it is halved
and that step left out; after `PATIENCE` steps without an overflow it is doubled. float32 and bfloat16
have float32's range and need no scale: 1 stays 1, and gradients that are not finite then are an error.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from protocol.user_error import UserError

FIRST = 2.0**16
LARGEST = 2.0**24
PATIENCE = 200
"""Steps without an overflow after which twice the scale is tried. Runs here take tens to hundreds."""
REMEDY = "launch the run in bfloat16 or float32, or lower the learning rate"


class NotFinite(UserError):
    """A loss or gradient is infinite or no number, and no smaller scale would help."""


@dataclass(frozen=True, slots=True)
class LossScale:
    """The factor on losses, and how many steps it has served. Part of a checkpoint."""

    value: float
    steps: int = 0

    def after(self, *, overflowed: bool) -> "LossScale":
        """Return the next step's scale; raise if there is nothing left to halve."""
        if overflowed and self.value == 1:
            raise NotFinite(f"gradients are not finite with a loss scale of 1: {REMEDY}")
        if overflowed:
            return LossScale(self.value / 2)
        if self.value in (1, LARGEST) or self.steps + 1 < PATIENCE:
            return LossScale(self.value, self.steps + 1)
        return LossScale(self.value * 2)


def first_scale(dtype: torch.dtype) -> LossScale:
    """Return a run's first scale in this compute dtype."""
    return LossScale(FIRST if dtype is torch.float16 else 1.0)


def unscale(masters: Iterable[Tensor], scale: LossScale) -> bool:
    """Bring gradients to their true size; return whether all of them are finite."""
    gradients = [master.grad for master in masters if master.grad is not None]
    for gradient in gradients:
        gradient.div_(scale.value)
    return all(bool(gradient.isfinite().all()) for gradient in gradients)


def finite(loss: float, step: int, dtype: torch.dtype) -> float:
    """Return the loss; raise if the forward pass already overflowed, which no scale mends."""
    if not math.isfinite(loss):
        raise NotFinite(f"the loss of step {step} is {loss} in {dtype}: {REMEDY}")
    return loss


def finite_norm(norm: Tensor) -> float:
    """Return the gradients' norm; raise where finite ones are too large together, before they move anything."""
    if not math.isfinite(float(norm)):
        raise NotFinite(f"the gradients' norm is {float(norm)}: {REMEDY}")
    return float(norm)
