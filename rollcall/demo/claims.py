"""Check each claim of a demo from the results alone. The audit says whether the books are right.

Pure: the results are gathered before. A claim gives its finding, whether it holds or not.
"""

from collections.abc import Callable
from dataclasses import dataclass

from rollcall.demo.results import ESCROW, Results, WorkerResult

MIN_HELD_OUT = 512
MAX_START_ACCURACY = 0.60
MIN_END_ACCURACY = 0.85


@dataclass(frozen=True, slots=True)
class Claim:
    name: str
    holds: bool
    found: str


def check_claims(results: Results) -> list[Claim]:
    """Return every claim in the order of the report."""
    checks: tuple[Callable[[Results], Claim], ...] = (
        the_model_learned,
        the_cheat_was_found,
        the_cheat_trained_nothing,
        the_cheat_was_not_paid,
        the_cheat_was_slashed,
        honest_work_was_never_rejected,
        honest_workers_were_paid_exactly,
        the_money_adds_up,
        trained_groups_were_admitted_and_fresh,
        the_audit_holds,
    )
    return [check(results) for check in checks]


def the_model_learned(results: Results) -> Claim:
    before, after = results.accuracy[0], results.accuracy[results.num_steps]
    num = results.spec.num_held_out
    return Claim(
        f"accuracy on held-out problems rises from ≤ {MAX_START_ACCURACY} to ≥ {MIN_END_ACCURACY}",
        num >= MIN_HELD_OUT and before <= MAX_START_ACCURACY and after >= MIN_END_ACCURACY,
        f"{before:.3f} → {after:.3f} on {num} problems at T = 1",
    )


def the_cheat_was_found(results: Results) -> Claim:
    cheats = _cheats(results)
    return Claim(
        "the cheat is found by replay, and what it did is named",
        bool(cheats)
        and all(
            w.standing.is_excluded and _num_caught(w) and set(w.named) == {w.does} for w in cheats
        ),
        "; ".join(
            f"{w.name}: {_num_caught(w)} group rejected, named {', '.join(w.named) or 'nothing'}; it "
            f"had sent {w.num_sent}"
            for w in cheats
        )
        or "no cheat",
    )


def the_cheat_trained_nothing(results: Results) -> Claim:
    """No group of a cheat reached a batch at all, also none that was taken after detection."""
    addresses = {w.address for w in _cheats(results)}
    sent = [group for group in results.sold if group.worker in addresses]
    trained = sum(group.trained_in >= 0 for group in sent)
    return Claim(
        "none of the cheat's work is trained on",
        bool(sent) and not trained,
        f"{trained} of its {len(sent)} groups were in a batch",
    )


def the_cheat_was_not_paid(results: Results) -> Claim:
    cheats = _cheats(results)
    claimed, credited = sum(w.claimed for w in cheats), sum(w.earned_units for w in cheats)
    return Claim(
        "the cheat is paid nothing",
        bool(cheats) and claimed == credited == 0,
        f"claimed {claimed}, credited {credited}",
    )


def the_cheat_was_slashed(results: Results) -> Claim:
    cheats = _cheats(results)
    return Claim(
        "its stake is slashed on chain",
        bool(cheats) and all(w.lost > 0 for w in cheats),
        "; ".join(f"{(w.stake + w.lost) / 10**18:g} → {w.stake / 10**18:g} tokens" for w in cheats),
    )


def honest_work_was_never_rejected(results: Results) -> Claim:
    honest = _honest(results)
    return Claim(
        "no honest group is rejected",
        bool(honest)
        and all(w.standing.accepted_groups and not w.standing.rejected_by_reason for w in honest),
        ", ".join(
            f"{w.name} {w.standing.accepted_groups} accepted, rejected "
            f"{w.standing.rejected_by_reason or 'none'}"
            for w in honest
        ),
    )


def honest_workers_were_paid_exactly(results: Results) -> Claim:
    """The audit recomputes the earnings; here, all accepted work must be in them and reach its worker."""
    honest, rate = _honest(results), results.spec.rate
    unpaid = sum(w.standing.accepted_tokens - w.earned_units for w in honest)
    return Claim(
        "honest workers are paid exactly units × rate, as the audit recomputes them",
        bool(honest)
        and not unpaid
        and all(0 < w.claimed == w.earned_units * rate == w.balance_gained for w in honest),
        ", ".join(f"{w.name} {w.claimed / 10**18:.6f} for {w.earned_units:,} units" for w in honest)
        + (f"; {unpaid} units were left unpaid" if unpaid else ""),
    )


def the_money_adds_up(results: Results) -> Claim:
    """The operator's deposit, the workers' balances and the ledger's own account are three sources."""
    paid = sum(worker.balance_gained for worker in results.workers)
    return Claim(
        "what was escrowed is paid to workers or left for the operator",
        paid + results.left == ESCROW,
        f"{ESCROW / 10**18:g} in, {paid / 10**18:.6f} paid, {results.left / 10**18:.6f} left",
    )


def trained_groups_were_admitted_and_fresh(results: Results) -> Claim:
    most = results.spec.max_staleness
    trained = [group for group in results.sold if group.trained_in >= 0]
    ages = [group.trained_in - group.policy_version for group in trained]
    num_wrong = sum(
        group.state != "accepted" or not 0 <= age <= most
        for group, age in zip(trained, ages, strict=True)
    )
    steps = {group.trained_in for group in trained}
    return Claim(
        f"every trained group was admitted and at most {most} versions old",
        bool(trained) and steps == set(range(results.num_steps)) and not num_wrong,
        f"{len(trained)} groups in {len(steps)} batches, {num_wrong} wrong, "
        f"oldest {max(ages, default=0)} versions",
    )


def the_audit_holds(results: Results) -> Claim:
    """Leaves, sums, roots and pay of every epoch; tasks, seeds, policies and replays of those drawn."""
    audit = results.audit
    differences, num_looked = audit.all_differences(), sum(e.num_looked_at for e in audit.epochs)
    return Claim(
        "`rollcall audit` recomputes every epoch from public data and finds nothing that differs",
        bool(num_looked) and not differences,
        f"{len(audit.epochs)} epoch{'s' * (len(audit.epochs) > 1)}, {sum(e.num_groups for e in audit.epochs)} groups, "
        f"{num_looked} of them looked into"
        + (f"; {len(differences)} differences: {differences[0]}" if differences else ""),
    )


def _cheats(results: Results) -> list[WorkerResult]:
    return [w for w in results.workers if w.is_cheat]


def _honest(results: Results) -> list[WorkerResult]:
    return [w for w in results.workers if not w.is_cheat]


def _num_caught(worker: WorkerResult) -> int:
    """Return how many of its groups a replay rejected."""
    rejected = worker.standing.rejected_by_reason
    return sum(n for why, n in rejected.items() if why.startswith("replay_"))
