"""A verifier in league with the orchestrator, which tells it the others' votes, and an orchestrator that lies about seals.

The colluder replays nothing. It would vote as the others did, or keep its vote back where they found otherwise.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from client.verifier import VerifierRoutes
from orchestrator.rules import votes
from orchestrator.rules.ballots import VoteFacts
from orchestrator.rules.votes import Counted
from orchestrator.store.keys import run_prefix
from protocol.messages import AuditRequest, AuditTasks, ClosedVote, GroupState
from protocol.verdict import Outcome, Seal, Verdict
from rollout_worker.verify import draws, main
from rollout_worker.verify.main import Watch
from rollout_worker.verify.verdicts import VerdictBook
from tests.orchestrator.test_canaries import BOB, deliver, examined, info
from tests.orchestrator.test_verdicts import code, one_group
from tests.stage.ground import Ground
from tests.stage.place import Party, Place, opened
from tests.stage.signer import at_the_runs_time, info_of, signer_of, verifier_of

__all__ = ["at_the_runs_time"]

ACCEPTED, REJECTED, UNDECIDED = Outcome.ACCEPTED, Outcome.REJECTED, Outcome.UNDECIDED


@pytest.fixture
def place(ground: Ground, redis_url: str, tmp_path: Path) -> Iterator[Place]:
    with opened(ground, redis_url, tmp_path / "b", num_verifiers=3, threshold=2) as place:
        yield place


def in_the_clear(count: Callable[..., Counted]) -> Callable[..., Counted]:
    """Return a count that takes any verdict at once, sealed or not."""

    def unsealed(facts: VoteFacts, *others: Any) -> Counted:
        group = replace(facts.group, seals={})
        return count(replace(facts, is_awaited=True, group=group), *others)

    return unsealed


def heard(place: Place, digest: bytes) -> set[str]:
    """Return the votes that the orchestrator knows and may tell anybody."""
    key = f"{run_prefix(place.run_id)}votes:{digest.hex()}"
    found = place.call(place.services.store.queue.hash, key)
    return {outcome.decode() for outcome in found.values()}


def vote_honestly(party: Party, digest: bytes, *, sealed: bool) -> Verdict:
    """Find a group false; send that at once, or seal it and wait."""
    party.audits()
    verdict = party.verdict(digest, REJECTED)
    answer = party.seal(verdict) if sealed else party.tell(verdict)
    assert answer.is_success
    return verdict


def collude(place: Place, digest: bytes, honest: list[tuple[Party, Verdict]]) -> None:
    """Have v0 vote by what it hears, as early as it must and as late as it can."""
    liar = place.party("v0")
    liar.audits()
    guess = liar.verdict(digest, ACCEPTED)
    if not heard(place, digest):
        assert liar.seal(guess).is_success, "else the vote is never closed"
        for party, verdict in honest:
            assert party.tell(verdict).is_success
    assert heard(place, digest) == {"rejected"}
    copied = liar.tell(liar.verdict(digest, REJECTED))
    if not copied.is_success:
        assert code(copied) == "conflicting_verdict"
        assert code(liar.tell(liar.verdict(digest, UNDECIDED))) == "conflicting_verdict"
        assert liar.tell(guess).is_success


@pytest.mark.parametrize("sealed", [False, True])
def test_a_colluder_that_hears_the_others_copies_them_only_where_votes_are_not_sealed(
    place: Place, monkeypatch: pytest.MonkeyPatch, sealed: bool
) -> None:
    if not sealed:
        monkeypatch.setattr(votes, "count", in_the_clear(votes.count))
    digest = one_group(place)
    honest = place.party("v1")
    verdict = vote_honestly(honest, digest, sealed=sealed)
    collude(place, digest, [(honest, verdict)])
    if sealed:
        assert place.state(digest) is GroupState.REPLAY
        place.party("v2").decide(digest, REJECTED)
    assert place.state(digest) is GroupState.REJECTED
    assert info(place, "v0").num_odd == int(sealed)


@pytest.mark.parametrize("sealed", [False, True])
def test_a_colluder_that_hears_the_others_passes_canaries_only_where_votes_are_not_sealed(
    ground: Ground,
    redis_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sealed: bool,
) -> None:
    if not sealed:
        monkeypatch.setattr(votes, "count", in_the_clear(votes.count))
    with examined(ground, redis_url, tmp_path, false=(BOB,)) as place:
        digest = deliver(place, BOB).work_digest
        honest = [place.party(name) for name in ("v1", "v2")]
        told = [(party, vote_honestly(party, digest, sealed=sealed)) for party in honest]
        collude(place, digest, told)
        assert info(place, "v0").has_vote != sealed


def test_nobody_s_verdict_is_taken_before_enough_have_sealed_nor_another_than_the_sealed(
    place: Place,
) -> None:
    digest, first, second = one_group(place), place.party("v0"), place.party("v1")
    for party in (first, second):
        party.audits()
    verdict = first.verdict(digest, ACCEPTED)
    assert code(first.tell(verdict)) == "vote_open", "unsealed"
    assert first.seal(verdict).is_success
    assert first.seal(verdict).is_success, "said again"
    assert code(first.seal(first.verdict(digest, REJECTED))) == "conflicting_verdict"
    assert code(first.tell(verdict)) == "vote_open", "one of two"
    assert heard(place, digest) == set() == {v.outcome for v in place.status(digest).verdicts}
    assert second.seal(second.verdict(digest, ACCEPTED)).is_success
    assert code(first.tell(first.verdict(digest, ACCEPTED, detail="x"))) == "conflicting_verdict"
    assert first.tell(verdict).json()["state"] == "replay"
    assert second.tell(second.verdict(digest, ACCEPTED)).json()["state"] == "accepted"


def test_a_seal_is_taken_of_its_verifier_alone_for_what_was_handed_to_it(place: Place) -> None:
    digest, first, second = one_group(place), place.party("v0"), place.party("v1")
    verdict = first.verdict(digest, ACCEPTED)
    assert code(first.seal(verdict)) == "audit_foreign"
    first.audits()
    assert code(second.seal(verdict)) == "malformed", "another's"
    assert code(second.seal(second.verdict(digest, ACCEPTED))) == "audit_foreign"
    second.audits()
    forged = first.sealed(verdict.model_copy(update={"verifier": second.address}))
    request = AuditRequest(count=0, seals=(forged,))
    assert code(second.post(place.path("audits"), request.to_json())) == "bad_signature"


@pytest.mark.parametrize(("seals", "lapses"), [(False, 31), (True, 61)])
def test_who_keeps_its_vote_back_holds_up_no_more_than_who_never_votes_and_is_counted(
    place: Place, seals: bool, lapses: int
) -> None:
    """v0 hears that its vote is not wanted; another is asked in its place either way, and decides."""
    digest, silent, honest = one_group(place), place.party("v0"), place.party("v1")
    silent.audits()
    verdict = silent.verdict(digest, ACCEPTED)
    if seals:
        assert silent.seal(verdict).is_success
    honest.decide(digest, REJECTED)
    assert place.party("v2").audits() == (), "it has its time"
    place.wait(lapses)
    assert place.party("v2").decide(digest, REJECTED) == "rejected"
    found = info(place, "v0")
    assert (found.num_unopened, found.num_odd) == (int(seals), 0)
    if seals:
        assert silent.tell(verdict).is_success, "late, and held against it"
        found = info(place, "v0")
        assert (found.num_unopened, found.num_odd) == (0, 1)


# An orchestrator that lies, and the verifier's own program.


def watching(place: Place, folder: Path, digest: bytes) -> Watch:
    """Start v0's program, which has found a group good before it was killed, and let it seal that."""
    book = VerdictBook(folder / f"verdicts-{place.run_id}.jsonl")
    if book.get(digest) is None:
        book.keep(place.party("v0").verdict(digest, ACCEPTED, salt=b"s" * 32))
    watch = Watch(verifier_of(place, folder), info_of(place))
    watch.step()  # takes the replay
    watch.step()  # seals what it had found
    return watch


def seal_by(place: Place, name: str, digest: bytes, **changes: Any) -> Seal:
    party = place.party(name)
    return party.sealed(party.verdict(digest, ACCEPTED, **changes))


LIES: dict[str, Callable[[Place, bytes, Seal], tuple[Seal, ...]]] = {
    "its own alone": lambda _place, _digest, own: (own, own),
    "nobody's": lambda place, digest, _: (seal_by(place, "v1", digest),) * 2,
    "a stranger's": lambda place, digest, own: (own, seal_by(place, "alice", digest)),
    "on other work": lambda place, _, own: (own, seal_by(place, "v1", b"o" * 32)),
    "forged": lambda place, digest, own: (
        own,
        place.party("alice").sealed(place.party("v1").verdict(digest, ACCEPTED)),
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_verifier_sends_nothing_before_it_holds_the_others_seals(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lie: str
) -> None:
    digest = one_group(place)
    watch = watching(place, tmp_path, digest)
    own = Seal.from_json(place.known(f"seals:{digest.hex()}", place.ground.address("v0")) or b"")
    sent: list[Verdict] = []
    monkeypatch.setattr(
        VerifierRoutes, "verdict", lambda _, __, verdict, **___: sent.append(verdict)
    )

    def show(*seals: Seal) -> None:
        closed = (ClosedVote(work_digest=digest, seals=seals),)
        answer = AuditTasks(tasks=(), closed=closed)
        monkeypatch.setattr(VerifierRoutes, "audits", lambda *_, **__: answer)
        watch.step()

    seals = LIES[lie](place, digest, own)
    show(*seals)
    assert not sent
    with monkeypatch.context() as off:
        off.setattr(main, "why_not_open", lambda *_, **__: None)
        show(*seals)
        assert [verdict.outcome for verdict in sent] == [ACCEPTED], "with the defence off"
    show(own, seal_by(place, "v1", digest))
    assert len(sent) == 2


def test_a_verifier_that_is_killed_sends_what_it_sealed(place: Place, tmp_path: Path) -> None:
    """Also where the orchestrator lost the seal meanwhile: it seals the same again."""
    digest = one_group(place)
    watching(place, tmp_path, digest)
    other = place.party("v1")
    queue, prefix = place.services.store.queue, run_prefix(place.run_id)
    key = f"{prefix}seals:{digest.hex()}"
    before = place.call(queue.hash, key)
    place.call(queue.call, "DEL", key)
    place.wait(600)  # its place is offered again, and its verdict is old by then
    other.audits()
    watch = watching(place, tmp_path, digest)
    assert place.call(queue.hash, key) == before
    assert other.decide(digest, ACCEPTED) == "replay"
    watch.step()
    assert place.state(digest) is GroupState.ACCEPTED


def test_no_epoch_is_signed_on_a_verdict_that_was_not_the_sealed_one(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """v1 showed v0 one seal, was told v0's verdict, and has another of its verdicts counted."""
    digest = one_group(place)
    for name in ("v1", "v2"):
        place.party(name).decide(digest, ACCEPTED)
    place.tick(seconds=11)
    place.tick()
    shown = seal_by(place, "v1", digest, detail="what it promised")
    book = VerdictBook(tmp_path / "verdicts")
    book.keep_seals(ClosedVote(work_digest=digest, seals=(shown,)))
    signer = signer_of(place, tmp_path)
    signer.step()
    [refused] = signer._refused.values()
    assert refused.reason.endswith("is not what it sealed")
    assert not place.epoch(0).signers
    with monkeypatch.context() as off:
        off.setattr(draws, "broken_seal", lambda *_: None)
        signer_of(place, tmp_path).step()
    assert place.epoch(0).signers == (place.ground.address("v0"),), "with the defence off"
