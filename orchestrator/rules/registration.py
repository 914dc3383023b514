"""Which registered runs this orchestrator may serve: chain, spec and key must agree."""

from ledger.state import RunState
from protocol.errors import Refused
from protocol.run import RunSpec


def require_servable(
    run_id: int, spec: RunSpec, state: RunState, *, orchestrator: str, acts_for: str
) -> None:
    """Raise `Refused` unless the run on chain is the spec's and is this orchestrator's to serve.

    `acts_for` is the identity that the ledger says `orchestrator` signs for.
    """
    spec_hash = spec.canonical_digest()
    if state.spec_hash != spec_hash:
        raise Refused(
            f"run {run_id} has spec hash 0x{state.spec_hash.hex()} on chain, this spec "
            f"0x{spec_hash.hex()}: send the exact spec that created the run"
        )
    if spec.orchestrator != orchestrator:
        raise Refused(
            f"the spec names orchestrator {spec.orchestrator}, this one is {orchestrator}"
        )
    if acts_for != state.operator:
        # Also what keeps strangers' runs, and their settings, out of this process.
        raise Refused(
            f"{orchestrator} does not act for run {run_id}'s operator {state.operator}, so it "
            "cannot open epochs: addSigner with this orchestrator's consent, then register"
        )
    if state.rate != spec.rate:
        raise Refused(f"the spec's rate {spec.rate} is not the {state.rate} on chain")
    if (state.num_parameters, state.base_model) != (spec.num_parameters, spec.model_digest):
        # The ledger judges every leaf's gflops by its own count: all of them would be false.
        raise Refused(
            f"run {run_id} is registered for model 0x{state.base_model.hex()} of "
            f"{state.num_parameters:,} parameters, the spec names 0x{spec.model_digest.hex()} of "
            f"{spec.num_parameters:,}: create a run from the spec with `rollcall launch`"
        )
