"""Attack: a few bytes that are a hundred thousand wrong elements, each of which is reported before one is told.

The cost is counted in reports and in elements that are built, never in seconds: a 30-byte body of 65,000 wrong
rollouts held the event loop five thousand times as long as an honest group, a self-check of 1 MiB for a
quarter of a minute.
"""

from typing import Annotated

import pytest
import zstandard
from pydantic import BeforeValidator, ValidationError

from protocol import canonical, messages, wire
from protocol.canonical import encode
from protocol.errors import Malformed
from protocol.inflate import inflate
from protocol.messages import LeaseRequest, ReturnedLeases, RunRegistration, SelfCheck
from protocol.rollout import Rollout, Submission, read_submission
from protocol.verdict import NOTHING_MEASURED, Verdict
from protocol.wire import Wire
from tests.stage.place import Place

MOST = 1 << 17
MANY = 6_000


def list_of(name: str, element: bytes, count: int = MANY) -> bytes:
    """Return MessagePack of one field with so many equal elements: some thirty bytes under zstd."""
    head = b"\x81" + bytes([0xA0 + len(name)]) + name.encode()
    return head + b"\xdc" + count.to_bytes(2, "big") + element * count


def reports_of(error: Malformed) -> int:
    """Return how many wrong elements were reported for one refusal."""
    assert isinstance(error.__cause__, ValidationError)
    return error.__cause__.error_count()


class Patient(Wire):
    """A submission's lists as they are read by one who wants every error told."""

    prompt: Annotated[tuple[int, ...], BeforeValidator(tuple)] = ()
    rollouts: Annotated[tuple[Rollout, ...], BeforeValidator(tuple)] = ()


@pytest.mark.parametrize(("name", "element"), [("prompt", b"\xc0"), ("rollouts", b"\x00")])
def test_a_list_of_wrong_elements_is_reported_once(
    shared_place: Place, name: str, element: bytes
) -> None:
    body = zstandard.compress(list_of(name, element))
    assert len(body) < 40
    with pytest.raises(Malformed) as patient:
        Patient.from_canonical(inflate(body, MOST))
    assert reports_of(patient.value) == MANY
    with pytest.raises(Malformed) as read:
        read_submission(body, MOST)
    assert reports_of(read.value) <= len(Submission.model_fields)
    alice = shared_place.party("alice")
    alice.leases()
    assert alice.submit(body).json()["code"] == "malformed"


def test_lists_and_maps_end_before_they_are_built(monkeypatch: pytest.MonkeyPatch) -> None:
    for element in (b"\x90", b"\x80"):
        data = list_of("prompt", element)
        with pytest.raises(Malformed, match="more than 512 lists"):
            Submission.from_canonical(data)
    with monkeypatch.context() as without:
        without.setattr(Submission, "MAX_LISTS", 1 << 22)
        with pytest.raises(Malformed, match="valid integer"):
            Submission.from_canonical(list_of("prompt", b"\x90"))


def test_unknown_fields_end_before_they_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode({f"{i:05}": None for i in range(canonical.MOST_KEYS + 1)})
    with pytest.raises(Malformed, match="not canonical"):
        Submission.from_canonical(data)
    with monkeypatch.context() as without:
        without.setattr(canonical, "MOST_KEYS", 1 << 16)
        with pytest.raises(Malformed) as read:
            Submission.from_canonical(data)
    assert reports_of(read.value) > canonical.MOST_KEYS


FLOODS = {
    LeaseRequest: b"{" + b",".join(b'"%x":0' % i for i in range(2000)) + b"}",
    RunRegistration: b'{"spec":{"environment_config":{'
    + b",".join(b'"%x":[]' % i for i in range(2000))
    + b"}}}",
    ReturnedLeases: b'{"lease_ids":[' + b"0," * 5000 + b"0]}",
    SelfCheck: b'{"stats":[' + b"{}," * 50_000 + b"{}]}",
    Verdict: b'{"mismatches":[' + b"{}," * 5000 + b"{}]}",
}


@pytest.mark.parametrize("message", list(FLOODS), ids=lambda m: str(m.__name__))
def test_json_of_many_elements_is_refused_unread(
    message: type[Wire], monkeypatch: pytest.MonkeyPatch
) -> None:
    body = FLOODS[message]
    with pytest.raises(Malformed, match=r"^\d+ elements, a \w+ has at most \d+$"):
        message.from_json(body)
    with monkeypatch.context() as without:
        without.setattr(message, "MAX_ITEMS", 1 << 22)
        with pytest.raises(Malformed) as read:
            message.from_json(body)
    assert isinstance(read.value.__cause__, ValidationError), "it was read to its end"


def test_an_element_begins_after_a_mark() -> None:
    for text, count in ((b"[1,2]", 2), (b"{}", 0), (b'[{"a":1,"b":[]}]', 3), (b'"a,b"', 0)):
        assert wire.num_elements(text) >= count


def test_every_request_of_strangers_states_its_few_elements() -> None:
    """A request without a bound of its own is read up to the largest epoch's."""
    requests = (
        *("LeaseRequest", "SessionRequest", "RunRegistration", "ReturnedLeases", "SelfCheck"),
        *("AuditRequest", "BatchRequest", "EpochSignature", "FraudReportSignature"),
    )
    bounds = {name: getattr(messages, name).MAX_ITEMS for name in requests}
    assert max(bounds.values()) <= 1 << 14, bounds
    check = SelfCheck.model_construct(policy_version=0, stats=(NOTHING_MEASURED,) * 1024)
    assert wire.num_elements(check.to_json()) <= SelfCheck.MAX_ITEMS
    returned = ReturnedLeases(lease_ids=(bytes(32),) * 1024)
    assert ReturnedLeases.from_json(returned.to_json()) == returned


def test_a_refusal_repeats_no_bulk(shared_place: Place) -> None:
    body = b'{"' + b"a" * 100_000 + b'":0,"count":1}'
    response = shared_place.party("alice").post(shared_place.path("leases"), body)
    assert response.json()["code"] == "malformed"
    assert len(response.content) < 1000
