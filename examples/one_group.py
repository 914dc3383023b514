"""One group of rollouts, from its lease to its verdict, without a market. Run it beside the reading:

    python examples/one_group.py

A lease names a task and one seed for each rollout. A worker samples the group and signs it. A verifier with
the same weights draws every token again from the same seeds and compares; it also recomputes the
log-probabilities that the worker claims. Two cheats answer the same lease: one samples from weights
rounded to four bits, the other from seeds of its own. Admission asks no model and takes all three groups.
Replay rejects the two, and says what was done. The honest group's rewards become advantages.

Each step calls the function that the market calls. What this letter leaves out, and where it lives:

- routes, sign-in, queues, pacing, receipts: `orchestrator/`
- which groups are replayed, and how many verdicts decide: `protocol/checks/draw.py`
- cheats too faint for one group: `protocol/checks/sequential.py`
- policies that change with every step and travel as patches: `protocol/policies/manifest.py`, `protocol/policies/patch.py`
- the gradient step: `trainer/loop.py`
- stake and pay: `contracts/`, `ledger/`

Keys and times are constants, so everyone gets the same lease. `docs/one-group.md` explains the output.
"""

from collections.abc import Iterable
from pathlib import Path
from textwrap import fill

import torch
from tokenizers import Tokenizer
from transformers.utils.logging import disable_progress_bar

from orchestrator.rules.admission import AdmissionTerms, admit
from orchestrator.rules.schedule import Opening, epoch_secret, make_lease
from protocol.advantage import group_advantages
from protocol.canonical import keccak256
from protocol.checks.evidence import consequence
from protocol.commitment import Commitment, commit
from protocol.environments.base import FULL_SCORE
from protocol.environments.registry import environment
from protocol.policies.manifest import Weights
from protocol.rollout import SignedLease, read_submission, work_of
from protocol.run import RunSpec
from protocol.signing import Domain, address_of, require_signer, sign
from protocol.verdict import NOTHING_MEASURED, Outcome, Statistic, Verdict, judge
from rollcall.cli.spec import RunPlan, spec_of
from rollout_worker.engines.base import Engine
from rollout_worker.engines.causal import read_weights
from rollout_worker.engines.registry import open_engine
from rollout_worker.engines.reseeded import ReseededEngine
from rollout_worker.engines.rounded import RoundedEngine
from rollout_worker.generate import generate_groups
from rollout_worker.replay.hypotheses import Suspect, name
from rollout_worker.replay.measure import ReplayModel, mismatches_of, stats_of

MODEL = Path(__file__).parents[1] / "models" / "start"
DOMAIN = Domain(chain_id=31337, ledger="0x5FbDB2315678afecb367f032d93F642f64180aa3")
"""The market that signatures are for. No chain is asked: it only enters the digests."""
NOW = 1_800_000_000
ORCHESTRATOR, TRAINER, WORKER, VERIFIER, SECRET = map(
    keccak256, (b"orchestrator", b"trainer", b"worker", b"verifier", b"secret")
)
"""Private keys, and the secret that draws tasks and seeds. Every reader has them: never fund them."""


def main() -> None:
    """Follow one honest group, and two false ones under the same lease."""
    disable_progress_bar()
    torch.set_num_threads(1)  # two threads of so small a model mostly wait for each other
    plan = RunPlan(model=MODEL)
    spec = spec_of(plan, orchestrator=address_of(ORCHESTRATOR), trainer=address_of(TRAINER))
    tokenizer = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    print(f"run     {spec.name}: {spec.num_parameters:,} parameters in {spec.compute_dtype}")

    signed = grant(spec, tokenizer)
    lease, prompt = signed.lease, tokenizer.decode(signed.lease.prompt)
    print(f"lease   {prompt} once for each of {lease.group_size} seeds, to {lease.worker}")

    policy = read_weights(MODEL / "model.safetensors")
    engine = open_engine(
        "transformers", MODEL, dtype=spec.compute_dtype, max_model_len=spec.max_model_len
    )
    honest = work(signed, spec, policy, engine)
    print(f"work    {honest.num_tokens} tokens in {len(honest.body)} bytes, signed under")
    print(f"        0x{honest.work_digest.hex()}\n")

    groups = {
        "honest": honest,
        "int4 weights": work(signed, spec, policy, RoundedEngine(engine, bits=4)),
        "own seeds": work(signed, spec, policy, ReseededEngine(engine, shift=1)),
    }
    verdicts = {who: replay(group, spec, policy) for who, group in groups.items()}
    row("", groups)
    row("admission", (admission(group, spec) for group in groups.values()))
    for statistic in Statistic:
        totals = (v.stats.total(statistic) / statistic.unit for v in verdicts.values())
        row(statistic.label, (f"{total:.4g}" for total in totals))
    row("verdict", (v.outcome for v in verdicts.values()))
    row("what was done", (v.hypothesis or "-" for v in verdicts.values()))
    row("what follows", (consequence(v, spec.thresholds) for v in verdicts.values()))
    for who, verdict in verdicts.items():
        for worst in verdict.mismatches[:1]:
            print("\n" + fill(f"{who}: {verdict.detail}", 92, subsequent_indent="  "))
            drawn, claimed = map(tokenizer.id_to_token, (worst.expected, worst.claimed))
            place = f"rollout {worst.rollout}, token {worst.position}"
            print(f"  {place}: the seed draws {drawn}, the worker claims {claimed}")

    print("\nreward  advantage  completion")
    for reward, advantage, text in lessons(honest, spec, tokenizer):
        print(f"{reward / FULL_SCORE:6.1f}  {advantage:+9.3f}  {text}")


def row(label: str, cells: Iterable[str]) -> None:
    """Print one line of the table."""
    print(f"{label:<38}" + "".join(f"{cell:>14}" for cell in cells))


# The orchestrator grants a lease before the work, and holds the work against its rules after it.


def grant(spec: RunSpec, tokenizer: Tokenizer) -> SignedLease:
    """Sign this worker's first lease. A secret draws its task and seeds: nobody chooses them."""
    task = environment(spec.environment, spec.environment_config)
    opening = Opening(
        run_id=1,
        epoch=0,
        secret=epoch_secret(SECRET, 1, 0),
        version=0,
        policy_digest=spec.model_digest,
        deadline=NOW + spec.lease_seconds,
    )
    lease = make_lease(
        spec,
        opening,
        worker=address_of(WORKER),
        nonce=1,
        prompt_of=lambda index: tokenizer.encode(task.problem(index).prompt).ids,
    )
    assert lease is not None  # its prompt is short enough
    return SignedLease(lease=lease, signature=sign(ORCHESTRATOR, DOMAIN.digest(lease)))


def admission(group: Commitment, spec: RunSpec) -> str:
    """Return the first rule that the body breaks, read as it arrives."""
    terms = AdmissionTerms(spec.vocabulary_size, spec.eos_token_ids, spec.max_staleness)
    finding = admit(
        group.lease,
        read_submission(group.body, spec.most_submission_bytes),
        terms,
        newest_version=0,
    )
    return finding.rejection if finding else "admitted"


# The worker checks the lease, samples, and signs what it sampled.


def work(signed: SignedLease, spec: RunSpec, policy: Weights, engine: Engine) -> Commitment:
    """Sample the leased group, sign it as the ledger hashes it, and pack it for the wire."""
    lease = signed.lease
    require_signer(DOMAIN.digest(lease), signed.signature, spec.orchestrator, "the lease")
    engine.load(policy)
    [rollouts] = generate_groups(engine, [lease], eos_token_ids=spec.eos_token_ids)
    return commit(
        lease, rollouts, engine=engine.name, spec=spec, domain=DOMAIN, key=WORKER, now=NOW
    )


# The verifier has the lease, the body and the policy, and believes its own replay.


def replay(group: Commitment, spec: RunSpec, policy: Weights) -> Verdict:
    """Draw every token again, judge the group, name what explains a false one, and sign."""
    lease, submission = group.lease, read_submission(group.body, spec.most_submission_bytes)
    digest = DOMAIN.digest(work_of(lease, submission, gflops=spec.gflops(submission.num_tokens())))
    require_signer(digest, submission.signature, lease.worker, "the work")
    model = ReplayModel(MODEL, dtype=spec.compute_dtype)
    model.load(policy)
    [found] = model.findings([(lease, submission.rollouts)])
    stats, chosen = stats_of(found), tuple(range(lease.group_size))
    reason, detail = judge(stats, spec.thresholds) or ("", "")
    suspect = Suspect(lease, submission.rollouts, chosen, policy, stats)
    named = name(suspect, model, lambda: iter(()), spec.thresholds)  # version 0: none is older
    verdict = Verdict(
        run_id=lease.run_id,
        work_digest=digest,
        verifier=address_of(VERIFIER),
        outcome=Outcome.REJECTED if reason else Outcome.ACCEPTED,
        rejection=str(reason),
        detail=f"{named.detail}: {detail}" if named else detail,
        rollouts=chosen,
        stats=stats,
        hypothesis=named.word if named else "",
        explained=named.explained if named else NOTHING_MEASURED,
        mismatches=mismatches_of(found),
        decided_at=NOW,
        signature=bytes(65),
    )
    return verdict.model_copy(update={"signature": sign(VERIFIER, DOMAIN.digest(verdict))})


# The orchestrator recomputes every reward, and the trainer turns them into advantages.


def lessons(
    group: Commitment, spec: RunSpec, tokenizer: Tokenizer
) -> Iterable[tuple[int, float, str]]:
    """Return reward, advantage and text of each rollout."""
    task = environment(spec.environment, spec.environment_config)
    problem = task.problem(group.lease.index)
    rollouts = read_submission(group.body, spec.most_submission_bytes).rollouts
    texts = [tokenizer.decode(rollout.token_ids().tolist()) for rollout in rollouts]
    rewards = [task.score(problem, text) for text in texts]
    return zip(rewards, group_advantages(rewards), texts, strict=True)


if __name__ == "__main__":
    main()
