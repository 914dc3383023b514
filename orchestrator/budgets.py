"""Who pays for a request, and how much: what one stranger costs, one stranger pays.

Accounts are free, so one that has not at stake what a run asks for pays from what its network address may spend,
like a request without an account; one with such a stake pays for itself. A payer with one request left may make any; what that
costs beyond one is owed, and so is what a malformed body adds: the next requests wait for it.
"""

import asyncio
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

from starlette.requests import Request

from orchestrator.auth import SignedIn
from orchestrator.config import Limits
from orchestrator.services import Services
from protocol.errors import TooManyRequests

SIGN_IN = 5
"""Requests that a sign-in counts as: a signature, and two reads of the chain where the wallet is new."""
REGISTRATION = 40
"""Asking for a run to be served: reads of the chain."""
PAGE = 10
"""Metrics, or the description of all routes: milliseconds."""
PART_BYTES = 1 << 20
"""Bytes of an answer that count as one request."""
RECORDS = 16
"""Step records that count as one request: each is a blob."""
MALFORMED = 5
"""What a body that cannot be read adds: a refused one must cost its sender more than a good one."""
HELD_SECONDS = 0.5
"""How long who owes waits for its refusal, at most, where it asks for one thing at a time."""
PACE_SECONDS = 0.02
"""Between two refusals of one payer, over however many connections it asks: those take a hundredth of a core."""
MOST_HELD_SECONDS = 4.0
"""How long any refusal waits for its turn; whoever looks whether somebody answers has more patience."""
IPV6_BLOCK_BITS = 64
"""What one subscriber is given at least: counted singly, its addresses would be 2^64 strangers."""


@dataclass(frozen=True, slots=True)
class Payer:
    """Whose bucket a request is taken from, and how that fills."""

    name: str
    rate: float
    burst: int


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends a submission, and who pays for its requests."""

    identity: str
    payer: Payer


def payer_of(limits: Limits, host: str | None, account: SignedIn | None = None) -> Payer:
    """Return who pays for what an account, or somebody without one, asks from a host."""
    if account is not None and account.is_staked:
        return Payer(account.identity, limits.requests_per_second, limits.request_burst)
    return Payer(
        block_of(host or "unknown"),
        limits.address_requests_per_second,
        limits.address_request_burst,
    )


@lru_cache(maxsize=4096)
def block_of(host: str) -> str:
    """Return the addresses that are counted as one: an IPv4 address, or an IPv6 /64."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host  # a Unix socket's, or a test's
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address
    if isinstance(address, IPv4Address):
        return str(address)
    shift = 128 - IPV6_BLOCK_BITS
    return f"{IPv6Address(int(address) >> shift << shift)}/{IPV6_BLOCK_BITS}"


class Debtors:
    """Who came too early, until when that is, and when each is told so.

    Who owes is refused from memory, after a while and one request at a time: a refusal must cost less than what it
    refuses, and who does not wait must not ask as fast as it is refused, nor faster over more connections.
    """

    MOST = 10_000
    """Payers that are remembered; Redis knows of all."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}
        self._turns: dict[str, float] = {}
        self._last = 0.0

    def note(self, payer: str, until: float) -> None:
        """Remember that a payer may ask for nothing until then."""
        if len(self._until) >= self.MOST:
            self._until.clear()
            self._turns.clear()
        self._until[payer] = until
        self._last = max(self._last, until)

    def any_owes(self, now: float) -> bool:
        return now < self._last

    async def refusal(self, payer: str, now: float) -> TooManyRequests | None:
        """Return at a payer's turn what it is told, or None at once where it owes nothing."""
        left = self._until.get(payer, now) - now
        if left <= 0:
            return None
        time = asyncio.get_running_loop().time()
        turn = max(time + min(left, HELD_SECONDS), self._turns.get(payer, time))
        turn = min(turn, time + MOST_HELD_SECONDS)
        self._turns[payer] = turn + PACE_SECONDS
        await asyncio.sleep(turn - time)
        return TooManyRequests.of(payer, left)


async def spend(services: Services, request: Request, payer: Payer, cost: int = 1) -> None:
    """Take a request from its payer; raise `TooManyRequests` where it owes."""
    request.state.payer = payer
    now, debtors = services.clock(), request.app.state.debtors
    if refusal := await debtors.refusal(payer.name, now):
        raise refusal
    try:
        await services.store.runs.admit_request(
            *(payer.name, cost), rate=payer.rate, burst=payer.burst, now=now
        )
    except TooManyRequests as error:
        debtors.note(payer.name, now + (error.retry_after_seconds or 0.0))
        raise


async def charge(services: Services, request: Request, cost: int) -> None:
    """Add to what a request that was admitted has cost its payer."""
    payer: Payer = request.state.payer
    await services.store.runs.charge(
        *(payer.name, cost), rate=payer.rate, burst=payer.burst, now=services.clock()
    )


class Trust:
    """Senders whose last bodies were good: the next may be read in the round trip that counts its request.

    A few at a time, and none after a refusal: then a request is counted before its body is read.
    """

    MOST_BODIES = 64
    MOST_SENDERS = 10_000

    def __init__(self, most_bodies: int = MOST_BODIES) -> None:
        self._most_bodies = most_bodies
        self._left: dict[tuple[int, str], int] = {}

    def use(self, sender: tuple[int, str]) -> bool:
        """Return whether a body may be read at once, and take one from those that may."""
        left = self._left.get(sender, 0)
        if left:
            self._left[sender] = left - 1
        return left > 0

    def earn(self, sender: tuple[int, str]) -> None:
        if len(self._left) >= self.MOST_SENDERS:
            self._left.clear()
        self._left[sender] = min(self._most_bodies, self._left.get(sender, 0) + 2)

    def lose(self, sender: tuple[int, str]) -> None:
        self._left.pop(sender, None)
