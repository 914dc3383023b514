"""The trainer's own settings: where things are, and the recipe. Nothing here is agreed with others.

What all parties agree on (group size, temperature, staleness) is in the run's `RunSpec`.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from client.retry import Seconds
from local.settings import Settings

Count = Annotated[int, Field(ge=1, lt=1 << 63)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class TrainerConfig(Settings):
    """One trainer of one run."""

    orchestrator: str = "http://127.0.0.1:8000"
    """Base address of the orchestrator, without /v1."""
    run_id: Annotated[int, Field(ge=0)] = 0
    """The run to train, as registered on the ledger."""
    model_dir: Path = Path("models/start")
    """Folder with the starting weights (one model.safetensors), config.json and tokenizer.json."""
    work_dir: Path = Path("build/trainer")
    """Checkpoints, metrics.jsonl, evaluations/held_out.jsonl and TensorBoard events are written below
    this folder."""
    steps: Count = 60
    """Stop when this policy version is published."""
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    """Seeds held-out sampling; training itself draws nothing at random."""

    device: str = "cpu"
    """A torch device: cpu, cuda or cuda:1. A CPU computes in float32, a GPU in the run's dtype; masters
    and the logits head are float32 on both."""
    threads: Annotated[int, Field(ge=1, le=4096)] = 1
    """Processor threads for torch."""
    microbatch_tokens: Annotated[int, Field(ge=16)] = 2048
    """Tokens of one forward pass; memory grows with it, gradients do not depend on it."""
    logits_chunk: Count = 8192
    """Positions whose logits exist at one time; they are recomputed in the backward pass."""

    learning_rate: Positive = 3e-4
    """AdamW's step size."""
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """AdamW's decay of the gradient's mean."""
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """AdamW's decay of the gradient's square."""
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """AdamW's decoupled decay (arXiv:1711.05101)."""
    max_gradient_norm: Positive = 1.0
    """Gradients of a step are scaled down to this global norm."""
    loss: Literal["grpo", "dapo", "dr_grpo", "cispo", "gspo"] = "grpo"
    """Which loss of `trainer/loss.py`, each with its paper there."""
    behaviour: Literal["recomputed", "worker"] = "recomputed"
    """What ratios start from: log-probabilities that the trainer recomputes under the version that
    sampled, or those that the worker claims. Claims save a forward pass of stale groups, but let a worker
    bend the step as far as replay allows (`benchmarks/distortion.py`)."""
    clip_low: Positive = 0.2
    """Ratios below 1 − this stop pushing down."""
    clip_high: Positive = 0.28
    """Ratios above 1 + this stop pushing up ("clip-higher", arXiv:2503.14476)."""
    ratio_cap: Positive = 4.0
    """Bounds the ratio if the advantage is negative (arXiv:2505.07291), and CISPO's weights."""
    divide_by_deviation: bool = False
    """Divide advantages by their group's deviation, as first published."""
    mask_truncated: bool = True
    """Leave completions that ran into `max_tokens` out of the loss (arXiv:2503.14476)."""
    mean_ratio_low: Positive = 0.5
    """Sequences whose geometric-mean ratio to the worker's is lower are left out."""
    mean_ratio_high: Positive = 2.0
    """Sequences whose geometric-mean ratio to the worker's is higher are left out."""
    absurd_ratio: Positive = 1e4
    """Sequences with any token ratio beyond this, or below its inverse, are left out."""

    evaluate_every: Annotated[int, Field(ge=0)] = 5
    """Measure held-out accuracy at versions divisible by this, and at the last; 0 for never. A process of
    its own does it; while it is busy, only the start and the newest version wait for it."""
    num_evaluation_problems: Count = 512
    """Held-out problems per measurement, one sample each at the run's temperature."""
    evaluation_batch: Count = 128
    """Held-out problems sampled at one time."""
    anchor_every: Count = 16
    """Publish a full set of weights at versions divisible by this; patches in between."""
    skip_patches: tuple[int, ...] = (2, 4, 8)
    """Also publish patches from this many versions back, for workers that missed some."""
    keep_checkpoints: Count = 2
    """Newest checkpoints to keep."""
    tensorboard: bool = True
    """Write TensorBoard events beside metrics.jsonl."""
    poll_seconds: Annotated[Seconds, Field(ge=0.05)] = 0.1
    """Pause between two looks at the evaluator once training is over."""

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.mean_ratio_low >= self.mean_ratio_high:
            raise ValueError("mean_ratio_low must be below mean_ratio_high")
        if any(distance < 2 for distance in self.skip_patches):
            raise ValueError("skip_patches are distances of 2 versions or more")
        return self
