"""Examine verifiers by a canary: a group whose answer was fixed before it was sent. Pure.

Whoever misjudges one loses its vote, also where it was already given; whoever misjudges a second one is accused.
Groups that wait with its vote are left alone: each has a place open, whose taker is counted without it.
"""

from collections.abc import Collection, Mapping

from orchestrator.rules.ballots import (
    Accuse,
    Announce,
    Effect,
    FailCanary,
    TakeVote,
    VoteFacts,
    VoteTerms,
)
from protocol.verdict import Outcome


def strike(
    facts: VoteFacts,
    digest: str,
    judged: Mapping[str, Outcome],
    *,
    answers: Collection[Outcome],
    terms: VoteTerms,
) -> tuple[tuple[Effect, ...], frozenset[str]]:
    """Return what it costs those of `judged` that are wrong, and who loses its vote by it.

    An answer that is nobody's of all `answers` may be a fault of whoever made the canary: a verifier fails it
    only where another passed it, or where there is no other.
    """
    answer, lost = facts.group.canary, set()
    effects: list[Effect] = []
    if answer not in answers and len(terms.verifiers) > 1:
        return (), frozenset()
    for voter in (voter for voter, vote in judged.items() if vote != answer):
        num_failed = facts.num_failed.get(voter, 0)
        effects.append(FailCanary(voter, facts.group.worker))
        if num_failed == 1:
            effects.append(Accuse(voter, digest))
        if not num_failed:
            lost.add(voter)
            told = {"verifier": voter, "digest": "0x" + digest}
            effects += [TakeVote(voter, digest), Announce("vote_lost", told)]
    return tuple(effects), frozenset(lost)
