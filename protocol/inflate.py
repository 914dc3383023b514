"""A submission's body: one zstd frame, read within a bound that its sender does not choose."""

import zstandard

from protocol.constants import MAX_SUBMISSION_BYTES
from protocol.errors import Malformed, TooLarge

INFLATE_STEP = 512
"""Compressed bytes inflated at a time, at most."""
STEP_SHIFT = 15
"""A zstd block of 4 bytes makes at most 128 KiB: a step makes at most 2^15 times its bytes, or four times
the cap, before the cap is looked at."""
WINDOW_BYTES = 1 << 27
LEVEL = 3
"""Token ids compress to about half at any level; 3 costs 0.1 ms per group."""


def deflate(content: bytes) -> bytes:
    """Return the frame that we write for a content: as long as it needs to be, and its size stated."""
    return zstandard.ZstdCompressor(level=LEVEL).compress(content)


def inflate(body: bytes, most: int) -> bytes:
    """Return the frame's content. Its own claim about its size is not trusted."""
    if len(body) > MAX_SUBMISSION_BYTES:
        raise TooLarge(f"{len(body)} bytes; a submission has at most {MAX_SUBMISSION_BYTES}")
    try:
        if 0 < stated_size(body) <= most:
            # One call, which fails where the content is not as large as stated.
            reader = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES)
            return reader.decompress(body, max_output_size=most, allow_extra_data=False)
        return _inflate_stepwise(body, most)
    except zstandard.ZstdError as error:
        raise Malformed(f"the body is not one zstd frame: {error}") from error


def stated_size(body: bytes) -> int:
    """Return what a frame says of its content's size, −1 where it says nothing or is none; `inflate` holds it to it."""
    try:
        return zstandard.frame_content_size(body)
    except zstandard.ZstdError:
        return -1


def _inflate_stepwise(body: bytes, most: int) -> bytes:
    reader = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES).decompressobj()
    step = max(16, min(INFLATE_STEP, most >> STEP_SHIFT))
    parts, total = [], 0
    for start in range(0, len(body), step):
        end = min(start + step, len(body))
        part = reader.decompress(body[start:end])
        total += len(part)
        if total > most:
            raise TooLarge(f"the body inflates beyond {most} bytes: send only the leased group")
        parts.append(part)
        if reader.eof:
            if reader.unused_data or end < len(body):
                raise Malformed("bytes follow the zstd frame: send exactly one")
            return b"".join(parts)
    raise Malformed("the zstd frame is cut off: send the whole body")
