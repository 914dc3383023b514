"""One run's training, to be read from top to bottom: batch → loss → AdamW → publish → checkpoint → ack.

The order makes `kill -9` harmless. Version n + 1 is published before its checkpoint. If the trainer is
killed in between, it recomputes the step from the same batch (the orchestrator hands out the same one until
it is acknowledged), finds its own manifest and goes on. The checkpoint comes before the ack. If killed in
between, the trainer sends the ack again, and trains on nothing twice. A process of its own (`evaluator.py`)
measures held-out accuracy; nothing here waits for it.
Left out: several devices, several steps per batch, learning-rate schedules.
"""

import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import structlog
import torch

from client.connection import Later
from client.public import require_asked
from client.trainer import TrainerRoutes
from protocol.canonical import content_digest
from protocol.constants import MAX_SUBMISSION_BYTES
from protocol.errors import MarketError, StepOutOfOrder
from protocol.messages import Batch, RunInfo
from protocol.policies.lineage import TrainedGroup
from protocol.policies.manifest import Manifest
from protocol.user_error import UserError
from trainer import batch as batches
from trainer import checkpoint
from trainer.batch import Origin, Selection
from trainer.behaviour import Behaviour, recompute
from trainer.checkpoint import Progress
from trainer.config import TrainerConfig
from trainer.evaluator import Evaluator
from trainer.loss import Band, Clip, Tokens, Whole, losses, outlying
from trainer.metrics import MetricsFile, TokenSums, group_values
from trainer.model import Policy
from trainer.publish import Publisher, patch_bytes
from trainer.scaling import LossScale, finite, finite_norm, unscale


class Stopped(Exception):
    """The process was asked to end while it waited."""


class WrongRun(UserError):
    """The run on the ledger is not one that this config and key can train."""


@dataclass(slots=True)
class TokenCounts:
    """How many completion tokens of each rollout entered a step's loss: what its record says."""

    tokens: Counter[tuple[bytes, int]] = field(default_factory=Counter)

    def add(self, origins: Sequence[Origin], tokens: Tokens) -> None:
        """Note one microbatch, after its outlying sequences were masked."""
        counts_S = tokens.sum_by_sequence(torch.ones_like(tokens.behaviour_N))
        for origin, count in zip(origins, counts_S.tolist(), strict=True):
            self.tokens[origin.work_digest, origin.rollout] += int(count)

    def of(self, batch: Batch) -> tuple[TrainedGroup, ...]:
        """Return every group of the batch with its counts; 0 for what was left out."""
        return tuple(
            TrainedGroup.of(
                entry, [self.tokens[entry.work_digest, i] for i in range(len(entry.rewards))]
            )
            for entry in batch.groups
        )


@dataclass(slots=True)
class Trainer:
    """All parts of one training process. `main.open_trainer` makes it."""

    config: TrainerConfig
    info: RunInfo
    client: TrainerRoutes
    stop: threading.Event
    policy: Policy
    optimizer: torch.optim.AdamW
    publisher: Publisher
    evaluator: Evaluator | None
    metrics: MetricsFile
    progress: Progress
    scale: LossScale
    asked_at: float | None = None
    """Since when it waits for a batch."""

    def train(self) -> None:
        """Run until the last version is published; `Stopped` ends it earlier, between steps."""
        if self.progress.version < 0:
            self._begin()
        elif self.progress.version > 0:
            self._ack(self.progress.version - 1)
        while self.progress.version < self.config.steps:
            self.step()
        self._finish()

    def step(self) -> None:
        """Train on one batch and publish the next version."""
        step = self.progress.version
        self.asked_at = asked_at = time.monotonic()
        batch = self._wait_for_batch(step)
        self.asked_at, taken_at = None, time.monotonic()
        selection = self._read(batch)
        counted = TokenCounts()
        values = self._learn(step, selection, counted)
        learned_at = time.monotonic()
        manifest = self.publisher.publish(step + 1, self.policy.host_weights(), counted.of(batch))
        values |= group_values(selection.groups, selection.dropped, step)
        self._evaluate(step + 1)
        waited, learning = taken_at - asked_at, learned_at - taken_at
        values |= {
            "wait_seconds": waited,
            "learn_seconds": learning,
            "step_seconds": time.monotonic() - asked_at,
            "trained_tokens_per_second": values["trained_tokens"] / learning,
            "forwarded_tokens_per_second": values["forwarded_tokens"] / learning,
        }
        self._record(step + 1, manifest, values, selection)
        self._ack(step)

    def _wait_for_batch(self, step: int) -> Batch:
        while not self.stop.is_set():
            found = self.client.batch(self.config.run_id, step)
            if not isinstance(found, Later):
                most = self.info.spec.groups_per_batch
                require_asked(len(found.groups), most, "groups of a step")
                return found
            self.stop.wait(found.seconds)
        raise Stopped

    def _begin(self) -> None:
        """Publish the starting weights, with the config and tokenizer that they need."""
        for name, digest in (
            ("config.json", self.info.spec.model_config_digest),
            ("tokenizer.json", self.info.spec.tokenizer_digest),
        ):
            data = (self.config.model_dir / name).read_bytes()
            if content_digest(data) != digest:
                raise WrongRun(f"{self.config.model_dir / name} is not the file that the run names")
            self.client.put_blob(data)
        manifest = self.publisher.publish(0, self.policy.host_weights())
        self._evaluate(0)
        self._record(0, manifest, {}, None)

    def _read(self, batch: Batch) -> Selection:
        """Fetch and decode the batch's groups, leaving out what is lost, is other work or may not be trained on."""
        spec, config, most = self.info.spec, self.config, MAX_SUBMISSION_BYTES
        groups, unreadable = [], Counter[str]()
        for entry in batch.groups:
            try:
                status = self.client.submission(batch.run_id, entry.work_digest)
                body = self.client.blob(entry.body, max_bytes=most, kind="submission")
                group = batches.read_group(
                    entry,
                    status.lease,
                    body,
                    self.info,
                    divide_by_deviation=config.divide_by_deviation,
                    mask_truncated=config.mask_truncated,
                )
            except MarketError as error:
                structlog.get_logger().warning("group cannot be read", reason=error.message)
                unreadable["malformed"] += 1
            else:
                groups.append(group)
        spent = {lease_id for leases in self.progress.spent.values() for lease_id in leases}
        selection = batches.select(
            groups, step=batch.step, max_staleness=spec.max_staleness, spent=spent
        )
        return Selection(selection.groups, selection.dropped + unreadable)

    def _learn(self, step: int, selection: Selection, counted: TokenCounts) -> dict[str, Any]:
        """Take one optimizer step; return its numbers. A batch with nothing to learn changes nothing.

        What enters the loss is noted in `counted`.
        """
        config = self.config
        num_tokens, num_sequences = batches.count(selection.groups)
        whole = Whole(num_tokens, num_sequences, self.info.spec.max_tokens)
        clip = Clip(config.clip_low, config.clip_high, config.ratio_cap)
        band = Band(config.mean_ratio_low, config.mean_ratio_high, config.absurd_ratio)
        loss_of, sums, total, forwarded = losses()[config.loss], TokenSums(), 0.0, 0
        behaviour = self._behaviour(step, selection)
        for microbatch in batches.pack(
            selection.groups, max_tokens=config.microbatch_tokens, device=config.device
        ):
            logprobs_N, entropy_N = self.policy.logprobs(microbatch)
            tokens = Tokens(
                logprobs_N=logprobs_N,
                behaviour_N=(
                    microbatch.worker_logprobs_N
                    if behaviour is None
                    else behaviour.of(microbatch, logprobs_N)
                ),
                advantages_N=microbatch.advantages_N,
                mask_N=microbatch.mask_N,
                sequence_N=microbatch.sequence_N,
                num_sequences=microbatch.num_sequences,
            )
            tokens, left_out = without_outliers(tokens, band)
            counted.add(microbatch.origins, tokens)
            loss = loss_of(tokens, clip, whole)
            total += finite(float(loss.detach()), step, self.policy.dtype)
            (loss * self.scale.value).backward()
            self.policy.collect_gradients()
            sums.add(tokens, entropy_N, clip, microbatch.worker_logprobs_N)
            sums.left_out.update(left_out)
            forwarded += len(microbatch.tokens_T)
        moved = self._apply_gradients() if sums.count else {"gradient_norm": 0.0}
        if moved.get("overflowed"):
            counted.tokens.clear()  # the record says what moved the weights
        values = sums.values() | moved
        return values | {
            "loss": total,
            "trained_tokens": counted.tokens.total(),
            "forwarded_tokens": forwarded,
            "sequences_left_out": dict(sorted(sums.left_out.items())),
        }

    def _behaviour(self, step: int, selection: Selection) -> Behaviour | None:
        """Return the log-probabilities that ratios start from; None to take workers' claims."""
        if self.config.behaviour == "worker":
            return None
        return recompute(
            self.policy,
            selection.groups,
            step=step,
            weights_of=self.publisher.weights,
            max_tokens=self.config.microbatch_tokens,
        )

    def _apply_gradients(self) -> dict[str, float]:
        """Move the masters, or leave the step out if a scaled gradient overflowed; return its numbers."""
        masters = list(self.policy.masters.values())
        used, norm = self.scale, 0.0
        is_finite = unscale(masters, used)
        self.scale = used.after(overflowed=not is_finite)
        if is_finite:
            limit = self.config.max_gradient_norm
            norm = finite_norm(torch.nn.utils.clip_grad_norm_(masters, limit))
            self.optimizer.step()
            self.policy.refresh()
        self.optimizer.zero_grad(set_to_none=True)
        values = {"gradient_norm": norm}
        if self.policy.dtype is torch.float16:
            values |= {"loss_scale": used.value, "overflowed": float(not is_finite)}
        return values

    def _evaluate(self, version: int) -> None:
        """Hand a published version to the evaluator if one is due, and report its findings."""
        if self.evaluator is None:
            return
        every = self.config.evaluate_every
        if version % every == 0 or version == self.config.steps:
            self.evaluator.measure(version, self.publisher.weights(version))
        self._tell_findings(self.evaluator)

    def _finish(self) -> None:
        """Wait for the last evaluation; training is over and published."""
        if self.evaluator is None:
            return
        self.evaluator.wake()
        if self.evaluator.is_busy():
            versions = self.evaluator.evaluations.unfinished()
            structlog.get_logger().info("waiting for the last evaluations", versions=versions)
        while self.evaluator.is_busy():
            if self.stop.wait(self.config.poll_seconds):
                raise Stopped
        self._tell_findings(self.evaluator)
        if unfinished := self.evaluator.evaluations.unfinished():
            structlog.get_logger().warning(
                "the evaluator ended early: start the trainer again to measure the rest",
                versions=unfinished,
            )

    def _tell_findings(self, evaluator: Evaluator) -> None:
        for finding in evaluator.news():
            self.metrics.show(finding)
            structlog.get_logger().info(
                "version measured", version=finding["version"], accuracy=finding["accuracy"]
            )

    def _record(
        self,
        version: int,
        manifest: Manifest,
        values: Mapping[str, Any],
        selection: Selection | None,
    ) -> None:
        """Write the version's line, then the checkpoint that makes the line count."""
        sizes = patch_bytes(manifest)
        line = {"version": version, "at": time.time(), **values}
        line["policy_digest"] = "0x" + manifest.policy_digest.hex()
        line["patch_bytes"] = sizes.get(version - 1, 0)
        line["anchor_bytes"] = manifest.size()
        self.metrics.write(line)
        spent = dict(self.progress.spent)
        if selection is not None:
            spent[version - 1] = tuple(group.lease_id for group in selection.groups)
            # Anything older is refused as stale.
            oldest = version - 2 - self.info.spec.max_staleness
            spent = {step: leases for step, leases in spent.items() if step >= oldest}
        self.progress = Progress(version, self.metrics.offset, spent, self.scale)
        checkpoint.save(
            self.config.work_dir / "checkpoints",
            self.progress,
            self.policy,
            self.optimizer,
            keep=self.config.keep_checkpoints,
        )
        shown = {key: values[key] for key in ("reward", "kl_worker_policy") if key in values}
        structlog.get_logger().info("version trained", version=version, **shown)

    def _ack(self, step: int) -> None:
        try:
            self.client.ack(self.config.run_id, step)
        except StepOutOfOrder:
            # An earlier life of this process sent it; the checkpoint is of the step after it.
            structlog.get_logger().info("step was already acknowledged", step=step)


def without_outliers(tokens: Tokens, band: Band) -> tuple[Tokens, Mapping[str, int]]:
    """Mask the sequences whose ratios are outside the band; return how many, by reason."""
    found = outlying(tokens, band)
    is_out_S = torch.stack(list(found.values())).any(0)
    counts = {reason: int(out_S.sum()) for reason, out_S in found.items() if out_S.any()}
    return replace(tokens, mask_N=tokens.mask_N & ~is_out_S[tokens.sequence_N]), counts
