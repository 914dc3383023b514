"""Test the verifiers with groups of known quality, and say so afterwards.

The operator's canary workers join, lease and submit like any other; this process alone knows them.
What each does (all honest, or all false) is committed to under its signature before it leases anything,
and opened once a verifier has judged one of its groups wrongly, or after `open_seconds`. A canary goes
to every verifier; it is never paid, trained on or held against its worker. Verdicts on it are counted
in `rules/votes.py`; a second failure is reported by `slashes.py`.
"""

from dataclasses import dataclass

import structlog

from orchestrator.rules import votes
from orchestrator.rules.ballots import VoteTerms
from orchestrator.run import Run
from orchestrator.services import Services
from orchestrator.store.canaries import Canary
from orchestrator.store.records import GroupRecord
from orchestrator.store.votes import Vote, Writes
from protocol.canonical import keccak256
from protocol.checks.canary import CANARY, Answer, CanaryOpening, commitment_text
from protocol.errors import NotJoined, Refused, VoteLost
from protocol.messages import CanaryInfo, CanaryInfos, GroupState, VerifierInfo, VerifierInfos
from protocol.signing import personal_digest, sign
from protocol.verdict import Outcome, Verdict


@dataclass(frozen=True, slots=True)
class Face:
    """What the public sees of a group by now."""

    state: GroupState
    rejection: str
    detail: str
    verdicts: tuple[Verdict, ...]


def face_of(
    group: GroupRecord,
    verdicts: tuple[Verdict, ...],
    canary: Canary | None,
    *,
    is_drawn_openly: bool,
) -> Face:
    """Return how a group looks from outside. Pure.

    While it waits it looks like one that was not drawn, and no vote is shown, for the next verifier could
    copy it. A canary that all have judged looks like accepted work until it is opened; then it is what it was.
    """
    if group.canary and canary is not None and canary.is_open:
        detail = f"a test of the verifiers: its replay finds {group.canary}"
        return Face(GroupState.REJECTED, CANARY, detail, verdicts)
    is_undrawn = group.state is GroupState.ACCEPTED and not verdicts
    if group.state is GroupState.REPLAY or (is_undrawn and not is_drawn_openly):
        return Face(GroupState.TAKEN, "", "", ())
    if group.canary:
        shown = tuple(v for v in verdicts if v.outcome is not Outcome.REJECTED)
        return Face(group.state, "", "", shown)
    return Face(group.state, group.rejection, group.detail[:1024], verdicts)


async def tick(services: Services, run: Run) -> None:
    """Commit to new canary workers, open those that are due, stop asking about old canaries."""
    for worker, answer in _configured(services):
        if worker not in run.canaries:
            await _commit(services, run, worker, answer)
    spent = await services.store.canaries.spent(run.run_id)
    latest = services.clock() - services.config.canaries.open_seconds
    for worker, canary in list(run.canaries.items()):
        if not canary.is_open and (worker in spent or canary.committed_at <= latest):
            await _open(services, run, canary)
    oldest = services.clock() - services.config.canaries.answer_seconds
    for digest in await services.store.canaries.overdue(run.run_id, before=oldest):
        await _end(services, run, digest)


async def _end(services: Services, run: Run, digest: bytes) -> None:
    """Examine who has answered a canary by now, and ask nobody about it any more."""
    worker, now = await services.store.groups.worker(run.run_id, digest), services.clock()
    terms = VoteTerms.of(run.chain.verifiers, threshold=run.chain.threshold)
    counted = await services.store.votes.settle(
        Vote(digest.hex(), "", worker),
        terms,
        Writes(run.run_id, len(terms.verifiers), now),
        lambda facts: votes.end_canary(facts, digest.hex(), terms, now),
    )
    notice(services, run, digest, counted.news)
    await services.store.canaries.forget(run.run_id, digest)


async def require_accountable(services: Services, run: Run, verifier: str) -> None:
    """Raise `NotJoined` where a failed canary could not cost this verifier its stake.

    The ledger takes reports about those that joined a run only.
    """
    if run.canaries:
        membership = await services.chain.membership(run.run_id, verifier)
        if not membership.is_joined:
            raise NotJoined(
                f"run {run.run_id} tests its verifiers, and {verifier} has not joined it: call "
                f"joinRun on the ledger {services.chain.domain.ledger} from that account"
            )


async def vote_lost(services: Services, run: Run, verifier: str) -> VoteLost | None:
    """Return what a verifier is told that failed a canary, with what it can do about it."""
    digest = (await services.store.verifiers.record(run.run_id, verifier)).failed_on
    if not digest:
        return None
    return VoteLost(
        f"{verifier} judged a group of known quality wrongly and has no vote in run "
        f"{run.run_id} any more: see for yourself with `rollcall verify --explain 0x{digest} "
        f"--run {run.run_id}`, mend the replay, and have the operator replace this verifier by "
        "another address (`rollcall run replace`)"
    )


def notice(services: Services, run: Run, digest: bytes, news: tuple[str, ...]) -> None:
    """Count what a vote brought to light of verifiers, and say what a person must know."""
    log = structlog.get_logger().bind(run_id=run.run_id, digest="0x" + digest.hex())
    for kind in news:
        services.metrics.verifier_findings.labels(run.run_id, kind).inc()
        if kind == "canary_contradicted":
            log.error("all verifiers contradict a canary")
        else:
            log.warning(kind.replace("_", " "))


async def room(services: Services, run: Run, worker: str) -> int | None:
    """Return how many leases a canary worker may have now, None for every other worker.

    The share is of replays handed out so far. Raises `Refused` for one that was opened, and for one that
    is past probation: of anybody else's groups a part is then drawn, so one replayed whole tells what it is.
    """
    canary = run.canaries.get(worker)
    if canary is None:
        return 0 if worker in dict(_configured(services)) else None
    if canary.is_open:
        raise Refused(
            f"canary worker {worker} is publicly known by now: leave the run with it, and name "
            "another in the orchestrator's [canaries]"
        )
    if services.clock() - canary.committed_at < 2 * services.config.chain_poll_seconds:
        return 0  # until every copy of the orchestrator knows it: none may take it for a cheat
    left = await _left(services, run, worker)
    handed, sent = await services.store.canaries.counts(run.run_id)
    held = [await services.store.leases.num_held(run.run_id, address) for address in run.canaries]
    replays = int(services.config.canaries.share * handed)
    share = 1 + replays // max(1, len(run.chain.verifiers))
    return max(0, min(left, share - sent - sum(held)))


async def _left(services: Services, run: Run, worker: str) -> int:
    """Return how many more groups of a canary worker look like a newcomer's; raise `Refused` for none."""
    record = await services.store.workers.record(run.run_id, worker)
    judged, most = record.accepted_groups if record else 0, run.spec.audit.num_probation_groups
    if judged >= most:
        raise Refused(
            f"canary worker {worker} has delivered the {most} groups of a newcomer, and later ones would "
            "be known by being replayed whole: leave the run with it, and name another in the "
            "orchestrator's [canaries]"
        )
    waiting = await services.store.workers.num_waiting(run.run_id, worker)
    return most - judged - waiting - await services.store.leases.num_held(run.run_id, worker)


def infos(run: Run) -> CanaryInfos:
    """Return every commitment, in an order that says nothing, and the openings so far."""
    found = [
        CanaryInfo(
            commitment=canary.opening.commitment(run.run_id),
            committed_at=canary.committed_at,
            signature=canary.signature,
            opening=canary.opening if canary.is_open else None,
        )
        for canary in run.canaries.values()
    ]
    return CanaryInfos(canaries=tuple(sorted(found, key=lambda info: info.commitment)))


async def verifier_infos(services: Services, run: Run) -> VerifierInfos:
    """Return how the run's verifiers have judged."""
    found, splits = [], await services.store.verifiers.splits(run.run_id)
    for verifier in run.chain.verifiers:
        record = await services.store.verifiers.record(run.run_id, verifier)
        failed_on = record.failed_on
        found.append(
            VerifierInfo(
                verifier=verifier,
                has_vote=not failed_on,
                reason=f"judged 0x{failed_on} wrongly, whose quality was known" * bool(failed_on),
                num_accepted=record.num_accepted,
                num_rejected=record.num_rejected,
                num_undecided=record.num_undecided,
                num_odd=record.num_odd,
                num_unopened=await services.store.verifiers.num_unopened(run.run_id, verifier),
                splits=splits.get(verifier, {}),
                canaries_failed=record.canaries_failed,
            )
        )
    return VerifierInfos(verifiers=tuple(found))


def _configured(services: Services) -> list[tuple[str, Answer]]:
    chosen = services.config.canaries
    honest: list[tuple[str, Answer]] = [(worker, "accepted") for worker in chosen.honest]
    return honest + [(worker, "rejected") for worker in chosen.false]


async def _commit(services: Services, run: Run, worker: str, answer: Answer) -> None:
    salt = keccak256(
        services.canary_secret + run.run_id.to_bytes(32, "big") + bytes.fromhex(worker[2:])
    )
    opening = CanaryOpening(worker=worker, answer=answer, salt=salt)
    commitment, now = opening.commitment(run.run_id), int(services.clock())
    text = commitment_text(run.run_id, commitment, now)
    signature = sign(services.key, personal_digest(text))
    canary = Canary(opening=opening, committed_at=now, signature=signature)
    run.canaries[worker], is_news = await services.store.canaries.commit(run.run_id, canary)
    if is_news:
        await services.announce(run.run_id, "canary_committed", commitment="0x" + commitment.hex())


async def _open(services: Services, run: Run, canary: Canary) -> None:
    worker, opened = canary.opening.worker, canary.model_copy(update={"is_open": True})
    await services.store.canaries.keep(run.run_id, opened)
    run.canaries[worker] = opened
    await services.announce(
        *(run.run_id, "canary_opened"),
        worker=worker,
        answer=canary.opening.answer,
        salt="0x" + canary.opening.salt.hex(),
    )
    structlog.get_logger().info("canary opened", run_id=run.run_id, worker=worker)
