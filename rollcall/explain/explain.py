"""`rollcall verify --explain`: replay one group from public data and check its verdicts.

Needs no key and trusts nobody: it checks the signatures and digests of the lease, the work, every verdict
and the policy, takes the weights from the trainer's manifests, and recomputes the positions. `view.py`
shows them.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tokenizers import Tokenizer

from audit.tasks import tokenizer_of
from client.policies import PolicyCache, PolicyUnreachable, write_model_folder
from client.public import Fetched, PublicRoutes, Reader
from protocol.checks.evidence import Consequence, consequence
from protocol.commitment import SpokeFor, check_work
from protocol.errors import BadSignature, NotFound
from protocol.messages import RunInfo, SubmissionStatus
from protocol.rollout import Submission, read_submission
from protocol.run import RunSpec
from protocol.signing import Domain, recover
from protocol.user_error import UserError
from protocol.verdict import Outcome, Rejection, ReplayStats, Thresholds, Verdict, judge
from rollout_worker.replay.hypotheses import OLDER_VERSIONS, Named, Suspect, name
from rollout_worker.replay.measure import Findings, ReplayModel, stats_of

FROM_ITS_REPLAY = frozenset(
    {
        Rejection.REPLAY_MISMATCH,
        Rejection.REPLAY_MARGIN,
        Rejection.REPLAY_LOGPROB,
    }
)
"""Rejections that one group's replay decides; others need more than the group."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """One signed verdict beside this replay."""

    verdict: Verdict
    is_reproduced: bool | None
    """None if one replay cannot tell: an undecided verdict, or one about more than this group."""
    remark: str
    num_expected: int
    """How many of its positions have the same expected token in this replay."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """All that was found about one group."""

    info: RunInfo
    status: SubmissionStatus
    engine: str
    findings: tuple[Findings, ...]
    stats: ReplayStats
    named: Named | None
    """The explanation of a group that honest work does not explain."""
    outcome: Outcome
    rejection: str
    detail: str
    judgements: tuple[Judgement, ...]
    tokenizer: Tokenizer

    @property
    def holds(self) -> bool:
        """Whether no verdict is contradicted."""
        return all(judgement.is_reproduced is not False for judgement in self.judgements)


def explain(
    reader: Reader,
    work_digest: bytes,
    *,
    run_id: int | None,
    device: str,
    fetched: Fetched,
    spoke_for: SpokeFor | None,
) -> Explanation:
    """Replay a group and judge its verdicts; raise `UserError` or `MarketError` if it cannot be had."""
    info, status = find(reader, work_digest, run_id)
    domain = Domain(info.chain_id, info.ledger)
    source = reader.telling(fetched)
    submission = read_submission(source.blob(status.body), info.spec.most_submission_bytes)
    check_work(
        *(work_digest, status.lease, submission),
        info=info,
        domain=domain,
        spoke_for=spoke_for,
    )
    replay = replayed(source, info, status, submission, domain, device=device)
    found, terms = replay.findings, info.spec
    chosen = condemned_rollouts(status, len(found))
    outcome, rejection, detail = conclude([found[i] for i in chosen], terms.thresholds)
    return Explanation(
        info=info,
        status=status,
        engine=submission.engine,
        findings=found,
        stats=stats_of(found),
        named=replay.named,
        outcome=outcome,
        rejection=rejection,
        detail=detail,
        judgements=tuple(
            compare(
                *(v, found, replay.named, terms),
                about=(info.run_id, work_digest),
                domain=domain,
                spoke_for=spoke_for,
            )
            for v in status.verdicts
        ),
        tokenizer=tokenizer_of(source.blob(info.spec.tokenizer_digest)),
    )


def find(
    reader: Reader, work_digest: bytes, run_id: int | None
) -> tuple[RunInfo, SubmissionStatus]:
    """Return the run and the standing of a submission."""
    infos = reader.runs() if run_id is None else (reader.run(run_id),)
    for info in infos:
        try:
            return info, reader.submission(info.run_id, work_digest)
        except NotFound:
            continue
    served = ", ".join(str(info.run_id) for info in infos) or "none"
    raise UserError(
        f"{reader.url} knows no submission 0x{work_digest.hex()} in its runs ({served}): digests are "
        "in receipts, events and epoch files"
    )


@dataclass(frozen=True, slots=True)
class ReplayedGroup:
    """Every position of a group, and the explanation if honest work is none."""

    findings: tuple[Findings, ...]
    named: Named | None


def replayed(
    source: PublicRoutes,
    info: RunInfo,
    status: SubmissionStatus,
    submission: Submission,
    domain: Domain,
    *,
    device: str,
) -> ReplayedGroup:
    """Fetch the leased policy and measure every position."""
    lease, spec = status.lease.lease, info.spec
    store = PolicyCache(source, run_id=info.run_id, spec=spec, domain=domain)
    try:
        policy = store.reach(lease.policy_version, lease.policy_digest)
    except PolicyUnreachable as error:
        raise UserError(f"{error}; nothing can be replayed without it") from error
    config_json = source.blob(spec.model_config_digest)
    with tempfile.TemporaryDirectory(prefix="rollcall-explain-") as folder:
        place = write_model_folder(Path(folder), config_json, policy.weights)
        model = ReplayModel(place, dtype=spec.compute_dtype, device=device)
        model.load(policy.weights)
        [found] = model.findings([(lease, submission.rollouts)])
        chosen, named = condemned_rollouts(status, len(found)), None
        stats = stats_of([found[i] for i in chosen])
        if judge(stats, spec.thresholds) is not None:
            suspect = Suspect(lease, submission.rollouts, chosen, policy.weights, stats)
            older = partial(store.older, lease.policy_version, most=OLDER_VERSIONS)
            named = name(suspect, model, older, spec.thresholds)
    return ReplayedGroup(tuple(found), named)


def condemned_rollouts(status: SubmissionStatus, size: int) -> tuple[int, ...]:
    """Return the rollouts for which a verdict rejects the group; all of them if none does."""
    condemning = (v.rollouts for v in status.verdicts if v.outcome is Outcome.REJECTED)
    found = next(condemning, ())
    return found if found and max(found) < size else tuple(range(size))


def conclude(found: Sequence[Findings], thresholds: Thresholds) -> tuple[Outcome, str, str]:
    """Return the right finding on these rollouts alone: outcome, rejection, detail."""
    broken = judge(stats_of(found), thresholds)
    if broken is None:
        return Outcome.ACCEPTED, "", "within every bound"
    return Outcome.REJECTED, broken[0].value, broken[1]


def compare(
    verdict: Verdict,
    findings: Sequence[Findings],
    named: Named | None,
    spec: RunSpec,
    *,
    about: tuple[int, bytes],
    domain: Domain,
    spoke_for: SpokeFor | None,
) -> Judgement:
    """Compare one verdict with this replay of its rollouts; `about` is (run, work)."""
    expected = [found.expected.tolist() for found in findings]
    same = sum(_at(expected, m.rollout, m.position) == m.expected for m in verdict.mismatches)

    def judged(is_reproduced: bool | None, remark: str) -> Judgement:
        return Judgement(verdict, is_reproduced, remark, same)

    flaw = signature_flaw(verdict, domain, spoke_for) or _named_elsewhere(verdict, findings)
    if (verdict.run_id, verdict.work_digest) != about:
        flaw = f"it is about work 0x{verdict.work_digest.hex()} of run {verdict.run_id}"
    if flaw:
        return judged(False, flaw)
    if verdict.outcome is Outcome.UNDECIDED:
        return judged(None, verdict.detail or "nothing was decided")
    if verdict.rejection and verdict.rejection not in FROM_ITS_REPLAY:
        return judged(None, f"{verdict.rejection} is not about this group's tokens alone")
    part = [findings[i] for i in verdict.rollouts]
    outcome, rejection, _ = conclude(part, spec.thresholds)
    if verdict.outcome is not outcome:
        return judged(False, f"found it {verdict.outcome}, this replay finds it {outcome}")
    ours = {"hypothesis": named.word, "explained": named.explained} if named else {}
    found = {"hypothesis": "", "stats": stats_of(part), **ours}
    told, here = (
        consequence(v, spec.thresholds) for v in (verdict, verdict.model_copy(update=found))
    )
    if list(Consequence).index(told) > list(Consequence).index(here):
        return judged(False, f"its figures make it {told}, this replay's make it {here}")
    return judged(True, _remark(verdict, rejection, named))


def _remark(verdict: Verdict, rejection: str, named: Named | None) -> str:
    """Return how a reproduced verdict differs from this replay, if at all."""
    if verdict.rejection != rejection:
        return f"the first bound broken here: {rejection}"
    own = named.word if named else ""
    if verdict.hypothesis != own:
        found = own or (named.detail if named else "nothing tried explains it")
        return f"as found here, but for what was done: {found}"
    drifts = "; that its worker drifts takes more than one group to see" if verdict.drifts else ""
    return f"as found here{drifts}"


def _named_elsewhere(verdict: Verdict, findings: Sequence[Findings]) -> str:
    """Return something that a verdict names but the work lacks; empty if it has everything."""
    if not set(verdict.rollouts) <= set(range(len(findings))):
        return f"it is about rollouts {list(verdict.rollouts)}, which the work has not"
    claimed = [found.claimed.tolist() for found in findings]
    for m in verdict.mismatches:
        if _at(claimed, m.rollout, m.position) != m.claimed:
            place = f"rollout {m.rollout}, position {m.position}"
            return f"it names token {m.claimed} at {place}, which the work has not"
    return ""


def signature_flaw(verdict: Verdict, domain: Domain, spoke_for: SpokeFor | None) -> str:
    """Return the flaw of a verdict's signature; empty if there is none."""
    try:
        signer = recover(domain.digest(verdict), verdict.signature)
    except BadSignature as error:
        return f"it is not signed: {error.message}"
    if signer == verdict.verifier:
        return ""
    if spoke_for is None:
        return f"signed by {signer}: give --rpc and --deployment to see whether it is its hot key"
    if spoke_for(signer, verdict.verifier, verdict.decided_at):
        return ""
    return f"signed by {signer}, not for {verdict.verifier}"


def _at(rows: Sequence[Sequence[int]], rollout: int, position: int) -> int | None:
    if rollout >= len(rows) or position >= len(rows[rollout]):
        return None
    return rows[rollout][position]
