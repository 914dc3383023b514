"""Every function of ours that reads a stranger's bytes, each as one call that fails if it breaks its promise.

A call may end in one of the decoder's own refusals, of a length that its sender does not choose; whatever it
returns, what follows from it must hold: one value has one form, and rules can be asked of it. A new decoder
is one function and one row of `DECODERS`.
"""

import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from httpx import Response

from audit.epoch import EpochRefused, read_file
from audit.fraud import Facts, find
from audit.hidden.headers import header_in
from audit.history import Posted
from audit.published import Openable, Published
from audit.tasks import tokenizer_of
from client.connection import refusal
from client.public import _lines
from ledger.deployment import Deployment
from ledger.errors import LedgerError, decode_error
from orchestrator.auth import SignedIn, _claims
from protocol import canonical, merkle
from protocol.architectures import why_unfit
from protocol.checks import evidence
from protocol.environments.answers import is_number, is_text
from protocol.epoch import AccountLeaf, blob_of
from protocol.errors import Malformed, MarketError
from protocol.messages import EpochFile, ErrorBody, Event
from protocol.policies import patch
from protocol.policies.lineage import Records, StepRecord, shares_of
from protocol.policies.manifest import HostTensor, entries
from protocol.rollout import Submission, read_submission
from protocol.signin import SignIn, parse
from protocol.signing import recover
from protocol.verdict import Verdict, follows, judge
from protocol.wire import Wire
from tests.fuzz.mutations import CANONICAL, FRAME, JSON, PLAIN, TENSORS, Form
from tests.stage.terms import DOMAIN, make_spec

MOST_REFUSAL = 4096
"""Characters of a refusal: what it repeats of its sender is bounded."""
SPEC = make_spec()
SECRET = bytes(32)
MOST_INFLATED = 75_008
"""Bytes: the bound of `tests/vectors/bodies.json`."""
NOTHING = bytes(32)
FACTS = Facts(DOMAIN, posted_at=2, num_parameters=1, is_owed=bool, spoke_for=lambda *_: True)
BEFORE = Openable[AccountLeaf]({}, count=0, proof_of=lambda _: ())
POSTED = Posted(1, 2, 0, NOTHING, NOTHING, NOTHING, "", NOTHING, 0, 0, "0x")


@dataclass(frozen=True, slots=True)
class Decoder:
    """How one kind of input is read, and what holds of all that is.

    `holds` gets the input and what was read; it may refuse nothing. `per_byte` bounds what Python may allocate
    for a byte of input.
    """

    name: str
    read: Callable[[bytes], Any]
    holds: Callable[[bytes, Any], object] = lambda _data, _found: None
    form: Form = PLAIN
    refusals: tuple[type[Exception], ...] = (MarketError,)
    per_byte: int = 400
    is_named: bool = False

    def __call__(self, data: bytes) -> bool:
        """Return whether the input is read; anything but a refusal goes through."""
        try:
            found = self.read(data)
        except self.refusals as error:
            assert len(str(error)) <= MOST_REFUSAL, f"a refusal of {len(str(error))} characters"
            return False
        self.holds(data, found)
        return True


def _types() -> dict[str, type[Wire]]:
    modules = ("messages", "rollout", "verdict", "run", "policies.manifest", "policies.lineage")
    found = (vars(import_module(f"protocol.{module}")).values() for module in modules)
    kinds = [kind for values in found for kind in values if isinstance(kind, type)]
    return {kind.__name__: kind for kind in kinds if issubclass(kind, Wire) and kind.model_fields}


TYPES = _types()
UNSIGNED = (ErrorBody, Event)
"""Nobody hashes these, so they may have floats, which have no canonical form."""
STORED = (Submission, EpochFile, StepRecord, Records)
"""What travels in canonical bytes."""


def _kind(data: bytes) -> tuple[type[Wire], bytes]:
    name, _, body = data.partition(b"\n")
    kind = TYPES.get(name.decode(errors="replace"))
    if kind is None:
        raise Malformed("no such type")
    return kind, body


def _json(data: bytes) -> Wire:
    kind, body = _kind(data)
    return kind.from_json(body)


def _json_holds(_: bytes, message: Wire) -> None:
    assert type(message).from_json(message.to_json()) == message
    assert isinstance(message, UNSIGNED) or message.canonical()


def _canonical(data: bytes) -> Wire:
    kind, body = _kind(data)
    if kind not in STORED:
        raise Malformed("not sent so")
    return kind.from_canonical(body)


def _canonical_holds(data: bytes, message: Wire) -> None:
    assert message.canonical() == data.partition(b"\n")[2]
    assert type(message).from_json(message.to_json()) == message


def _value_holds(data: bytes, value: Any) -> None:
    assert canonical.encode(value) == data


def _submission_holds(_: bytes, submission: Submission) -> None:
    assert Submission.from_canonical(submission.canonical()) == submission
    assert submission.num_tokens() >= 0 and len(submission.rollouts_root()) == 32


def _verdict_holds(_: bytes, verdict: Verdict) -> None:
    judge(verdict.stats, SPEC.thresholds)
    follows(verdict, SPEC.thresholds)
    evidence.consequence(verdict, SPEC.thresholds)
    assert math.isfinite(evidence.lead(verdict, SPEC.thresholds))
    assert len(verdict.evidence_digest()) == 32


def _step_holds(_: bytes, record: StepRecord) -> None:
    for share in shares_of(record):
        assert 0 <= share.tokens <= 1 and 0 <= share.weight <= 1.000001, share


def _epoch_holds(data: bytes, published: Published) -> None:
    header = published.header(canonical.keccak256(data))
    assert len(header.struct_hash()) == 32
    assert len(list(find(published.under(header), FACTS, before=BEFORE))) >= 0


def _weights(step: int) -> dict[str, HostTensor]:
    halves = np.arange(0, 48 * step, step, dtype="<u2")[:48]
    words = np.array([7, 1 << 31, step, 0], dtype="<u4")
    return {
        "halves": HostTensor("bfloat16", (6, 8), halves),
        "none": HostTensor("float16", (0,), np.array([], dtype="<u2")),
        "words": HostTensor("float32", (4,), words),
    }


OLD, NEW = _weights(1), _weights(3)


def _patch(data: bytes) -> dict[str, HostTensor]:
    return patch.apply(OLD, data, entries(NEW), max_bytes=1 << 16)


def _anchor(data: bytes) -> None:
    patch.verify(patch.from_anchor(data), entries(NEW))


def _merkle_holds(_: bytes, value: Any) -> None:
    match value:
        case [bytes(root), bytes(leaf), int(index), int(count), list(words)]:
            proof = [word for word in words if isinstance(word, bytes)]
            if merkle.verify(root, leaf, index, count, proof):
                assert 0 <= index < count and len(proof) == merkle.depth(count)


def _text(data: bytes) -> str:
    return data.decode(errors="replace")


def _sign_in_holds(data: bytes, found: SignIn) -> None:
    assert found.text().lower() == _text(data).lower()


def _token(data: bytes) -> SignedIn:
    return _claims.__wrapped__(data.decode("latin-1"), SECRET)[0]


def _answer(data: bytes) -> tuple[bool, bool]:
    text = _text(data)
    return is_number(text, Fraction(1800), expressions=True), is_text(text, "no")


def _deployment(data: bytes) -> Deployment:
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(data)
        return Deployment.load(Path(file.name))


def _refusal_holds(data: bytes, _: bytes) -> None:
    answer = Response(500, request=httpx.Request("GET", "http://market.test"))
    assert 0 <= (refusal(answer, [data]).retry_after_seconds or 0) < 1 << 20


def _stream_holds(data: bytes, lines: list[str]) -> None:
    middle = len(data) // 2
    assert lines == list(_lines([data[:middle], data[middle:]]))


def _config_holds(_: bytes, problem: str | None) -> None:
    assert len(problem or "") <= MOST_REFUSAL


DECODERS = (
    Decoder("value", canonical.decode, _value_holds, CANONICAL),
    Decoder("json", _json, _json_holds, JSON, is_named=True),
    Decoder("canonical", _canonical, _canonical_holds, CANONICAL, is_named=True),
    Decoder(
        "submission",
        lambda data: read_submission(data, MOST_INFLATED),
        _submission_holds,
        FRAME,
        per_byte=4 * MOST_INFLATED,
    ),
    Decoder("verdict", Verdict.from_json, _verdict_holds, JSON),
    Decoder("step", StepRecord.from_canonical, _step_holds, CANONICAL),
    Decoder("epoch", read_file, _epoch_holds, CANONICAL, (MarketError, EpochRefused)),
    Decoder("patch", _patch, form=CANONICAL),
    Decoder("anchor", _anchor, form=TENSORS),
    Decoder("merkle", canonical.decode, _merkle_holds, CANONICAL),
    Decoder("sign_in", lambda data: parse(_text(data)), _sign_in_holds),
    Decoder("signature", lambda data: recover(data[:32].ljust(32, b"\0"), data[32:])),
    Decoder("token", _token),
    Decoder("uri", lambda data: blob_of(_text(data))),
    Decoder("answer", _answer),
    Decoder("deployment", _deployment, form=JSON, refusals=(LedgerError,)),
    Decoder("revert", decode_error, lambda _, error: str(error)),
    Decoder("call_data", lambda data: header_in(data, POSTED)),
    Decoder("refusal", bytes, _refusal_holds, JSON),
    Decoder("stream", lambda data: list(_lines([data])), _stream_holds),
    Decoder("config", lambda data: why_unfit(data, SPEC), _config_holds, JSON),
    Decoder("tokenizer", tokenizer_of, lambda _, found: found.encode("What is 3 + 4?"), JSON),
)
BY_NAME = {decoder.name: decoder for decoder in DECODERS}
