"""The orchestrator's view of the ledger: cached reads for requests, one queue for writes.

The client is synchronous, so calls run in threads. What a stranger can trigger by a request is
cached for seconds; a refusal on chain is final anyway, so a stale answer costs nobody money.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from ledger.errors import ChainUnreachable, ContractError
from ledger.ledger import Ledger
from ledger.rules import owed_until
from ledger.state import EpochState, RunState, SlashState
from local.voice import Voice
from protocol.epoch import EpochHeader, FraudReport
from protocol.errors import Busy, NotFound
from protocol.signing import Domain, recover

Answer = TypeVar("Answer")

POSITIVE_SECONDS = 15.0
"""How long a joined worker is believed to be joined: leaving early only delays its refusal."""
NEGATIVE_SECONDS = 1.0
"""How long a refusal is remembered: a worker that has just joined asks again at once."""
MOST_DATES = 100_000
"""Seconds of work whose being owed is remembered: a day of it."""


@dataclass(frozen=True, slots=True)
class PostedFile:
    """What an epoch's posting said of its file: the hash, and where it is said to be."""

    data_hash: bytes
    data_uri: str


@dataclass(frozen=True, slots=True)
class Membership:
    """Whether an identity may work for a run."""

    is_joined: bool
    stake: int


class Chain:
    """Reads and writes of one ledger, for coroutines."""

    def __init__(
        self, ledger: Ledger, *, at: str = "", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ledger = ledger
        self._voice = Voice("chain", at=at)
        self._clock = clock
        self._cache: dict[tuple[Any, ...], tuple[float, Any]] = {}
        self._owed: dict[tuple[int, int], bool] = {}
        self._postings: dict[bytes, PostedFile] = {}
        self._writes = asyncio.Lock()
        self.domain = Domain(ledger.deployment.chain_id, ledger.deployment.ledger)

    @property
    def ledger(self) -> Ledger:
        """The client itself, for what runs in a thread of its own."""
        return self._ledger

    async def run(self, run_id: int) -> RunState:
        """Return a run's state, fresh."""
        return await self._read(lambda: self._ledger.run(run_id))

    async def recent(self, run_id: int) -> RunState:
        """Return a run's state of the last second: for what strangers ask. Raises `NotFound`."""
        found = await self._cached(
            ("run", run_id), lambda: self._run_or_refusal(run_id), lambda _: NEGATIVE_SECONDS
        )
        if isinstance(found, ContractError):
            raise NotFound(f"run {run_id} is not on this ledger: {found}") from found
        return found

    def _run_or_refusal(self, run_id: int) -> RunState | ContractError:
        """A refusal is kept as well: numbers of no run cost a stranger nothing to think of."""
        try:
            return self._ledger.run(run_id)
        except ContractError as error:
            return error

    async def answers(self) -> None:
        """Raise `Busy` unless the chain answered within the last second: for what strangers ask."""
        await self._cached(("time",), self._ledger.block_time, lambda _: NEGATIVE_SECONDS)

    async def epoch(self, run_id: int, epoch: int) -> EpochState:
        """Return an epoch's state, fresh."""
        return await self._read(lambda: self._ledger.epoch(run_id, epoch))

    async def owed(
        self, run_id: int, dates: Collection[int], *, state: RunState, now: int
    ) -> frozenset[int]:
        """Return those of some dates for which the run owes work.

        `now` is the time of a block before `state` was read. What is past is asked once.
        """
        unknown = [at for at in sorted(dates) if (run_id, at) not in self._owed]
        is_owed = owed_until(self._ledger, run_id, state, now=now)
        found = await self._read(lambda: {at: is_owed(at) for at in unknown})
        if len(self._owed) > MOST_DATES:
            self._owed.clear()
        self._owed |= {(run_id, at): owed for at, owed in found.items() if at <= now}
        return frozenset(at for at in dates if found.get(at) or self._owed.get((run_id, at)))

    async def is_owed(self, run_id: int, at: int) -> bool:
        """Return whether a run owes work dated `at`, as of the last second: for what workers ask."""
        return await self._cached(
            ("owed", run_id, at),
            lambda: self._ledger.is_owed(run_id, at),
            lambda _: NEGATIVE_SECONDS,
        )

    async def posting(self, run_id: int, epoch: int, header_hash: bytes) -> PostedFile:
        """Return what the chain's log says of a posted header; raise `NotFound`.

        Reads all logs since the deployment, once per header: it is asked for strangers' epochs only.
        """
        if header_hash in self._postings:
            return self._postings[header_hash]
        events = await self._read(lambda: self._ledger.events().poll())
        for event in reversed(events):
            values = event.values
            if event.name == "EpochPosted" and (
                (values["runId"], values["epoch"], bytes(values["headerHash"]))
                == (run_id, epoch, header_hash)
            ):
                found = PostedFile(bytes(values["dataHash"]), str(values["dataURI"]))
                return self._postings.setdefault(header_hash, found)
        raise NotFound(f"no log of epoch {epoch} of run {run_id} with hash 0x{header_hash.hex()}")

    async def block_time(self) -> int:
        return await self._read(self._ledger.block_time)

    async def identity_of(self, signer: str) -> str:
        """Return the identity a key signs for: its owner, or itself where it has none."""
        key = ("owner", signer)
        owner = await self._cached(
            key,
            lambda: self._ledger.owner_of(signer),
            lambda found: POSITIVE_SECONDS if found else NEGATIVE_SECONDS,
        )
        return owner or signer

    async def spoke_for(self, signer: str, worker: str, dated: int) -> bool:
        """Return whether a key signed for a worker at that time, as the ledger judges it later.

        Not whether it signs for it now: a key withdrawn between its work's date and its settlement
        still counts, and work dated after a withdrawal that is already announced never does.
        """
        if signer == worker:
            return True
        known = await self._cached(
            ("signer", signer),
            lambda: self._ledger.signer_of(signer),
            lambda found: POSITIVE_SECONDS if found else NEGATIVE_SECONDS,
        )
        return known is not None and known[0] == worker and dated < known[1]

    async def membership(self, run_id: int, worker: str) -> Membership:
        """Return whether an identity joined a run, and its stake."""
        return await self._cached(
            ("member", run_id, worker),
            lambda: Membership(
                self._ledger.is_joined(run_id, worker), self._ledger.stake_of(worker)
            ),
            lambda found: POSITIVE_SECONDS if found.is_joined else NEGATIVE_SECONDS,
        )

    async def stake_of(self, account: str) -> int:
        return await self._cached(
            ("stake", account), lambda: self._ledger.stake_of(account), lambda _: NEGATIVE_SECONDS
        )

    async def coin_of(self, account: str) -> int:
        """Return an account's wei for gas, as of a few seconds ago."""
        return await self._cached(
            ("coin", account),
            lambda: self._ledger.coin_balance(account),
            lambda _: POSITIVE_SECONDS,
        )

    async def slash(self, run_id: int, worker: str, work_digest: bytes) -> tuple[bytes, SlashState]:
        """Return an accusation's id and state."""
        slash_id = await self._read(lambda: self._ledger.slash_id(run_id, worker, work_digest))
        return slash_id, await self._read(lambda: self._ledger.slash(slash_id))

    async def quorum(
        self, run: RunState, digest: bytes, signatures: Mapping[bytes, bytes]
    ) -> dict[str, bytes] | None:
        """Return as many signatures as the ledger asks for, of those it takes now, or None.

        It refuses a whole quorum for one signer that has withdrawn its stake or revoked its key since
        it signed; a verifier must not be able to stop payment, or a slash, by doing so.
        """
        chosen: dict[str, bytes] = {}
        for identity in run.verifiers:
            signature = signatures.get(identity.encode())
            if signature is None or len(chosen) == run.threshold:
                continue
            signer = recover(digest, signature)
            owner, stake = await self._read(partial(self._standing, signer, identity))
            if owner == identity and stake >= run.min_stake:
                chosen[identity] = signature
        return chosen if len(chosen) == run.threshold else None

    def _standing(self, signer: str, identity: str) -> tuple[str | None, int]:
        return self._ledger.owner_of(signer), self._ledger.stake_of(identity)

    async def open_epoch(self, run_id: int, secret_hash: bytes) -> int:
        return await self._write(lambda: self._ledger.open_epoch(run_id, secret_hash))

    async def post_epoch(
        self, header: EpochHeader, secret: bytes, signatures: dict[str, bytes], data_uri: str
    ) -> None:
        await self._write(lambda: self._ledger.post_epoch(header, secret, signatures, data_uri))

    async def renew_permit(self, run_id: int) -> None:
        await self._write(lambda: self._ledger.renew_permit(run_id))

    async def advance(self, run_id: int) -> None:
        await self._write(lambda: self._ledger.advance(run_id))

    async def propose_slash(self, report: FraudReport, signatures: dict[str, bytes]) -> None:
        await self._write(lambda: self._ledger.propose_slash(report, signatures))

    async def execute_slash(self, slash_id: bytes) -> None:
        await self._write(lambda: self._ledger.execute_slash(slash_id))

    async def _read(self, call: Callable[[], Answer]) -> Answer:
        try:
            with self._voice.hears(ChainUnreachable):
                return await asyncio.to_thread(call)
        except ChainUnreachable as error:
            raise Busy(
                "the chain does not answer; send the same again", retry_after_seconds=2.0
            ) from error

    async def _write(self, call: Callable[[], Answer]) -> Answer:
        # The sender owns the nonce and is thread-safe; the lock keeps one write in flight at a time.
        async with self._writes:
            with self._voice.hears(ChainUnreachable):
                return await asyncio.to_thread(call)

    async def _cached(
        self,
        key: tuple[Any, ...],
        call: Callable[[], Answer],
        seconds: Callable[[Answer], float],
    ) -> Answer:
        now = self._clock()
        known = self._cache.get(key)
        if known is not None and known[0] > now:
            return known[1]
        found = await self._read(call)
        if len(self._cache) > 100_000:
            self._cache.clear()
        self._cache[key] = (now + seconds(found), found)
        return found
