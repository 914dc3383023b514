"""Every route of a real server, asked what its description allows and what it does not, by every kind of caller.

schemathesis makes the requests from the description and holds each answer to it: declared status, type of
content, schema. Beyond that a refusal has a code of ours. The endless event stream is left out.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi import checks

from protocol.errors import Busy, by_code
from protocol.messages import ErrorBody
from tests.adversarial.http.test_exhaustion import serving
from tests.stage.place import HOST, Place

ENDLESS = "/v1/runs/{run}/events"
CALLERS = ("nobody", "alice", "v0", "trainer")
CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
UNBOUNDED = {
    "requests_per_second": 1e9,
    "request_burst": 1 << 30,
    "address_requests_per_second": 1e9,
    "address_request_burst": 1 << 30,
}
Ask = Callable[[Any, str, bool], None]


@pytest.fixture(scope="module")
def ask(lasting: Place) -> Iterator[Ask]:
    """A function that sends a case as some caller, to the served run if it may, and judges the answer."""
    place = lasting
    place.wait(0)
    place.parties.clear()
    config = place.services.config
    folder = Path(config.blob_url.removeprefix("file://"))
    tokens = {name: place.party(name).token for name in CALLERS[1:]}
    with serving(place.ground, config.redis_url, folder, **UNBOUNDED) as port:

        def judged(case: Any, caller: str, is_served: bool) -> None:
            if is_served and "run" in case.path_parameters:
                case.path_parameters["run"] = place.run_id
            headers = {"host": HOST}
            if caller in tokens:
                headers["authorization"] = f"Bearer {tokens[caller]}"
            answer = case.call(base_url=f"http://127.0.0.1:{port}", headers=headers)
            assert answer.status_code < 500 or answer.status_code == Busy.status, answer.text
            case.validate_response(answer, checks=CHECKS)
            if answer.status_code >= 400 and case.operation.path not in ("/readyz", "/metrics"):
                assert ErrorBody.from_json(answer.content).code in by_code()

        yield judged


@pytest.fixture(scope="module")
def described(lasting: Place) -> Any:
    return schemathesis.openapi.from_dict(lasting.client.app.openapi())  # type: ignore[attr-defined]


def ask_all(described: Any, ask: Ask, examples: int) -> None:
    rules = settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    asked, wrong = 0, list[BaseException]()
    for result in described.get_all_operations():
        operation = result.ok()
        if operation.path == ENDLESS:
            continue
        asked += 1
        cases = st.one_of(
            [operation.as_strategy(generation_mode=mode) for mode in schemathesis.GenerationMode]
        )
        try:
            rules(given(cases, st.sampled_from(CALLERS), st.booleans())(ask))()
        except (AssertionError, FailureGroup) as error:
            wrong.append(error)
    if wrong:
        raise BaseExceptionGroup("routes that do not keep to their description", wrong)
    assert asked > 25


def test_every_route_keeps_to_its_description(described: Any, ask: Ask) -> None:
    ask_all(described, ask, 12)


@pytest.mark.slow
def test_every_route_keeps_to_its_description_whatever_is_asked(described: Any, ask: Ask) -> None:
    ask_all(described, ask, 150)
