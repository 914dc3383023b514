"""Start one trainer (`rollcall train`) from its config and key; end it between steps on SIGINT or SIGTERM.

The wiring: which parts a trainer is made of, and the checks that they belong together.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
import torch

from client.look import look
from client.retry import Unreachable
from client.trainer import TrainerRoutes, open_trainer_routes
from local.voice import stop_on_signals, telling
from protocol.messages import RunInfo
from protocol.policies.manifest import entries, policy_digest
from protocol.signing import Domain, address_of
from protocol.user_error import UserError, one_line
from trainer import checkpoint
from trainer.checkpoint import Progress
from trainer.config import TrainerConfig
from trainer.evaluator import Evaluator, evaluations_of
from trainer.loop import Stopped, Trainer, WrongRun
from trainer.metrics import MetricsFile
from trainer.model import Policy, open_policy
from trainer.opening import compute_alike
from trainer.publish import Plan, Publisher
from trainer.scaling import first_scale


def main(config: TrainerConfig, key: bytes) -> None:
    """Train the run to `config.steps`, or until a signal; return either way."""
    stop = threading.Event()
    require_device(config.device)
    compute_alike(config.threads)  # a recomputed step must give the published digest
    log = structlog.get_logger()
    require_served(config)
    try:
        with (
            open_trainer_routes(
                config.orchestrator, config.run_id, key, give_up=stop.is_set
            ) as client,
            open_trainer(config, key, client, stop) as trainer,
            telling("trained", lambda: progress(trainer)),
        ):
            stop_on_signals(stop, "finishing the step in hand")
            trainer.train()
    except (Stopped, Unreachable):
        if not stop.is_set():
            raise
        log.info("stopped on request; the last checkpoint is where training goes on")
        return
    remedy = f"its operator ends it: rollcall run stop {config.run_id}"
    log.info("training is complete; the run stays open", version=config.steps, remedy=remedy)


def require_device(device: str) -> None:
    """Raise `UserError` where torch has no such device here."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"device = {device} is not here ({one_line(error)[:120]}): set device to cpu, or to cuda where a GPU is"
        ) from error


def require_served(config: TrainerConfig) -> None:
    """Raise `UserError` where no orchestrator answers, or not for this run, before a model is read."""
    served = [info.run_id for info in look(config.orchestrator)]
    if config.run_id not in served:
        names = f"runs {', '.join(map(str, served))}" if served else "no run"
        raise UserError(
            f"run {config.run_id} is not served at {config.orchestrator}, which serves {names}: set run_id"
        )


def progress(trainer: Trainer) -> dict[str, object]:
    """Return how far a trainer is, and since when it waits."""
    since = trainer.asked_at
    waits_for = f"groups, for {time.monotonic() - since:.0f} s" if since else ""
    return {"version": trainer.progress.version, "of": trainer.config.steps, "waits_for": waits_for}


@contextmanager
def open_trainer(
    config: TrainerConfig, key: bytes, client: TrainerRoutes, stop: threading.Event
) -> Iterator[Trainer]:
    """Check that run, key and model fit, take up the newest checkpoint, and lend the trainer."""
    info = client.run(config.run_id)
    spec = info.spec
    if spec.trainer != address_of(key):
        raise WrongRun(
            f"run {config.run_id} takes policies from {spec.trainer}, not from this key: set ROLLCALL_KEY to that account's"
        )
    policy, weights = open_policy(
        config.model_dir,
        device=config.device,
        compute_dtype=spec.compute_dtype,
        temperature=spec.temperature,
        logits_chunk=config.logits_chunk,
    )
    if policy_digest(entries(weights)) != spec.model_digest:
        raise WrongRun(
            f"{config.model_dir} does not hold the weights that the run starts from: set model_dir to its model"
        )
    optimizer = _adamw(config, policy)
    found = checkpoint.load(config.work_dir / "checkpoints", policy, optimizer)
    progress = found or Progress(
        version=-1, metrics_offset=0, spent={}, scale=first_scale(policy.dtype)
    )
    publisher = _publisher(config, info, client, key)
    if found is not None:
        publisher.resume(progress.version, policy.host_weights())
        structlog.get_logger().info("resumed from a checkpoint", version=progress.version)
    metrics = MetricsFile(
        config.work_dir,
        offset=progress.metrics_offset,
        version=progress.version,
        tensorboard=config.tensorboard,
    )
    evaluator = _evaluator(config, info)
    try:
        yield Trainer(
            config=config,
            info=info,
            client=client,
            stop=stop,
            policy=policy,
            optimizer=optimizer,
            publisher=publisher,
            evaluator=evaluator,
            metrics=metrics,
            progress=progress,
            scale=progress.scale,
        )
    finally:
        if evaluator is not None:
            evaluator.close()
        metrics.close()


def _adamw(config: TrainerConfig, policy: Policy) -> torch.optim.AdamW:
    return torch.optim.AdamW(
        list(policy.masters.values()),
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        weight_decay=config.weight_decay,
        fused=True,
    )


def _publisher(
    config: TrainerConfig, info: RunInfo, client: TrainerRoutes, key: bytes
) -> Publisher:
    return Publisher(
        client=client,
        domain=Domain(info.chain_id, info.ledger),
        run_id=config.run_id,
        spec=info.spec,
        key=key,
        plan=Plan(config.anchor_every, config.skip_patches),
        divides_by_deviation=config.divide_by_deviation,
    )


def _evaluator(config: TrainerConfig, info: RunInfo) -> Evaluator | None:
    if config.evaluate_every == 0 or info.spec.num_held_out == 0:
        return None
    evaluations = evaluations_of(config)
    return Evaluator(config, info.spec, evaluations, num_told=len(evaluations.findings()))
