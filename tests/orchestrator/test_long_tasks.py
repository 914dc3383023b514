"""Tasks that a run cannot have: longer prompts are passed over, and tasks that are not there are refused at registration."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator import leases
from protocol.environments.registry import environment
from protocol.messages import Leases, ReturnedLeases, RunRegistration
from rollout_worker.nonces import MANY_GAPS, NonceGaps
from tests.stage.ground import Ground
from tests.stage.place import Place, opened
from tests.stage.terms import make_spec

LENGTHS = (4, 40, 90, 200)
MOST = 128
"""With its instruction each question is 58 tokens longer: half of those above have more."""


def written(path: Path, lengths: tuple[int, ...] = LENGTHS) -> str:
    """Write rows whose questions have so many characters, each a token of the starting model."""
    rows = [{"question": "9" * length, "answer": "#### 9"} for length in lengths]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def terms(rows: str, **changes: Any) -> dict[str, Any]:
    made = environment("gsm8k", {"path": rows})
    return {
        "environment": "gsm8k",
        "environment_config": {"path": rows},
        "environment_digest": made.digest,
        "num_tasks": made.num_problems,
        "held_out_start": made.num_problems,
        "num_held_out": 0,
        "max_prompt_tokens": MOST,
        "max_worker_leases": 16,
        "groups_per_batch": 16,
        **changes,
    }


@pytest.fixture
def of_rows(ground: Ground, redis_url: str, tmp_path: Path) -> Callable[..., Any]:
    def made(lengths: tuple[int, ...] = LENGTHS) -> Any:
        rows = written(tmp_path / "rows.jsonl", lengths)
        return opened(ground, redis_url, tmp_path / "blobs", **terms(rows))

    return made


def asked(place: Place, count: int) -> Leases:
    response = place.party("alice").lease(count)
    assert response.status_code == 200, response.text
    return Leases.from_json(response.content)


def give_back(place: Place, answer: Leases) -> None:
    body = ReturnedLeases(lease_ids=tuple(signed.lease.lease_id for signed in answer.leases))
    assert place.party("alice").post(place.path("leases/return"), body.to_json()).is_success


def test_a_long_task_is_passed_over_and_the_others_are_leased(of_rows: Callable[..., Any]) -> None:
    """E3: one long task refused the whole grant, and asked again it was refused again."""
    gaps = NonceGaps()
    with of_rows() as place:
        for _ in range(MANY_GAPS + 1):
            answer = asked(place, 4)
            assert answer.leases
            assert all(len(signed.lease.prompt) <= MOST for signed in answer.leases)
            nonces = {signed.lease.nonce for signed in answer.leases}
            assert not nonces & set(answer.skipped)
            first, last = min(nonces | {*answer.skipped}), max(nonces | {*answer.skipped})
            assert nonces | {*answer.skipped} == set(range(first, last + 1))
            gaps.saw([*nonces, *answer.skipped])
            give_back(place, answer)
    assert gaps._num_gaps == 0  # nobody is told that another program leases with this key


def test_places_of_passed_over_tasks_are_free_at_once(of_rows: Callable[..., Any]) -> None:
    with of_rows() as place:
        num_held = sum(len(asked(place, 1).leases) for _ in range(16))
        assert num_held == 16  # all that the run allows, whatever was skipped between


def test_where_all_tasks_are_too_long_the_worker_is_told(of_rows: Callable[..., Any]) -> None:
    with of_rows((90, 200)) as place:
        response = place.party("alice").lease(2)
        assert (response.status_code, response.json()["code"]) == (503, "busy")
        assert "longer than the 128 tokens" in response.json()["message"]


def test_a_task_that_cannot_be_made_holds_no_place(
    of_rows: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """E1's second half: an IndexError kept the places of the grant until their deadline."""

    def nowhere(*_: object, **__: object) -> None:
        raise IndexError("index 2025166347 is outside the 1319 rows")

    with of_rows() as place:
        with monkeypatch.context() as broken:
            broken.setattr(leases, "make_lease", nowhere)
            for _ in range(4):
                with pytest.raises(IndexError):
                    place.party("alice").lease(16)
        assert len(asked(place, 16).leases) > 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_tasks": 4, "held_out_start": 4}, ""),
        ({"num_tasks": 5, "held_out_start": 5}, "the run leases 5 tasks"),
        ({"num_tasks": 2, "held_out_start": 2, "num_held_out": 2}, ""),
        ({"num_tasks": 2, "held_out_start": 2, "num_held_out": 3}, "holds out 3 from 2 on"),
        ({"num_tasks": 2, "held_out_start": 1 << 32, "num_held_out": 1}, "gsm8k has 4 rows"),
    ],
)
def test_a_run_of_more_tasks_than_there_are_is_not_served(
    place: Place, tmp_path: Path, changes: dict[str, int], said: str
) -> None:
    """E1, E2: its leases and evaluations would ask for rows that are not there."""
    spec = make_spec(**terms(written(tmp_path / "rows.jsonl"), **changes))
    run_id = place.ground.create_run(spec, num_verifiers=1, threshold=1)
    place.wait(0)
    response = place.request(
        "POST", "/v1/runs", RunRegistration(run_id=run_id, spec=spec).to_json()
    )
    if said:
        assert (response.status_code, response.json()["code"]) == (409, "refused")
        assert said in response.json()["message"]
    else:
        assert response.status_code == 200
