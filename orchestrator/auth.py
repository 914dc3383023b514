"""Who is asking: wallet sign-in to a bearer token, and the token back to an account.

Tokens are HS256 JWTs under a secret derived from the orchestrator's key, so every copy of it accepts
them and none stores them. A hot key signs in for its identity; both stand in the token.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

import jwt
from starlette.requests import Request

from orchestrator.services import Services
from protocol.constants import MAX_CLOCK_SKEW_SECONDS
from protocol.errors import ClockSkew, Forbidden, Replayed, TokenExpired, Unauthorized
from protocol.messages import Session, SessionRequest
from protocol.signin import parse
from protocol.signing import personal_digest, require_signer

ALGORITHM = "HS256"


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A signed-in party: the identity it acts for, and the key that signed in."""

    identity: str
    signer: str
    is_staked: bool = False
    """Whether the identity had as much at stake as a run asks for when it signed in."""


async def sign_in(
    services: Services, request: SessionRequest, *, domains: Collection[str]
) -> Session:
    """Return a session for a signed EIP-4361 text; each text works once."""
    text = parse(request.message)
    if not _is_named(text.domain, domains):
        raise Unauthorized(
            f"the text signs in to {text.domain}, this is {', '.join(sorted(domains))}: "
            "name the host you are calling"
        )
    if text.chain_id != services.chain.domain.chain_id:
        raise Unauthorized(
            f"the text names chain {text.chain_id}, this is {services.chain.domain.chain_id}"
        )
    now = services.clock()
    issued_at = datetime.strptime(text.issued_at, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    skew = issued_at.timestamp() - now
    if abs(skew) > MAX_CLOCK_SKEW_SECONDS:
        raise ClockSkew(
            f"the text was issued {skew:+.0f} s from now; at most {MAX_CLOCK_SKEW_SECONDS} s are "
            "allowed: set this machine's clock"
        )
    require_signer(
        personal_digest(request.message), request.signature, text.address, "the sign-in text"
    )
    seconds = 2 * MAX_CLOCK_SKEW_SECONDS + 1  # then stale anyway
    if not await services.store.runs.spend_nonce(text.nonce + text.address, seconds=seconds):
        raise Replayed(f"nonce {text.nonce} was used before: sign a text with a new one")
    identity = await services.chain.identity_of(text.address)
    is_staked = await services.chain.stake_of(identity) >= services.least_stake()
    return issue(services, SignedIn(identity, text.address, is_staked))


def _is_named(domain: str, names: Collection[str]) -> bool:
    """Return whether a text's domain is one of these; a name without a port stands for each of its ports."""
    domain = domain.lower()
    host = re.sub(r":[0-9]+$", "", domain)
    return any(name.lower() in (domain, host) for name in names)


def issue(services: Services, account: SignedIn) -> Session:
    """Return a bearer token for an account."""
    expires_at = int(services.clock()) + services.config.session_seconds
    claims = {"sub": account.identity, "key": account.signer, "exp": expires_at}
    claims["staked"] = account.is_staked
    token = jwt.encode(claims, services.session_secret, algorithm=ALGORITHM)
    return Session(token=token, address=account.identity, expires_at=expires_at)


def account_of(services: Services, request: Request) -> SignedIn:
    """Return who sent a request; raise `TokenExpired` or `Unauthorized`."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthorized("no bearer token: sign in at POST /v1/session")
    account, expires_at = _claims(token, services.session_secret)
    if expires_at < services.clock():
        raise TokenExpired("the token has expired: sign in again")
    return account


@lru_cache(maxsize=4096)
def _claims(token: str, secret: bytes) -> tuple[SignedIn, int]:
    """Read a token of ours; a worker sends the same one a thousand times."""
    try:
        claims = jwt.decode(
            token,
            secret,
            algorithms=[ALGORITHM],
            options={"verify_exp": False, "require": ["exp", "sub"]},
        )
    except (jwt.InvalidTokenError, RecursionError) as error:  # it reads a stranger's JSON first
        raise TokenExpired("the token is not one of this orchestrator's: sign in again") from error
    account = SignedIn(claims["sub"], claims["key"], bool(claims.get("staked")))
    return account, int(claims["exp"])


def require_role(account: SignedIn, allowed: Collection[str], role: str) -> None:
    """Raise `Forbidden` unless the account or its key is one of those allowed."""
    if account.identity not in allowed and account.signer not in allowed:
        raise Forbidden(
            f"{account.identity} is not this run's {role}: sign in with that account's key"
        )
