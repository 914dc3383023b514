"""Orchestrator, worker and one verifier of three: it passes work that nobody replayed, leaves, and its friend passes it too.

Both verdicts are of verifiers that the run had. Were each counted, honest verifiers would sign for work that two
had looked at, as it seems.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from ledger.runs import Runs
from orchestrator.store.keys import run_prefix
from protocol.checks.draw import Draw
from protocol.verdict import Outcome
from tests.adversarial.verifier.test_shield import NEWCOMER, replace_by_newcomer
from tests.adversarial.verifier.test_signing_unchecked import reason
from tests.audit.test_draws import sell
from tests.stage.ground import Ground
from tests.stage.place import Place, opened
from tests.stage.signer import at_the_runs_time, signer_of

__all__ = ["at_the_runs_time"]

FRIEND = "v2"


@pytest.fixture
def place(ground: Ground, redis_url: str, tmp_path: Path) -> Iterator[Place]:
    """A run of two of three."""
    with opened(
        ground, redis_url, tmp_path / "blobs", num_verifiers=3, threshold=2, lease_seconds=600
    ) as place:
        yield place


def show_accepting(place: Place, digest: bytes, *names: str) -> None:
    """Have the orchestrator show verdicts on work that it handed to nobody."""
    key = f"{run_prefix(place.run_id)}verdicts:{digest.hex()}"
    for name in names:
        verdict = place.party(name).verdict(digest, Outcome.ACCEPTED)
        row = (place.ground.address(name), verdict.to_json())
        place.call(partial(place.services.store.queue.call, "HSET", key, *row))


def test_a_verifier_and_who_took_its_place_vouch_once(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_by_newcomer(place, FRIEND)
    with monkeypatch.context() as lying:
        lying.setattr(Draw, "selects", lambda *_: False)
        digest = sell(place)
    show_accepting(place, digest, FRIEND, NEWCOMER)
    assert "is paid with 1 of 2 accepting verdicts" in reason(place, tmp_path)
    assert not place.epoch(0).signers
    with monkeypatch.context() as off:
        run = place.ground.by("v0").run(place.run_id)
        places = {who: index for index, who in enumerate(run.roster)}
        off.setattr(Runs, "seats", lambda *_: places)
        signer_of(place, tmp_path).step()
    assert place.epoch(0).signers == (place.ground.address("v0"),), "with the defence off"


def test_two_seats_vouch(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_by_newcomer(place, FRIEND)
    with monkeypatch.context() as lying:
        lying.setattr(Draw, "selects", lambda *_: False)
        digest = sell(place)
    show_accepting(place, digest, "v1", NEWCOMER)
    assert reason(place, tmp_path) == ""
    assert place.epoch(0).signers == (place.ground.address("v0"),)
