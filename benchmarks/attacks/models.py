"""The models that the lab attacks: the starting model, a larger one taught by the same teacher, and one
that others have trained on text.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

START = Path(__file__).parents[2] / "models" / "start"
NAMES = ("demo", "large", "smollm2")
UNTRAINED = ("smollm2",)
"""Models that are not trained here: no policy 20 steps on, and no other one of their shape."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Shape and study of one lab model; `num_steps` batches of the sloppy sums, once each.

    Example: the starting model's shape is hidden 128, 2 layers of 4 heads of 32, MLP 384.
    """

    seed: int
    num_steps: int
    learning_rate: float
    hidden_size: int = 128
    intermediate_size: int = 384
    num_layers: int = 2
    num_heads: int = 4
    head_dim: int = 32
    batch_size: int = 64


@dataclass(frozen=True, slots=True)
class Reinforcement:
    """How a model is trained on for the policy 20 steps later: groups of 8 in a step, AdamW's rate."""

    groups_per_step: int
    learning_rate: float


def reinforcement(name: str) -> Reinforcement:
    """Return a model's GRPO steps. The larger one collapses at the trainer's default rate of 3e-4:
    its share of right answers went from 0.46 to 0.04 in 20 steps, which no trainer would publish.
    """
    return Reinforcement(32, 3e-4) if name == "demo" else Reinforcement(8, 1e-4)


def recipes() -> Mapping[str, Recipe]:
    """Return what is trained here: the larger model, and for each model another of its shape.

    The others study a third or a quarter as long with another seed: the cheap stand-in of one who has no policy.
    """
    large = {"hidden_size": 384, "intermediate_size": 1024, "num_layers": 6, "num_heads": 6}
    return {
        "demo-other": Recipe(seed=8, num_steps=400, learning_rate=3e-3),
        "large": Recipe(seed=7, num_steps=320, learning_rate=1e-3, head_dim=64, **large),
        "large-other": Recipe(seed=8, num_steps=80, learning_rate=1e-3, head_dim=64, **large),
    }


def model_folder(name: str, cache: Path) -> Path:
    """Return where a model lies; only the starting model is part of the repository."""
    return START if name == "demo" else cache / "models" / name
