"""An orchestrator asks verifiers to sign pay for drawn work that nobody replayed, and for draws out of time.

An auditor tells it after the money has moved. A verifier's own program must not sign it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client.verifier import VerifierRoutes
from orchestrator import intake, views
from protocol.checks.draw import Draw
from protocol.messages import SubmissionStatus
from protocol.verdict import Outcome
from rollout_worker.verify.draws import DrawCheck
from tests.audit.test_draws import change_verdict, sell
from tests.orchestrator.test_settling import earn, final
from tests.stage.place import Place
from tests.stage.signer import at_the_runs_time, signer_of


def reason(place: Place, folder: Path) -> str:
    """Have the next epoch proposed, and return why the verifier does not sign it: "" where it does."""
    place.tick(seconds=11)
    place.tick()
    signer = signer_of(place, folder)
    signer.step()
    return next((refused.reason for refused in signer._refused.values()), "")


def spare(place: Place, lying: pytest.MonkeyPatch) -> None:
    """Take drawn work for work that was not."""
    lying.setattr(Draw, "selects", lambda *_: False)
    sell(place)


def thin(place: Place, lying: pytest.MonkeyPatch) -> None:
    """Draw a newcomer's work as a veteran's."""
    lying.setattr(intake, "rate_millionths", lambda *_, **__: 0)
    sell(place)


def forge(place: Place, _: pytest.MonkeyPatch) -> None:
    """Show a verdict that its verifier did not sign."""
    digest = sell(place)
    place.party("v0").decide(digest, Outcome.ACCEPTED)
    change_verdict(place, digest, signature=bytes(65))


def draw_later(place: Place, lying: pytest.MonkeyPatch) -> None:
    """Name the secret that is not out yet: nobody can make the draw again."""
    earn(place)
    lying.setattr(
        views,
        "_shown_draw",
        lambda _, group: Draw(epoch=group.draw_epoch + 1, rate=group.draw_rate),
    )


def show_another_body(place: Place, lying: pytest.MonkeyPatch) -> None:
    """Answer for drawn work with another group, whose tokens its verdicts are then counted by."""
    shown, other = sell(place), sell(place)
    for digest in (shown, other):
        place.party("v0").decide(digest, Outcome.ACCEPTED)
    body, real = place.status(other).body, VerifierRoutes.submission

    def swapped(routes: VerifierRoutes, run_id: int, digest: bytes, **how: Any) -> SubmissionStatus:
        status = real(routes, run_id, digest, **how)
        return status.model_copy(update={"body": body}) if digest == shown else status

    lying.setattr(VerifierRoutes, "submission", swapped)


def date_before_all_epochs(place: Place, lying: pytest.MonkeyPatch) -> None:
    """Date work, with its worker, when no secret was open that could draw it."""
    lying.setattr(Draw, "selects", lambda *_: False)
    lying.setattr(intake, "_require_timely", lambda *_: None)
    alice = place.party("alice")
    [signed] = alice.leases()
    response = alice.submit(alice.submission(signed.lease, submitted_at=1))
    assert response.status_code == 200, response.text


__all__ = ["at_the_runs_time"]

LIES: dict[Callable[[Place, pytest.MonkeyPatch], None], str] = {
    spare: "drawn for replay and is paid with 0 of 1 accepting",
    thin: "was drawn at 0 %, its record of 0 groups asks for 100 %",
    forge: "drawn for replay and is paid with 0 of 1 accepting",
    draw_later: "was drawn by epoch 1's secret, which is not out",
    show_another_body: "what is shown as work 0x",
    date_before_all_epochs: "is dated 1, its receipt ",
}


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
def test_a_verifier_signs_no_pay_for_what_was_not_replayed(
    place: Place,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lie: Callable[[Place, pytest.MonkeyPatch], None],
) -> None:
    with monkeypatch.context() as lying:
        lie(place, lying)
        if lie not in (draw_later, show_another_body):
            lying.undo()
        told = reason(place, tmp_path)
        assert LIES[lie] in told
        assert not place.epoch(0).signers
        with monkeypatch.context() as off:
            off.setattr(DrawCheck, "check", lambda *_: None)
            signer_of(place, tmp_path).step()
        assert place.epoch(0).signers == (place.ground.address("v0"),), "with the defence off"


def test_honest_epochs_are_signed_each_from_the_files_before(place: Place, tmp_path: Path) -> None:
    earn(place, count=2)
    final(place, 0)
    earn(place, "bob")
    earn(place)
    assert reason(place, tmp_path) == ""
    assert place.epoch(1).signers == (place.ground.address("v0"),)


def test_work_drawn_by_the_next_secret_waits_for_its_epoch(place: Place) -> None:
    """It came after the next epoch opened and was decided before the last was frozen."""
    earn(place)
    services, run = place.services, place.services.runs[place.run_id]
    place.wait(11)
    place.call(services.look, run)
    place.call(open_next, services, run)
    earn(place)
    assert [item.nonce for item in final(place, 0).contributions] == [1]
    assert [item.nonce for item in final(place, 1).contributions] == [2]


async def open_next(services: Any, run: Any) -> None:
    from orchestrator.epochs import _open_next

    await _open_next(services, run)
    assert run.chain.num_opened == 2
