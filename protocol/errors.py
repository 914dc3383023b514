"""Every refusal that crosses the wire. A bad request is an exception; a bad rollout is a `Verdict`.

    MarketError
    ├── Malformed 400        cannot be read: encoding, field, length
    ├── Unauthorized 401     the sender is not established
    │   ├── BadSignature     ├── TokenExpired
    ├── Forbidden 403        the sender is known and may not
    ├── NotFound 404
    ├── Refused 409          well formed, against the rules now; never retry unchanged
    │   ├── LeaseExpired     ├── LeaseForeign      ├── LeaseUsed       ├── RunNotOpen
    │   ├── NotJoined        ├── Excluded          ├── ConflictingVerdict  ├── AuditForeign
    │   ├── VoteLost         ├── VoteOpen          ├── SelfCheckDue    ├── TooManyRejected
    │   ├── PolicyOutOfOrder ├── ClockSkew         ├── Replayed        ├── StepOutOfOrder
    ├── TooLarge 413
    └── Busy 503             try again after `retry_after_seconds`
        ├── TooManyRequests 429   └── TooManyLeases 429

`code` is the wire's name of the class; messages carry the offending values and the remedy.
"""

from typing import ClassVar


class MarketError(Exception):
    """The base of every refusal; `status` is its HTTP status, `code` its name on the wire."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "market_error"

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        self.message = message[:4000]  # what it repeats of a stranger may be of any length
        super().__init__(self.message)
        self.retry_after_seconds = retry_after_seconds

    def __init_subclass__(cls) -> None:
        words = "".join(f"_{c.lower()}" if c.isupper() else c for c in cls.__name__)
        cls.code = words.lstrip("_")


class Malformed(MarketError):
    status = 400


class Unauthorized(MarketError):
    status = 401


class BadSignature(Unauthorized):
    """The expected account did not sign exactly these bytes."""


class TokenExpired(Unauthorized):
    """The bearer token is unknown or past its lifetime: sign in again."""


class Forbidden(MarketError):
    status = 403


class NotFound(MarketError):
    status = 404


class Refused(MarketError):
    status = 409


class LeaseExpired(Refused):
    """The lease's deadline passed before the submission arrived."""


class LeaseForeign(Refused):
    """The lease belongs to another worker."""


class LeaseUsed(Refused):
    """A different submission was already accepted under this lease."""


class RunNotOpen(Refused):
    """The run is halted, stopped, closed or out of budget."""


class NotJoined(Refused):
    """The worker has not joined the run on chain, or its stake is below the run's minimum."""


class Excluded(Refused):
    """The worker's work was found false, or kept back by its worth; its groups are not taken."""


class SelfCheckDue(Refused):
    """The worker's sequential test raised an alarm: no leases until its machine passes a self-check."""


class TooManyRejected(Refused):
    """More of the worker's groups were rejected than accepted: no leases for a while."""


class ConflictingVerdict(Refused):
    """The verifier already sealed or signed another verdict on this work."""


class AuditForeign(Refused):
    """The replay was not handed to this verifier: nobody chooses what it judges."""


class VoteLost(Refused):
    """The verifier judged a group of known quality wrongly; its verdicts count no more."""


class VoteOpen(Refused):
    """Too few verifiers have sealed their verdicts on this work: none is taken yet."""


class PolicyOutOfOrder(Refused):
    """A policy must be the next version, on top of the newest one."""


class ClockSkew(Refused):
    """A signed time is too far from the receiver's clock."""


class Replayed(Refused):
    """A one-time message was seen before."""


class StepOutOfOrder(Refused):
    """The trainer asked for a batch that is neither the current nor the next one."""


class TooLarge(MarketError):
    status = 413


class Busy(MarketError):
    status = 503


class TooManyRequests(Busy):
    status = 429

    @classmethod
    def of(cls, who: str, seconds: float) -> "TooManyRequests":
        """Return the refusal of who may ask again in so many seconds."""
        return cls(
            f"too many requests from {who}: come back in {seconds:.2f} s",
            retry_after_seconds=round(seconds + 0.01, 2),
        )


class TooManyLeases(Busy):
    status = 429


def by_code() -> dict[str, type[MarketError]]:
    """Return every class of the tree by its wire code, for a client that raises what it receives."""
    found: dict[str, type[MarketError]] = {}
    pending: list[type[MarketError]] = [MarketError]
    while pending:
        cls = pending.pop()
        found.setdefault(cls.code, cls)  # a class without its own code is never on the wire
        pending.extend(cls.__subclasses__())
    return found
