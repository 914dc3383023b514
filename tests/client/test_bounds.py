"""Attack: an orchestrator whose answers cost their reader memory without end.

Every list, map and text that a client reads has a bound of its own, or is counted in elements and bytes before it is built.
"""

import types
from collections.abc import Iterator
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
from annotated_types import MaxLen
from pydantic import Field, TypeAdapter
from pydantic.fields import FieldInfo

from protocol import messages
from protocol.errors import Malformed
from protocol.messages import (
    MOST_CLOSED,
    Answer,
    AuditTask,
    AuditTasks,
    Batch,
    ClosedVote,
    Leases,
    RunList,
)
from protocol.policies.lineage import Records
from protocol.policies.manifest import SignedManifest
from protocol.rollout import Receipt
from protocol.wire import AsTuple, Name, Wire

READ: tuple[type[Wire], ...] = (
    *(kind for kind in Answer.__subclasses__() if kind.__module__ == messages.__name__),
    *(Receipt, Leases, AuditTasks, Batch, RunList, SignedManifest, Records),
)
"""What clients read of an orchestrator's routes; blobs have the bounds of whoever asks for one."""
COUNTED = {
    "Leases.leases": "as many as were asked for (`require_asked`)",
    "AuditTasks.tasks": "as many as were asked for (`require_asked`)",
    "Batch.groups": "those of a step (`require_asked`)",
    "Lease.prompt": "of a lease that is signed (`check_lease`), counted in elements before",
    "ErrorBody.code": "a refusal of 64 KiB",
    "ErrorBody.message": "a refusal of 64 KiB",
    "Manifest.tensors": "signed by the trainer, counted in elements before",
    "Manifest.patches": "signed by the trainer, counted in elements before",
    "Manifest.anchor": "signed by the trainer, counted in elements before",
    "PatchEntry.chunks": "signed by the trainer, counted in elements before",
    "TensorEntry.shape": "signed by the trainer, counted in elements before",
    "Records.records": "an answer's bytes; each is read by its digest",
}
"""Fields without a bound of their own, and what bounds them."""


def unbounded(kind: type[Wire], seen: set[type[Wire]]) -> Iterator[str]:
    """Name each list, map and text of a message, and of those in it, that may be of any length."""
    if kind in seen:
        return
    seen.add(kind)
    for name, field in kind.model_fields.items():
        for loose in loosely(field.annotation, field.metadata, seen):
            yield loose if "." in loose else f"{kind.__name__}.{name}"


def loosely(kind: Any, metadata: Any, seen: set[type[Wire]]) -> Iterator[str]:
    inner = [deep for one in metadata if isinstance(one, FieldInfo) for deep in one.metadata]
    has_bound = any(isinstance(one, MaxLen) for one in (*metadata, *inner))
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        yield from loosely(parts[0], (*metadata, *kind.__metadata__), seen)
    elif origin in (Union, types.UnionType):
        for part in parts:
            yield from loosely(part, (), seen)
    elif origin in (tuple, dict):
        if not has_bound:
            yield "it"
        for part in parts:
            if part is not Ellipsis:
                yield from loosely(part, (), seen)
    elif isinstance(kind, type) and issubclass(kind, Wire):
        yield from unbounded(kind, seen)
    elif kind in (str, bytes) and not has_bound and not refuses_long(kind, metadata):
        yield "it"


def refuses_long(kind: type, metadata: Any) -> bool:
    """Return whether a validator takes no long text: of addresses, digests and signatures."""
    bounded: Any = Annotated[kind, *metadata] if metadata else kind
    reader: TypeAdapter[Any] = TypeAdapter(bounded)
    for long in ("0x" + "00" * 5000, b"\0" * 5000):
        try:
            reader.validate_python(long)
        except ValueError:
            continue
        return False
    return True


def test_every_list_map_and_text_that_a_client_reads_has_a_bound() -> None:
    seen: set[type[Wire]] = set()
    assert {loose for kind in READ for loose in unbounded(kind, seen)} == set(COUNTED)


class Loose(Wire):
    """What such a message looks like."""

    rows: Annotated[tuple[int, ...], AsTuple]
    word: str
    words: Annotated[tuple[str, ...], AsTuple, Field(max_length=4)]
    by_name: dict[Name, int]


def test_a_message_without_bounds_would_be_seen() -> None:
    assert set(unbounded(Loose, set())) == {
        f"Loose.{name}" for name in ("rows", "word", "words", "by_name")
    }


ELEMENTS = [kind for kind in READ if kind is not Records]
"""Records come in canonical bytes, whose elements `tests/fuzz/test_decoders.py` counts."""


@pytest.mark.parametrize("kind", ELEMENTS, ids=lambda kind: kind.__name__)
def test_elements_are_counted_before_an_answer_is_built(kind: type[Wire]) -> None:
    with pytest.raises(Malformed, match="elements"):
        kind.from_json(b"[" + b"[]," * kind.MAX_ITEMS + b"0]")


class Unbounded(Wire):
    """`AuditTasks` as a verifier reads it without the bound."""

    tasks: Annotated[tuple[AuditTask, ...], AsTuple]
    closed: Annotated[tuple[ClosedVote, ...], AsTuple]


def test_a_verifier_reads_no_more_closed_votes_than_are_shown_at_a_time() -> None:
    """Each costs it a look at every seal on the chain."""
    votes = tuple(ClosedVote(work_digest=bytes(32), seals=()) for _ in range(MOST_CLOSED + 1))
    flood = Unbounded(tasks=(), closed=votes).to_json()
    assert len(Unbounded.from_json(flood).closed) == MOST_CLOSED + 1
    with pytest.raises(Malformed, match=f"at most {MOST_CLOSED} items"):
        AuditTasks.from_json(flood)
    shown = Unbounded(tasks=(), closed=votes[1:]).to_json()
    assert len(AuditTasks.from_json(shown).closed) == MOST_CLOSED
