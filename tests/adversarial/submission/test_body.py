"""Bodies that are no submission: each is refused with a code, and the lease can still be used."""

import random
import time
from collections.abc import Iterator

import pytest
import zstandard

import trainer.batch
from protocol import canonical
from protocol.constants import (
    MAX_GROUP_SIZE,
    MAX_PROMPT_TOKENS,
    MAX_SUBMISSION_BYTES,
    MAX_SUBMISSION_INFLATED_BYTES,
)
from protocol.errors import Malformed, TooLarge
from protocol.inflate import inflate, stated_size
from protocol.messages import BatchGroup
from protocol.rollout import Receipt, Rollout, Submission, read_submission
from tests.stage.place import Place, pack
from tests.stage.signer import info_of
from trainer.batch import read_group

MEBIBYTE = 1 << 20


def bomb(size: int, *, states_its_size: bool) -> bytes:
    """Return zeros of `size` bytes under zstd: some hundred bytes for a gigabyte."""
    compressor = zstandard.ZstdCompressor(write_content_size=states_its_size)
    if states_its_size:
        return compressor.compress(bytes(size))
    stream = compressor.compressobj()
    return b"".join(stream.compress(bytes(MEBIBYTE)) for _ in range(size // MEBIBYTE)) + (
        stream.flush()
    )


def lying_bomb() -> bytes:
    """Return a frame that states 256 bytes of content in its header and holds 64 MiB."""
    small = zstandard.ZstdCompressor().compress(bytes(256))
    large = bomb(64 * MEBIBYTE, states_its_size=False)
    header = zstandard.frame_header_size(small)
    return small[:header] + large[zstandard.frame_header_size(large) :]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not zstd",
        zstandard.compress(b"not messagepack"),
        zstandard.compress(b"\x80"),
        zstandard.compress(b"\xc1" * 100),
        zstandard.compress(b"\x91" * 50_000),
        zstandard.compress(b"\xdd\xff\xff\xff\xff"),
        zstandard.compress(b"\x80") + b"trailing",
        random.Random(0).randbytes(1000),
        lying_bomb(),
    ],
    ids=lambda body: f"{len(body)} bytes {body[:6].hex()}",
)
def test_what_cannot_be_read_is_malformed_and_costs_nothing(
    shared_place: Place, body: bytes
) -> None:
    alice = shared_place.party("alice")
    lease = alice.leases()[0].lease
    response = alice.submit(body)
    assert (response.status_code, response.json()["code"]) == (400, "malformed")
    assert alice.deliver(lease).rejection == ""


def test_a_cut_off_body_is_malformed(shared_place: Place) -> None:
    alice = shared_place.party("alice")
    body = pack(alice.submission(alice.leases()[0].lease))
    for length in (1, 5, len(body) // 2, len(body) - 1):
        assert alice.submit(body[:length]).json()["code"] == "malformed"


def test_an_unknown_field_is_malformed_by_name(shared_place: Place) -> None:
    alice = shared_place.party("alice")
    submission = alice.submission(alice.leases()[0].lease)
    value = submission.model_dump(mode="python") | {"reward": 10_000}
    from protocol.canonical import encode

    response = alice.submit(zstandard.compress(encode(value)))
    assert response.status_code == 400
    assert "reward" in response.json()["message"]


@pytest.mark.parametrize("states_its_size", [True, False])
def test_a_bomb_is_refused_before_it_is_inflated(
    shared_place: Place, states_its_size: bool
) -> None:
    body = bomb(256 * MEBIBYTE, states_its_size=states_its_size)
    assert len(body) < MEBIBYTE // 8
    response = shared_place.party("alice").submit(body)
    assert (response.status_code, response.json()["code"]) == (413, "too_large")


def test_a_bomb_without_the_cap_inflates() -> None:
    body = bomb(80 * MEBIBYTE, states_its_size=False)
    with pytest.raises(TooLarge):
        inflate(body, 64 * MEBIBYTE)
    assert len(inflate(body, 1 << 40)) == 80 * MEBIBYTE


def test_an_oversized_body_is_refused_by_its_stated_and_by_its_real_length(
    shared_place: Place,
) -> None:
    alice = shared_place.party("alice")
    response = alice.submit(bytes(MAX_SUBMISSION_BYTES + 1))
    assert (response.status_code, response.json()["code"]) == (413, "too_large")

    def chunks() -> Iterator[bytes]:
        for _ in range(MAX_SUBMISSION_BYTES // MEBIBYTE + 1):
            yield bytes(MEBIBYTE)

    headers = {"authorization": f"Bearer {alice.token}", "host": "market.test"}
    streamed = shared_place.client.post(
        shared_place.path("submissions"), content=chunks(), headers=headers
    )
    assert streamed.json()["code"] == "too_large"


def test_a_body_at_the_limit_is_read() -> None:
    body = bomb(8 * MEBIBYTE, states_its_size=True)
    assert len(inflate(body, 8 * MEBIBYTE)) == 8 * MEBIBYTE
    with pytest.raises(TooLarge):
        inflate(body, 8 * MEBIBYTE - 1)


def test_the_canonical_form_is_the_only_one(shared_place: Place) -> None:
    """Of two forms, what one party takes another could not read, or would find another digest for."""
    alice = shared_place.party("alice")
    submission = alice.submission(alice.leases()[0].lease)
    data = submission.canonical()
    assert Submission.from_canonical(data) == submission
    longer = data.replace(b"\xa8lease_id\xc4\x20", b"\xa8lease_id\xc5\x00\x20")
    assert len(longer) == len(data) + 1
    text = "0x" + submission.lease_id.hex()
    in_text = canonical.encode(submission.model_dump(mode="python") | {"lease_id": text})
    for other in (longer, in_text, data + b"\x00"):
        assert alice.submit(zstandard.compress(other)).json()["code"] == "malformed"


def lists_of_lists(num_lists: int, length: int = MEBIBYTE) -> bytes:
    """Return MessagePack of lists full of zeros: a few kilobytes under zstd."""
    inner = b"\xdd" + length.to_bytes(4, "big") + bytes(length)
    return b"\xdc" + num_lists.to_bytes(2, "big") + inner * num_lists


def test_a_bomb_of_elements_is_refused_before_it_is_built(shared_place: Place) -> None:
    body = zstandard.compress(lists_of_lists(60))
    assert len(body) < 10_000
    began = time.process_time()
    with pytest.raises(Malformed, match="not canonical"):
        read_submission(body, MAX_SUBMISSION_INFLATED_BYTES)
    assert time.process_time() - began < 5, "all of it takes ten seconds and 1.3 GB"
    response = shared_place.party("alice").submit(body)
    assert (response.status_code, response.json()["code"]) == (413, "too_large")


def read_if_sized(body: bytes, most: int) -> Submission:
    if zstandard.get_frame_parameters(body).content_size == zstandard.CONTENTSIZE_UNKNOWN:
        raise Malformed("the frame does not state its size")
    return read_submission(body, most)


def test_a_frame_that_does_not_state_its_size_is_taken_and_read_by_everybody(
    shared_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If one reader asks for the size, such a body is paid and never trained on."""
    alice, most = shared_place.party("alice"), shared_place.spec.most_submission_bytes
    signed = alice.leases()[0]
    lease, info = signed.lease, info_of(shared_place)
    submission = alice.submission(lease)
    compressor = zstandard.ZstdCompressor(write_content_size=False)
    body = compressor.compress(submission.canonical())
    assert zstandard.get_frame_parameters(body).content_size == zstandard.CONTENTSIZE_UNKNOWN
    receipt = alice.submit(body)
    assert receipt.status_code == 200 and not receipt.json()["rejection"]
    assert read_submission(body, most) == submission
    entry = BatchGroup(
        work_digest=alice.digest(lease, submission),
        worker=lease.worker,
        index=lease.index,
        policy_version=lease.policy_version,
        body=bytes(32),
        rewards=(10_000, 0) * (lease.group_size // 2),
    )
    settings = {"divide_by_deviation": False, "mask_truncated": False}
    group = read_group(entry, signed, body, info, **settings)
    assert len(group.completions) == lease.group_size
    with monkeypatch.context() as asking:
        asking.setattr(trainer.batch, "read_submission", read_if_sized)
        with pytest.raises(Malformed, match="does not state its size"):
            read_group(entry, signed, body, info, **settings)
    for spoilt in (body + b"x", body + body, body[:-1]):
        with pytest.raises(Malformed):
            read_submission(spoilt, most)
        with pytest.raises(Malformed):
            read_group(entry, signed, spoilt, info, **settings)
        assert alice.submit(spoilt).json()["code"] == "malformed"


def test_a_body_may_inflate_to_four_times_its_runs_largest_group(shared_place: Place) -> None:
    """What more there is cannot be a group, so that what one body costs follows from the run."""
    alice, most = shared_place.party("alice"), shared_place.spec.most_submission_bytes
    assert most == 65_536 + 4 * (8 * 2 * 48 + 5 * 64)
    codes = [alice.submit(zstandard.compress(bytes(size))) for size in (most, most + 1)]
    assert [r.json()["code"] for r in codes] == ["malformed", "too_large"]


def test_a_bomb_of_elements_without_the_limit_is_built() -> None:
    data = lists_of_lists(16, 1 << 16)
    assert canonical.decode(data) == [[0] * (1 << 16)] * 16
    with pytest.raises(Malformed, match=r"more than 65536 elements"):
        canonical.read(data, max_items=Submission.MAX_ITEMS)


def test_the_largest_group_with_the_longest_prompt_has_few_enough_elements() -> None:
    rollout = Rollout.of([1], [-1.0])
    submission = Submission(
        lease_id=bytes(32),
        engine="e",
        prompt=(7,) * MAX_PROMPT_TOKENS,
        rollouts=(rollout,) * MAX_GROUP_SIZE,
        submitted_at=1,
        signature=bytes(65),
    )
    assert Submission.from_canonical(submission.canonical()) == submission


EMPTY_BLOCK = bytes(3)
"""A zstd block of no bytes, and not the last (RFC 8878, section 3.1.1.2)."""


def padded(body: bytes, num_blocks: int) -> bytes:
    """Return a frame of the same content with empty blocks before it."""
    header = zstandard.frame_header_size(body)
    return body[:header] + EMPTY_BLOCK * num_blocks + body[header:]


def stored(place: Place, body: bytes) -> bytes:
    """Return what is kept of a body that is taken."""
    receipt = Receipt.from_json(place.party("alice").submit(body).content)
    assert receipt.rejection == ""
    return place.get(f"/v1/blobs/0x{place.status(receipt.work_digest).body.hex()}").content


def test_what_is_stored_weighs_no_more_than_its_content(shared_place: Place) -> None:
    alice = shared_place.party("alice")
    submission = alice.submission(alice.leases()[0].lease)
    body = pack(submission)
    heavy = padded(body, 15_000)
    assert read_submission(heavy, MEBIBYTE) == submission, "stored as it came, all would fetch it"
    kept = stored(shared_place, heavy)
    assert read_submission(kept, MEBIBYTE) == submission
    assert len(kept) <= len(body) < len(heavy) // 10


def test_what_is_stored_says_how_long_it_is(shared_place: Place) -> None:
    """A reader of one that does not sets aside the window that it names: 128 MiB."""
    alice = shared_place.party("alice")
    content = alice.submission(alice.leases()[0].lease).canonical()
    body = zstandard.ZstdCompressor(level=19, write_content_size=False).compress(content)
    assert stated_size(body) <= 0 < stated_size(stored(shared_place, body)) == len(content)
