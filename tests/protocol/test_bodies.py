"""Bodies of submissions, held to vectors that any language can read: what is one, and what is refused how.

`tests/vectors/bodies.json` gives frames with what they hold, and frames with the code that refuses them.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import MarketError, TooLarge
from protocol.rollout import Lease, Submission, payload_digest, read_submission

VECTORS = Path(__file__).parent.parent / "vectors"
FILE: dict[str, Any] = json.loads((VECTORS / "bodies.json").read_text())
MOST: int = FILE["most_bytes"]
SIGNED = json.loads((VECTORS / "eip712.json").read_text())["vectors"]
LEASE = Lease.from_json(json.dumps(SIGNED[0]["message"]))


def frame_of(vector: dict[str, Any]) -> bytes:
    return bytes.fromhex(vector["frame"][2:])


def test_the_lease_is_that_of_the_signed_structs() -> None:
    assert FILE["lease"] == {
        "lease_id": "0x" + LEASE.lease_id.hex(),
        "digest": "0x" + LEASE.canonical_digest().hex(),
    }


@pytest.mark.parametrize("vector", FILE["readable"], ids=lambda vector: vector["what"])
def test_a_body_is_read_and_digested_as_its_vector(vector: dict[str, Any]) -> None:
    found = read_submission(frame_of(vector), MOST)
    assert vector["what"].startswith("the submission") == (
        found == Submission.from_json(json.dumps(FILE["submission"]))
    )
    assert {
        "what": vector["what"],
        "frame": vector["frame"],
        "content": "0x" + found.canonical_digest().hex(),
        "num_tokens": found.num_tokens(),
        "rollouts_root": "0x" + found.rollouts_root().hex(),
        "payload_digest": "0x" + payload_digest(LEASE, found).hex(),
    } == vector


@pytest.mark.parametrize("vector", FILE["refused"], ids=lambda vector: vector["what"])
def test_a_body_is_refused_by_the_code_of_its_vector(vector: dict[str, Any]) -> None:
    with pytest.raises(MarketError) as refused:
        read_submission(frame_of(vector), MOST)
    assert refused.value.code == vector["code"]


def test_a_bound_that_is_a_byte_less_refuses_what_fills_it() -> None:
    full = [vector for vector in FILE["readable"] if "as many bytes" in vector["what"]]
    assert len(full) == 2
    for vector in full:
        with pytest.raises(TooLarge):
            read_submission(frame_of(vector), MOST - 1)
