"""The child process that recomputes rewards: a pipe in, a pipe out, nothing else.

Frames are a 4-byte length and MessagePack. It holds no key, reads no network, and is bounded from
outside: its address space by `RLIMIT_AS`, its time by being killed. Run by `pool.py` as
`python -m orchestrator.rewards.child BYTES`.
"""

import os
import resource
import sys
import time
from array import array
from typing import Any, BinaryIO

import msgpack
from tokenizers import Tokenizer

from protocol.environments.base import Environment
from protocol.environments.decoding import Decoder
from protocol.environments.registry import environment


class Scorer:
    """Environments and tokenizers of the runs it was told about."""

    def __init__(self) -> None:
        self._runs: dict[int, tuple[Environment, Decoder]] = {}

    def handle(self, message: dict[str, Any]) -> Any:
        """Answer one frame: learn a run, or score groups and say how long each took."""
        if message["do"] == "learn":
            made = environment(message["environment"], message["config"])
            tokenizer = Tokenizer.from_str(message["tokenizer"])
            self._runs[message["run_id"]] = (made, Decoder(tokenizer, message["eos_token_ids"]))
            return True
        return [self._timed(*group) for group in message["groups"]]

    def _timed(self, *group: Any) -> tuple[list[int], float]:
        began = time.perf_counter()
        return self._score(*group), time.perf_counter() - began

    def _score(self, run_id: int, index: int, rollouts: list[bytes]) -> list[int]:
        made, decoder = self._runs[run_id]
        problem = made.problem(index)
        return [made.score(problem, decoder.text(_tokens(data))) for data in rollouts]


def _tokens(data: bytes) -> list[int]:
    tokens = array("I", data)
    if sys.byteorder == "big":
        tokens.byteswap()
    return tokens.tolist()


def read_frame(stream: BinaryIO) -> bytes | None:
    """Return the next frame, or None at the end of the stream."""
    header = stream.read(4)
    if len(header) < 4:
        return None
    return stream.read(int.from_bytes(header, "big"))


def main(memory_bytes: int) -> None:
    """Answer frames until the parent closes the pipe."""
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Frames alone go up the pipe: what a library prints goes where warnings do.
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    source, scorer = sys.stdin.buffer, Scorer()
    while (frame := read_frame(source)) is not None:
        answer = msgpack.packb(scorer.handle(msgpack.unpackb(frame)))
        sink.write(len(answer).to_bytes(4, "big") + answer)
        sink.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]))
