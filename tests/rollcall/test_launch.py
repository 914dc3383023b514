"""A launch's terms: every setting reaches the chain, and windows that contradict are told first."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from ledger.amounts import USUAL
from protocol.user_error import UserError
from rollcall.cli.launch import params_of, warnings_of
from rollcall.cli.launch_config import LaunchConfig, Windows
from rollcall.cli.spec import RunPlan, spec_of
from rollcall.demo.deploying import require_windows, terms_of
from rollcall.demo.market import WATCHABLE
from tests.stage.world import World

ROOT = Path(__file__).parents[2]
WHO = "0x" + "11" * 20


def config(**changes: object) -> LaunchConfig:
    values = {
        "rpc_url": "http://127.0.0.1:8545",
        "deployment": Path("deployment.json"),
        "orchestrator": "http://market",
        "orchestrator_address": WHO,
        "trainer_address": WHO,
        "verifiers": ("0x" + "33" * 20, "0x" + "22" * 20, "0x" + "44" * 20),
        "threshold": 2,
        "plan": RunPlan(model=ROOT / "models/start"),
    }
    return LaunchConfig.model_validate({**values, **changes})


def test_every_term_of_a_run_reaches_the_chain(world: World) -> None:
    chosen = config(
        licence="MIT", intended_use="sums", parent_run=1, gate=WHO, windows=Windows(permit=77)
    )
    spec = spec_of(chosen.plan, orchestrator=WHO, trainer=WHO)
    params = params_of(chosen, world.deployment, spec, USUAL)
    assert (params.licence, params.intended_use, params.parent_run) == ("MIT", "sums", 1)
    assert (params.permit_period, params.gate) == (77, WHO)
    assert (params.base_model, params.num_parameters) == (spec.model_digest, spec.num_parameters)
    assert params.spec_hash == spec.canonical_digest()
    assert params.verifiers == ("0x" + "22" * 20, "0x" + "33" * 20, "0x" + "44" * 20)


def test_a_single_verifier_is_said_loudly(world: World) -> None:
    spec = spec_of(config().plan, orchestrator=WHO, trainer=WHO)
    three = params_of(config(), world.deployment, spec, USUAL)
    one = params_of(config(verifiers=(WHO,), threshold=1), world.deployment, spec, USUAL)
    assert warnings_of(three) == ()
    [warning] = warnings_of(one)
    assert warning.startswith("WARNING: this run has a single verifier")


@pytest.mark.parametrize(
    ("num", "threshold", "remedy"),
    [(1, 1, ""), (2, 2, "name 3 or more in `verifiers`, with threshold = 2"), (3, 2, ""),
     (3, 3, "name 3 or more in `verifiers`, with threshold = 2"),
     (5, 5, "name 5 or more in `verifiers`, with threshold = 4"), (5, 4, "")],
)  # fmt: skip
def test_a_run_in_which_all_must_agree_is_refused(num: int, threshold: int, remedy: str) -> None:
    values = {"verifiers": tuple(f"0x{n:040x}" for n in range(1, num + 1)), "threshold": threshold}
    if not remedy:
        config(**values)
        return
    with pytest.raises(ValidationError, match=remedy):
        config(**values)


def test_every_term_of_a_deployment_is_handed_on() -> None:
    terms = terms_of(config(guardian=WHO, arbiter=WHO, treasury=WHO, warn_gflops=9))
    assert (terms.guardian, terms.arbiter, terms.treasury) == (WHO, WHO, WHO)
    assert (terms.warn_gflops, terms.response_seconds) == (9, Windows().response)


def test_a_run_longer_than_its_model_is_refused_before_anything_is_sent() -> None:
    plan = RunPlan(model=ROOT / "models/start", max_prompt_tokens=256, max_tokens=256)
    assert spec_of(plan, orchestrator=WHO, trainer=WHO).max_model_len == 512
    longer = plan.model_copy(update={"max_tokens": 257})
    with pytest.raises(
        UserError, match=r"model's 512 positions .* lower the run's max_prompt_tokens"
    ):
        spec_of(longer, orchestrator=WHO, trainer=WHO)


@pytest.mark.parametrize("windows", [Windows(), WATCHABLE])
def test_the_usual_windows_agree(windows: Windows) -> None:
    require_windows(windows)


@pytest.mark.parametrize(
    "windows",
    [
        Windows(response=100, ruling=100, unbond=400, appeal=1, challenge=1),
        Windows(response=1, ruling=1, unbond=400, appeal=400, challenge=1),
        Windows(response=1, ruling=1, unbond=400, appeal=1, challenge=200),
    ],
)
def test_stake_that_would_leave_before_a_dispute_ends_is_told(windows: Windows) -> None:
    with pytest.raises(UserError, match=r"windows\.unbond .* must be more than"):
        require_windows(windows)
