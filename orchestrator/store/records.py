"""What is kept of submissions and epochs: frozen, read back strictly. Other records stand beside their stores."""

from collections.abc import Mapping
from dataclasses import dataclass

import msgpack

from protocol.messages import EpochStage, GroupState
from protocol.wire import U32, U63, U64, Bytes32, Wire


@dataclass(frozen=True, slots=True)
class GroupRecord:
    """One submission's record, as a flat Redis hash.

    `candidate`, `contribution` and `receipt` are the JSON of what a batch, an epoch and the worker
    get of it. `rewards` is empty where they could not be recomputed.
    """

    worker: str
    nonce: int
    lease_id: bytes
    version: int
    tokens: int
    lengths: tuple[int, ...]
    """Tokens of each rollout."""
    units: int
    state: GroupState
    rejection: str
    detail: str
    body: bytes
    receipt: bytes
    rewards: tuple[int, ...]
    is_trainable: bool
    candidate: bytes
    contribution: bytes
    trained_in: int = -1
    draw_epoch: int = 0
    draw_rate: int = 0
    """Millionths, 0 for a group that admission rejected."""
    canary: str = ""
    """What a replay must find, where the group is a canary; empty for all others."""

    def packed(self) -> bytes:
        """Return the hash as alternating names and values, in one argument of a script."""
        fields: list[bytes | str | int] = [
            *("worker", self.worker, "nonce", self.nonce, "lease_id", self.lease_id),
            *("version", self.version, "tokens", self.tokens, "units", self.units),
            *("lengths", ",".join(map(str, self.lengths))),
            *("state", self.state.value, "rejection", self.rejection, "detail", self.detail),
            *("body", self.body, "receipt", self.receipt),
            *("rewards", ",".join(map(str, self.rewards)), "is_trainable", int(self.is_trainable)),
            *("candidate", self.candidate, "contribution", self.contribution),
            *("trained_in", self.trained_in),
            *("draw_epoch", self.draw_epoch, "draw_rate", self.draw_rate),
            *("canary", self.canary),
        ]
        # Redis reads the older form, in which text and bytes are one type.
        return bytes(msgpack.packb(fields, use_bin_type=False))

    @classmethod
    def of(cls, fields: Mapping[bytes, bytes]) -> "GroupRecord":
        """Read the hash back."""
        return cls(
            worker=fields[b"worker"].decode(),
            nonce=int(fields[b"nonce"]),
            lease_id=fields[b"lease_id"],
            version=int(fields[b"version"]),
            tokens=int(fields[b"tokens"]),
            lengths=_integers(fields[b"lengths"]),
            units=int(fields[b"units"]),
            state=GroupState(fields[b"state"].decode()),
            rejection=fields[b"rejection"].decode(),
            detail=fields[b"detail"].decode(),
            body=fields[b"body"],
            receipt=fields[b"receipt"],
            rewards=_integers(fields[b"rewards"]),
            is_trainable=fields[b"is_trainable"] == b"1",
            candidate=fields[b"candidate"],
            contribution=fields[b"contribution"],
            trained_in=int(fields[b"trained_in"]),
            draw_epoch=int(fields.get(b"draw_epoch", 0)),
            draw_rate=int(fields.get(b"draw_rate", 0)),
            canary=fields.get(b"canary", b"").decode(),
        )


def _integers(joined: bytes) -> tuple[int, ...]:
    return tuple(int(part) for part in joined.split(b",")) if joined else ()


class Epoch(Wire):
    """An epoch's record from the moment its work is frozen. `header_hash` is what the chain keeps."""

    run_id: U63
    epoch: U32
    generation: U64
    stage: EpochStage
    file: Bytes32
    header_digest: Bytes32
    header_hash: Bytes32
    num_groups: U32
    total_units: U64
