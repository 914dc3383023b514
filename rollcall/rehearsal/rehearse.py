"""Rehearse a plan: its model opened by every role, its tasks made and scored. Nothing is sent."""

from collections.abc import Callable
from importlib.util import find_spec
from itertools import chain

from client.model_folder import TOKENIZER
from protocol.environments.registry import environment
from protocol.run import RunSpec
from protocol.user_error import UserError
from rollcall.cli.spec import RunPlan
from rollcall.frame.logs import quiet_libraries
from rollcall.rehearsal.folder import Candidate, look_at_folder
from rollcall.rehearsal.tasks import look_at_tasks


def rehearse(plan: RunPlan, spec: RunSpec, say: Callable[[str], None]) -> None:
    """Raise `UserError` for a run that some role could not run; say what its operator should know."""
    if find_spec("torch") is None or find_spec("transformers") is None:
        raise UserError(
            "a launch is rehearsed with torch and transformers, which are not here: pip install "
            "'rollcall[worker]', or launch where the trainer runs"
        )
    quiet_libraries()
    from tokenizers import Tokenizer

    candidate = Candidate(
        plan.model,
        dtype=spec.compute_dtype,
        max_prompt_tokens=spec.max_prompt_tokens,
        max_tokens=spec.max_tokens,
        temperature=spec.temperature,
    )
    made = environment(plan.environment, plan.environment_config)
    tokenizer = Tokenizer.from_file(str(plan.model / TOKENIZER))
    for found in chain(look_at_tasks(spec, made, tokenizer), look_at_folder(candidate)):
        if found.is_fatal:
            raise UserError(found.text)
        say(f"WARNING: {found.text}")
