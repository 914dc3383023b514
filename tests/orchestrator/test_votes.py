"""Votes: each rung of the ladder from both sides, and what attackers try. Those that meet: `test_vote_races.py`."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.rules.ballots import (
    SPLIT,
    Accept,
    Accuse,
    Announce,
    Ask,
    Ballots,
    Cast,
    CloseCanary,
    CloseVote,
    Exclude,
    FailCanary,
    FreePlace,
    HideBallot,
    KeepSeal,
    NoteAlarm,
    NoteGross,
    NoteOdd,
    NoteSplit,
    Pause,
    RecordVote,
    Reject,
    ShowBallots,
    StartReport,
    Suspicion,
    TakeVote,
    VoteFacts,
    VoteTerms,
)
from orchestrator.rules.votes import UNDECIDED_SECONDS, Counted, Reply, count, end_canary, seal
from protocol.checks.evidence import Consequence
from protocol.messages import GroupState
from protocol.verdict import Outcome, Seal

ACCEPTED, REJECTED, UNDECIDED = Outcome.ACCEPTED, Outcome.REJECTED, Outcome.UNDECIDED
WORKER, GROUP, NOW = "0xworker", "aa", 1_000.0
THREE = VoteTerms.of(("v0", "v1", "v2"), threshold=2)
FIVE = VoteTerms.of(("v0", "v1", "v2", "v3", "v4"), threshold=3)
ONE = VoteTerms.of(("v0",), threshold=1)
ALL = ("v0", "v1", "v2", "v3", "v4", "v9", "stranger")
SECONDS = 30.0


def facts(
    votes: Mapping[str, Outcome] | None = None,
    findings: Mapping[str, Consequence] | None = None,
    *,
    state: GroupState = GroupState.REPLAY,
    found: str = "",
    canary: str = "",
    worker: Suspicion | None = None,
    **more: Any,
) -> VoteFacts:
    """Facts about a group on which everybody has sealed, and the voter's verdict is awaited."""
    seals = {voter: voter for voter in ALL}
    ballots = Ballots(WORKER, state, found, canary, seals, votes or {}, findings or {})
    known = VoteFacts(ballots, worker or Suspicion(), is_handed=True, is_awaited=True)
    return replace(known, **more)


def cast(verifier: str, outcome: Outcome, finding: str = "", **more: Any) -> Cast:
    usual = "unpaid" if outcome is REJECTED else "none"
    fields: dict[str, Any] = {
        "rejection": "replay_mismatch",
        "detail": "why",
        "is_reportable": True,
        "evidence": verifier,
    } | more
    return Cast(GROUP, verifier, outcome, Consequence(finding or usual), **fields)


def of(counted: Counted, *kinds: type[Any]) -> list[Any]:
    return [effect for effect in counted.effects if isinstance(effect, kinds)]


def does(facts: VoteFacts, vote: Cast, terms: VoteTerms = THREE) -> Counted:
    return count(facts, vote, terms, NOW)


def after(known: VoteFacts, counted: Counted) -> VoteFacts:
    """Return the facts that a vote on a group of no canary leaves behind."""
    ballots, worker = known.group, known.worker
    for effect in counted.effects:
        match effect:
            case RecordVote(_, verifier, outcome, finding):
                votes = {**ballots.votes, verifier: outcome}
                findings = {**ballots.findings, verifier: finding}
                ballots = replace(ballots, votes=votes, findings=findings)
            case CloseVote(_, found):
                ballots = replace(ballots, found=found)
            case NoteGross(_, digest):
                worker = replace(worker, gross=worker.gross | {digest})
            case Exclude():
                worker = replace(worker, is_sanctioned=True)
    ballots = replace(ballots, state=counted.state)
    return replace(known, group=ballots, worker=worker)


# Who may vote, and how often.


def test_only_whom_the_replay_was_handed_to_votes() -> None:
    counted = does(facts(is_handed=False), cast("v0", REJECTED))
    assert (counted.reply, counted.effects) == (Reply.FOREIGN, ())


@pytest.mark.parametrize(
    ("first", "second", "reply"),
    [
        (ACCEPTED, ACCEPTED, Reply.SAME),
        (ACCEPTED, REJECTED, Reply.CONFLICT),
        (REJECTED, ACCEPTED, Reply.CONFLICT),
        (REJECTED, UNDECIDED, Reply.SAME),
        (UNDECIDED, UNDECIDED, Reply.SAME),
        (UNDECIDED, REJECTED, Reply.COUNTED),
    ],
)
def test_a_vote_stands_and_an_undecided_one_may_be_decided(
    first: Outcome, second: Outcome, reply: Reply
) -> None:
    counted = does(facts({"v0": first}), cast("v0", second))
    assert counted.reply is reply
    assert bool(counted.effects) == (reply is Reply.COUNTED)
    assert counted.earlier == (None if reply is Reply.COUNTED else first)


def test_a_double_vote_of_the_only_rejecting_verifier_condemns_nobody() -> None:
    known = facts()
    for _ in range(3):
        counted = does(known, cast("v0", REJECTED, "named"))
        known = after(known, counted)
    assert counted.reply is Reply.SAME
    assert known.group.state is GroupState.REPLAY


def test_an_undecided_replay_is_offered_again_and_shown_at_once() -> None:
    counted = does(facts(), cast("v0", UNDECIDED))
    assert FreePlace(GROUP, "v0", NOW + UNDECIDED_SECONDS) in counted.effects
    assert [e.kind for e in of(counted, Announce)] == ["verdict"]
    assert not of(counted, HideBallot, Ask)


def test_a_decided_vote_is_hidden_until_the_group_is_decided() -> None:
    first = does(facts(), cast("v0", ACCEPTED))
    assert of(first, HideBallot) and not of(first, Announce, ShowBallots)
    second = does(facts({"v0": ACCEPTED}), cast("v1", ACCEPTED))
    assert of(second, ShowBallots) == [ShowBallots(GROUP)]
    kinds = [type(effect) for effect in second.effects]
    assert kinds.index(HideBallot) < kinds.index(ShowBallots)


# Seals.


def sealed(verifier: str, evidence: int = 1) -> Seal:
    return Seal.model_construct(
        run_id=1,
        work_digest=bytes.fromhex(GROUP),
        verifier=verifier,
        evidence_digest=bytes([evidence] * 32),
        signature=bytes(65),
    )


def with_seals(known: VoteFacts, *seals: Seal) -> VoteFacts:
    held = {one.verifier: one.evidence_digest.hex() for one in seals}
    return replace(known, group=replace(known.group, seals=held))


def seals(known: VoteFacts, one: Seal, terms: VoteTerms = THREE) -> Counted:
    return seal(known, one, terms, NOW, seconds=SECONDS)


def test_a_verifier_seals_once_what_was_handed_to_it_while_it_is_open() -> None:
    known = with_seals(facts(), sealed("v0", 1))
    assert seals(known, sealed("v0", 1)).reply is Reply.SAME
    assert seals(known, sealed("v0", 2)).reply is Reply.CONFLICT
    assert seals(replace(with_seals(facts()), is_handed=False), sealed("v0")).reply is Reply.FOREIGN
    decided = seals(with_seals(facts(state=GroupState.ACCEPTED)), sealed("v0"))
    assert (decided.reply, decided.effects) == (Reply.SAME, ())
    kept = seals(known, sealed("v1")).effects
    assert kept == (KeepSeal(GROUP, "v1", NOW + 2 * SECONDS, ("v0", "v1")),)


@pytest.mark.parametrize(
    ("terms", "held", "awaited"),
    [
        (ONE, [], ("v0",)),
        (THREE, [], ()),
        (THREE, ["v1"], ("v0", "v1")),
        (THREE, ["v9"], ()),
        (FIVE, ["v1"], ()),
        (FIVE, ["v1", "v4"], ("v0", "v1", "v4")),
    ],
)
def test_as_many_seals_as_votes_accept_close_a_vote(
    terms: VoteTerms, held: list[str], awaited: tuple[str, ...]
) -> None:
    counted = seals(with_seals(facts(), *map(sealed, held)), sealed("v0"), terms)
    assert [kept.awaited for kept in of(counted, KeepSeal)] == [awaited]


def test_seals_of_those_without_a_vote_close_nothing_and_who_voted_is_not_awaited() -> None:
    lost = with_seals(facts(voteless=frozenset({"v1"})), sealed("v1"))
    [open_yet] = of(seals(lost, sealed("v0")), KeepSeal)
    assert open_yet.awaited == ()
    also = with_seals(facts(voteless=frozenset({"v1"})), sealed("v1"), sealed("v2"))
    [awaits] = of(seals(also, sealed("v0")), KeepSeal)
    assert awaits.awaited == ("v0", "v1", "v2"), "it still answers for what it sealed"
    told = with_seals(facts({"v1": REJECTED, "v2": UNDECIDED}), sealed("v1"), sealed("v2"))
    [awaits] = of(seals(told, sealed("v0")), KeepSeal)
    assert awaits.awaited == ("v0", "v2")


def test_a_verdict_counts_only_as_it_was_sealed_and_once_the_vote_is_closed() -> None:
    two = with_seals(facts(), sealed("v0"), sealed("v1"))
    own = sealed("v0").evidence_digest.hex()
    assert does(two, cast("v0", ACCEPTED, evidence=own)).reply is Reply.COUNTED
    assert does(two, cast("v0", REJECTED, evidence="22" * 32)).reply is Reply.CONFLICT
    early = does(replace(two, is_awaited=False), cast("v0", ACCEPTED, evidence=own))
    assert (early.reply, early.effects) == (Reply.EARLY, ())
    unsealed = replace(with_seals(facts()), is_awaited=False)
    assert does(unsealed, cast("v2", ACCEPTED)).reply is Reply.EARLY


def test_who_sealed_a_vote_cannot_call_it_undecided() -> None:
    """It would have its place offered again, and its vote forgotten, once it was told how others voted."""
    sealed_it = with_seals(facts(), sealed("v0"), sealed("v1"))
    assert does(sealed_it, cast("v0", UNDECIDED)).reply is Reply.CONFLICT
    assert does(with_seals(facts()), cast("v0", UNDECIDED)).reply is Reply.COUNTED


# How many votes decide.


@pytest.mark.parametrize(
    ("terms", "votes", "state"),
    [
        (ONE, [ACCEPTED], "accepted"),
        (ONE, [REJECTED], "rejected"),
        (THREE, [ACCEPTED], "replay"),
        (THREE, [ACCEPTED, ACCEPTED], "accepted"),
        (THREE, [REJECTED], "replay"),
        (THREE, [REJECTED, REJECTED], "rejected"),
        (THREE, [REJECTED, ACCEPTED, REJECTED], "rejected"),
        (THREE, [REJECTED, ACCEPTED, ACCEPTED], "accepted"),
        (FIVE, [REJECTED, REJECTED, ACCEPTED, ACCEPTED], "replay"),
        (FIVE, [REJECTED, REJECTED, ACCEPTED, ACCEPTED, REJECTED], "rejected"),
        (VoteTerms.of(("v0", "v1"), threshold=1), [REJECTED], "replay"),
        (VoteTerms.of(("v0", "v1"), threshold=1), [ACCEPTED], "accepted"),
        (VoteTerms.of(("v0", "v1"), threshold=1), [REJECTED, ACCEPTED], "accepted"),
        (VoteTerms.of(("v0", "v1"), threshold=2), [REJECTED, ACCEPTED], "replay"),
        (VoteTerms.of(("v0", "v1", "v2"), threshold=3), [ACCEPTED, ACCEPTED, REJECTED], "replay"),
        (VoteTerms.of(("v0", "v1"), threshold=1), [REJECTED, REJECTED], "rejected"),
    ],
)
def test_both_sides_of_each_quorum(terms: VoteTerms, votes: list[Outcome], state: str) -> None:
    known = facts()
    for verifier, outcome in zip(terms.verifiers, votes, strict=False):
        known = after(known, does(known, cast(verifier, outcome), terms))
    assert known.group.state == state


def test_an_open_group_asks_for_as_many_more_as_could_decide_it() -> None:
    assert of(does(facts(), cast("v0", ACCEPTED)), Ask) == [Ask(GROUP, 1, NOW)]
    assert of(does(facts(), cast("v0", ACCEPTED), FIVE), Ask) == [Ask(GROUP, 2, NOW)]
    split = facts({"v0": ACCEPTED, "v1": REJECTED})
    assert of(does(split, cast("v2", REJECTED), FIVE), Ask) == [Ask(GROUP, 1, NOW)]


def test_where_all_disagree_the_group_waits_for_another_verifier() -> None:
    two = VoteTerms.of(("v0", "v1"), threshold=2)
    counted = does(facts({"v0": ACCEPTED}), cast("v1", REJECTED), two)
    assert counted.state is GroupState.REPLAY
    assert of(counted, NoteSplit) == [NoteSplit(GROUP, (("v0", "v1"),))]
    assert counted.news == ("split",)
    assert of(counted, Ask) == [Ask(GROUP, 1, NOW)]
    assert not of(counted, Accept, Reject, CloseVote, ShowBallots, NoteOdd)
    agreed = does(facts({"v0": ACCEPTED}), cast("v1", ACCEPTED), two)
    assert of(agreed, Accept) and not of(agreed, NoteSplit)


@pytest.mark.parametrize(("vote", "state"), [(ACCEPTED, "accepted"), (REJECTED, "rejected")])
def test_who_takes_a_verifiers_place_decides_a_split(vote: Outcome, state: str) -> None:
    """v1 left: its vote counts no more, and the newcomer agrees with one of those that stayed."""
    waits = facts({"v0": vote, "v1": ACCEPTED if vote is REJECTED else REJECTED}, found=SPLIT)
    terms = VoteTerms.of(("v0", "v2"), threshold=2)
    counted = does(waits, cast("v2", vote), terms)
    assert counted.state == state
    assert of(counted, CloseVote) == [CloseVote(GROUP, state)]


def test_each_pair_is_counted_once_for_a_group_that_waits() -> None:
    four = VoteTerms.of(("v0", "v1", "v2", "v3"), threshold=3)
    votes = {"v0": ACCEPTED, "v1": ACCEPTED, "v2": REJECTED}
    first = does(facts(votes), cast("v3", REJECTED), four)
    pairs = (("v0", "v2"), ("v0", "v3"), ("v1", "v2"), ("v1", "v3"))
    assert of(first, NoteSplit) == [NoteSplit(GROUP, pairs)]
    replaced = VoteTerms.of(("v0", "v1", "v2", "v4"), threshold=3)
    known = facts({**votes, "v3": REJECTED}, found=SPLIT)
    again = does(known, cast("v4", REJECTED), replaced)
    assert of(again, NoteSplit) == [NoteSplit(GROUP, (("v0", "v4"), ("v1", "v4")))]


def test_fewer_voters_than_the_threshold_decide_nothing() -> None:
    lost = facts({"v0": ACCEPTED}, voteless=frozenset({"v1", "v2"}))
    counted = does(lost, cast("v1", REJECTED))
    assert counted.state is GroupState.REPLAY
    assert not of(counted, NoteSplit), "one is left: it splits with nobody"
    one_lost = facts({"v0": ACCEPTED}, voteless=frozenset({"v2"}))
    assert of(does(one_lost, cast("v1", REJECTED)), NoteSplit)


def test_votes_of_strangers_and_of_those_without_a_vote_do_not_count() -> None:
    assert does(facts({"v9": REJECTED}), cast("v0", REJECTED)).state is GroupState.REPLAY
    voteless = facts({"v1": REJECTED}, voteless=frozenset({"v1"}))
    assert does(voteless, cast("v0", REJECTED)).state is GroupState.REPLAY


@pytest.mark.parametrize(
    ("found", "vote", "is_odd"),
    [
        ("accepted", REJECTED, True),
        ("accepted", ACCEPTED, False),
        ("rejected", ACCEPTED, True),
        ("", REJECTED, False),
    ],
)
def test_a_late_vote_changes_nothing_and_is_held_against_the_decision(
    found: str, vote: Outcome, is_odd: bool
) -> None:
    decided = GroupState.REJECTED if found == "rejected" else GroupState.ACCEPTED
    known = facts({"v0": ACCEPTED, "v1": ACCEPTED}, state=decided, found=found)
    counted = does(known, cast("v2", vote, "named" if vote is REJECTED else ""))
    assert counted.state is decided
    assert not of(counted, Accept, Reject, Exclude, StartReport, NoteGross)
    assert of(counted, ShowBallots) == [ShowBallots(GROUP)], "it is counted and told at once"
    assert bool(of(counted, NoteOdd)) == is_odd
    assert counted.news == (("odd_one_out",) if is_odd else ())


def test_whom_a_quorum_overrules_is_the_odd_one() -> None:
    counted = does(facts({"v0": ACCEPTED, "v1": REJECTED}), cast("v2", REJECTED))
    assert of(counted, NoteOdd) == [NoteOdd("v0")]
    undecided = does(facts({"v0": UNDECIDED, "v1": REJECTED}), cast("v2", REJECTED))
    assert not of(undecided, NoteOdd)


# What follows from a rejected group.


@pytest.mark.parametrize(
    ("terms", "findings", "follows"),
    [
        (THREE, ["unpaid", "unpaid"], ""),
        (THREE, ["named", "unpaid"], ""),
        (THREE, ["gross", "unpaid"], ""),
        (THREE, ["gross", "gross"], "noted"),
        (THREE, ["named", "gross"], "noted"),
        (THREE, ["named", "named"], "excluded"),
        (FIVE, ["named", "named", "unpaid"], ""),
        (FIVE, ["named", "named", "gross"], "noted"),
        (FIVE, ["named", "named", "named"], "excluded"),
        (ONE, ["gross"], "noted"),
        (ONE, ["named"], "excluded"),
    ],
)
def test_the_ladder_of_one_group(terms: VoteTerms, findings: list[str], follows: str) -> None:
    known = facts()
    for verifier, finding in zip(terms.verifiers, findings, strict=False):
        counted = does(known, cast(verifier, REJECTED, finding), terms)
        known = after(known, counted)
    assert counted.state is GroupState.REJECTED
    assert bool(of(counted, NoteGross)) == (follows == "noted")
    assert bool(of(counted, Exclude)) == (follows == "excluded")
    assert of(counted, StartReport) == ([StartReport(GROUP, "")] if follows == "excluded" else [])


def test_the_second_gross_group_takes_the_stake_and_names_the_first() -> None:
    voted = {"v0": REJECTED}, {"v0": Consequence.GROSS}
    first = does(facts(*voted), cast("v1", REJECTED, "gross"))
    assert not of(first, Exclude)
    known = facts(*voted, worker=Suspicion(gross=frozenset({"bb"})))
    second = does(known, cast("v1", REJECTED, "gross"))
    assert of(second, StartReport) == [StartReport(GROUP, "bb")]
    same = facts(*voted, worker=Suspicion(gross=frozenset({GROUP})))
    assert not of(does(same, cast("v1", REJECTED, "gross")), Exclude), (
        "a group is no second to itself"
    )


def test_who_is_excluded_is_neither_excluded_nor_reported_again() -> None:
    voted = {"v0": REJECTED}, {"v0": Consequence.NAMED}
    out = facts(*voted, worker=Suspicion(is_sanctioned=True))
    counted = does(out, cast("v1", REJECTED, "named"))
    assert of(counted, Reject) and not of(counted, Exclude, StartReport)


def test_without_a_stake_there_is_no_report() -> None:
    voted = {"v0": REJECTED}, {"v0": Consequence.NAMED}
    counted = does(facts(*voted), cast("v1", REJECTED, "named", is_reportable=False))
    assert of(counted, Exclude) and not of(counted, StartReport)


@pytest.mark.parametrize(("terms", "others", "pauses"), [(THREE, 0, False), (THREE, 1, True),
    (FIVE, 1, False), (FIVE, 2, True), (ONE, 0, True)])  # fmt: skip
def test_as_many_alarms_pause_as_votes_condemn(terms: VoteTerms, others: int, pauses: bool) -> None:
    alarms = frozenset(terms.verifiers[1 : 1 + others])
    counted = does(
        facts(worker=Suspicion(alarms=alarms)), cast("v0", ACCEPTED, is_alarm=True), terms
    )
    assert of(counted, NoteAlarm) == [NoteAlarm(WORKER, "v0")]
    assert of(counted, Pause) == ([Pause(WORKER, "why")] if pauses else [])
    assert ("worker_paused" in counted.news) == pauses


def test_alarms_of_one_verifier_or_of_one_without_a_vote_pause_nobody() -> None:
    alone = facts(worker=Suspicion(alarms=frozenset({"v0"})))
    assert not of(does(alone, cast("v0", ACCEPTED, is_alarm=True)), Pause)
    lost = facts(worker=Suspicion(alarms=frozenset({"v1"})), voteless=frozenset({"v1"}))
    assert not of(does(lost, cast("v0", ACCEPTED, is_alarm=True)), Pause)
    silent = facts(voteless=frozenset({"v0"}), worker=Suspicion(alarms=frozenset({"v1"})))
    assert not of(does(silent, cast("v0", ACCEPTED, is_alarm=True)), NoteAlarm, Pause)


# Canaries.


def test_nobody_is_examined_before_the_last_has_answered_or_the_time_is_over() -> None:
    """A vote lost meanwhile would tell whoever has still to answer what the answer is."""
    known = facts({"v0": ACCEPTED}, canary="rejected")
    early = does(known, cast("v1", REJECTED))
    assert not of(early, FailCanary, TakeVote, Announce, ShowBallots, CloseCanary)
    last = does(facts({"v0": ACCEPTED, "v1": REJECTED}, canary="rejected"), cast("v2", REJECTED))
    over = end_canary(facts({"v0": ACCEPTED, "v1": REJECTED}, canary="rejected"), GROUP, THREE, NOW)
    for counted in (last, over):
        assert of(counted, FailCanary) == [FailCanary("v0", WORKER)]
        assert of(counted, TakeVote) == [TakeVote("v0", GROUP)]
        assert counted.news == ("vote_lost",)
        assert of(counted, CloseCanary) and counted.state is GroupState.ACCEPTED
        assert not of(counted, Accept, Reject, Exclude), "it is held against no worker"


def test_an_answer_that_nobody_confirms_fails_no_canary() -> None:
    alone = end_canary(facts({"v0": ACCEPTED}, canary="rejected"), GROUP, THREE, NOW)
    assert of(alone, CloseCanary) and not of(alone, FailCanary), "the canary may be wrong"
    assert not alone.news, "the others were silent"
    closed = facts({"v0": ACCEPTED}, canary="rejected", state=GroupState.ACCEPTED)
    assert not end_canary(closed, GROUP, THREE, NOW).effects, "it ends once"


def test_a_single_verifier_is_examined_by_the_answer_alone() -> None:
    known = facts(canary="rejected")
    assert of(does(known, cast("v0", ACCEPTED), ONE), TakeVote)
    right = does(known, cast("v0", REJECTED), ONE)
    assert of(right, CloseCanary) and not of(right, FailCanary)


def test_an_answer_after_the_end_is_examined_alone() -> None:
    known = facts({"v0": ACCEPTED, "v1": REJECTED}, canary="rejected", state=GroupState.ACCEPTED)
    assert of(does(known, cast("v2", ACCEPTED)), FailCanary) == [FailCanary("v2", WORKER)]
    assert not of(does(known, cast("v2", REJECTED)), FailCanary)


@pytest.mark.parametrize(("num_failed", "loses", "accused"), [(0, 1, 0), (1, 0, 1), (2, 0, 0)])
def test_the_first_failure_costs_the_vote_and_the_second_the_stake(
    num_failed: int, loses: int, accused: int
) -> None:
    votes = {"v0": ACCEPTED, "v1": REJECTED}
    known = facts(votes, canary="rejected", num_failed={"v0": num_failed})
    counted = does(known, cast("v2", REJECTED))
    assert len(of(counted, TakeVote)) == loses
    assert of(counted, Accuse) == [Accuse("v0", GROUP)] * accused


def test_a_lost_vote_counts_no_more_where_it_was_given() -> None:
    """A group that waits with it has a place open: who takes that asks for as many as are wanted then."""
    lost = facts({"v0": ACCEPTED}, voteless=frozenset({"v0"}))
    counted = does(lost, cast("v1", ACCEPTED))
    assert counted.state is GroupState.REPLAY
    assert of(counted, Ask) == [Ask(GROUP, 1, NOW)], "one accepting vote is left of two needed"
    split = facts({"v0": REJECTED, "v1": ACCEPTED}, voteless=frozenset({"v0"}))
    counted = does(split, cast("v2", REJECTED))
    assert of(counted, NoteSplit) == [NoteSplit(GROUP, (("v1", "v2"),))], "the two left disagree"


@given(st.dictionaries(st.sampled_from(FIVE.verifiers), st.sampled_from((ACCEPTED, REJECTED))),
       st.sets(st.sampled_from(FIVE.verifiers)), st.sampled_from(FIVE.verifiers))  # fmt: skip
def test_a_group_that_stays_open_asks_for_enough_to_decide_it_and_for_one_at_least(
    votes: dict[str, Outcome], voteless: set[str], voter: str
) -> None:
    """Which is why a vote that is lost later leaves no group without a place."""
    known = facts({v: o for v, o in votes.items() if v != voter}, voteless=frozenset(voteless))
    counted = does(known, cast(voter, ACCEPTED), FIVE)
    if counted.state is GroupState.REPLAY:
        [ask] = of(counted, Ask)
        given = {v: o for v, o in {**votes, voter: ACCEPTED}.items() if v not in voteless}
        nearest = max(list(given.values()).count(o) for o in (ACCEPTED, REJECTED))
        assert ask.num_wanted == 3 - nearest >= 1


def test_a_canary_closes_when_all_who_have_a_vote_have_answered() -> None:
    known = facts({"v0": REJECTED}, canary="rejected")
    assert not of(does(known, cast("v1", REJECTED)), CloseCanary)
    known = facts({"v0": REJECTED, "v1": REJECTED}, canary="rejected")
    counted = does(known, cast("v2", REJECTED))
    assert of(counted, CloseCanary, ShowBallots) == [
        CloseCanary(GROUP),
        ShowBallots(GROUP, ACCEPTED),
    ], "a rejecting vote would tell that it was one"
    assert counted.state is GroupState.ACCEPTED


def test_a_canary_that_all_contradict_costs_no_vote_and_is_told() -> None:
    counted = does(facts({"v0": ACCEPTED, "v1": ACCEPTED}, canary="rejected"), cast("v2", ACCEPTED))
    assert counted.news == ("canary_contradicted",)
    assert not of(counted, FailCanary, TakeVote)


# Laws over all histories.

VOTES = st.lists(
    st.tuples(
        st.sampled_from(("v0", "v1", "v2", "v3", "v4", "stranger")),
        st.sampled_from(list(Outcome)),
        st.sampled_from(("unpaid", "gross", "named")),
    ),
    max_size=12,
)


@given(VOTES, st.integers(1, 5), st.integers(1, 5))
def test_no_history_condemns_or_sanctions_without_its_quorum(
    history: list[tuple[str, Outcome, str]], num_verifiers: int, threshold: int
) -> None:
    verifiers = tuple(f"v{n}" for n in range(num_verifiers))
    terms = VoteTerms.of(verifiers, threshold=min(threshold, num_verifiers))
    known = facts(worker=Suspicion(gross=frozenset({"bb"})))
    for verifier, outcome, strength in history:
        finding = strength if outcome is REJECTED else "none"
        counted = does(known, cast(verifier, outcome, finding), terms)
        before, known = known.group, after(known, counted)
        ballots = known.group
        rejecting = [v for v in verifiers if ballots.votes.get(v) is REJECTED]
        strong = [v for v in verifiers if ballots.findings.get(v) in {"gross", "named"}]
        if before.state is not GroupState.REPLAY:
            assert ballots.state is before.state, "what is decided stays"
            assert not of(counted, Exclude, StartReport, Accept, Reject)
        assert (ballots.state is not GroupState.REJECTED) or len(rejecting) >= terms.to_condemn
        assert not of(counted, Exclude) or len(strong) >= terms.to_condemn
