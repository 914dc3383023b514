"""What a demo claims, each claim checked from the evidence alone.

Pure: the evidence is gathered before. A claim says what was found whether it holds or not.
"""

from collections.abc import Callable
from dataclasses import dataclass

from rollcall.demo.results import Evidence, WorkerEvidence

MIN_HELD_OUT = 512
MAX_START_ACCURACY = 0.60
MIN_END_ACCURACY = 0.85


@dataclass(frozen=True, slots=True)
class Claim:
    name: str
    holds: bool
    found: str


def check_claims(evidence: Evidence) -> list[Claim]:
    """Return every claim in the order of the report."""
    checks: tuple[Callable[[Evidence], Claim], ...] = (
        the_model_learned,
        the_cheat_was_found,
        the_cheat_trained_nothing,
        the_cheat_was_not_paid,
        the_cheat_was_slashed,
        honest_work_was_never_rejected,
        honest_workers_were_paid_exactly,
        trained_groups_were_admitted_and_fresh,
        policies_were_what_manifests_promised,
    )
    return [check(evidence) for check in checks]


def the_model_learned(evidence: Evidence) -> Claim:
    before, after = evidence.accuracy_before, evidence.accuracy_after
    enough = evidence.num_held_out >= MIN_HELD_OUT
    return Claim(
        f"accuracy on held-out problems rises from ≤ {MAX_START_ACCURACY} to ≥ {MIN_END_ACCURACY}",
        enough and before <= MAX_START_ACCURACY and after >= MIN_END_ACCURACY,
        f"{before:.3f} → {after:.3f} on {evidence.num_held_out} problems at T = 1",
    )


def the_cheat_was_found(evidence: Evidence) -> Claim:
    cheats = _cheats(evidence)
    found = [
        w for w in cheats if w.is_excluded and _replay_rejections(w) and set(w.named) == {w.does}
    ]
    after = "; ".join(
        f"{w.name}: {_replay_rejections(w)} group rejected, named {', '.join(w.named)}; it had sent "
        f"{w.groups_before_exclusion}"
        for w in found
    )
    return Claim(
        "the cheat is found by replay, and what it did is named",
        bool(cheats) and len(found) == len(cheats),
        after or "; ".join(f"{w.name}: named {w.named or 'nothing'}" for w in cheats) or "no cheat",
    )


def the_cheat_trained_nothing(evidence: Evidence) -> Claim:
    """No group of a cheat reached a batch at all, which includes all taken after detection."""
    addresses = {w.address for w in _cheats(evidence)}
    trained = [g for g in evidence.groups if g.worker in addresses and g.trained_in >= 0]
    sent = sum(g.worker in addresses for g in evidence.groups)
    return Claim(
        "none of the cheat's work is trained on",
        bool(addresses) and sent > 0 and not trained,
        f"{len(trained)} of its {sent} groups were in a batch",
    )


def the_cheat_was_not_paid(evidence: Evidence) -> Claim:
    cheats = _cheats(evidence)
    paid = sum(w.claimed + w.earned_units for w in cheats)
    return Claim(
        "the cheat is paid nothing",
        bool(cheats) and paid == 0,
        f"claimed {sum(w.claimed for w in cheats)}, credited {sum(w.earned_units for w in cheats)}",
    )


def the_cheat_was_slashed(evidence: Evidence) -> Claim:
    cheats = _cheats(evidence)
    slashed = [w for w in cheats if w.stake_after < w.stake_before]
    return Claim(
        "its stake is slashed on chain",
        bool(cheats) and len(slashed) == len(cheats),
        "; ".join(
            f"{w.stake_before / 10**18:g} → {w.stake_after / 10**18:g} tokens" for w in cheats
        ),
    )


def honest_work_was_never_rejected(evidence: Evidence) -> Claim:
    honest = _honest(evidence)
    rejected = {w.name: w.rejected_by_reason for w in honest if w.rejected_by_reason}
    idle = [w.name for w in honest if w.accepted_groups == 0]
    found = ", ".join(f"{w.name} {w.accepted_groups} accepted" for w in honest)
    if idle:
        found = f"{', '.join(idle)} sold nothing; {found}"
    return Claim(
        "no honest group is rejected",
        bool(honest) and not rejected and not idle,
        f"{rejected}; {found}" if rejected else found,
    )


def honest_workers_were_paid_exactly(evidence: Evidence) -> Claim:
    honest = _honest(evidence)
    exact = all(
        w.claimed == w.earned_units * evidence.rate == w.balance_gained and w.claimed > 0
        for w in honest
    )
    found = ", ".join(
        f"{w.name} {w.claimed / 10**18:.6f} = {w.earned_units:,} units × rate" for w in honest
    )
    unpaid = sum(w.accepted_units - w.earned_units for w in honest)
    wrong = evidence.audit.all_differences()
    return Claim(
        "honest workers are paid exactly units × rate, as recomputed from the epoch files by the audit",
        bool(honest) and exact and not unpaid and not wrong,
        found
        + (f"; {unpaid} units were left unpaid" if unpaid else "")
        + (f"; the audit found {len(wrong)} differences: {wrong[0]}" if wrong else ""),
    )


def trained_groups_were_admitted_and_fresh(evidence: Evidence) -> Claim:
    trained = [g for g in evidence.groups if g.trained_in >= 0]
    staleness = [g.trained_in - g.policy_version for g in trained]
    wrong = [
        g
        for g, age in zip(trained, staleness, strict=True)
        if g.state != "accepted" or not 0 <= age <= evidence.max_staleness
    ]
    steps = {g.trained_in for g in trained}
    complete = steps == set(range(evidence.num_steps))
    return Claim(
        f"every trained group was admitted and at most {evidence.max_staleness} versions old",
        bool(trained) and complete and not wrong,
        f"{len(trained)} groups in {len(steps)} batches, {len(wrong)} wrong, "
        f"oldest {max(staleness, default=0)} versions",
    )


def policies_were_what_manifests_promised(evidence: Evidence) -> Claim:
    used = [
        (w, version, digest) for w in evidence.workers for version, digest in w.policies.items()
    ]
    wrong = [
        f"{w.name} version {version}"
        for w, version, digest in used
        if evidence.policy_digests.get(version) != digest
    ]
    versions = {version for _, version, _ in used}
    return Claim(
        "every policy a worker used has the digest its manifest promised",
        bool(used) and not wrong,
        f"{len(used)} uses of {len(versions)} versions, {len(wrong)} differ {wrong or ''}".rstrip(),
    )


def _cheats(evidence: Evidence) -> list[WorkerEvidence]:
    return [w for w in evidence.workers if w.is_cheat]


def _honest(evidence: Evidence) -> list[WorkerEvidence]:
    return [w for w in evidence.workers if not w.is_cheat]


def _replay_rejections(worker: WorkerEvidence) -> int:
    return sum(n for why, n in worker.rejected_by_reason.items() if why.startswith("replay_"))
