"""EIP-4361 sign-in: the text a wallet signs to get a bearer token, and its strict reading.

Only the fields the market uses are allowed, in the order of the EIP's ABNF; anything else is
refused, so one text has one meaning.
"""

import re
from dataclasses import dataclass

from protocol.errors import Malformed
from protocol.wire import checksum_address

STATEMENT = "Sign in to Rollcall. This costs nothing and moves no money."

_PATTERN = re.compile(
    r"(?P<domain>[^\s/]{1,255}) wants you to sign in with your Ethereum account:\n"
    r"(?P<address>0x[0-9a-fA-F]{40})\n\n"
    + re.escape(STATEMENT)
    + r"\n\nURI: (?P<uri>\S{1,512})\nVersion: 1\nChain ID: (?P<chain_id>[0-9]{1,18})\n"
    r"Nonce: (?P<nonce>[0-9a-zA-Z]{8,64})\nIssued At: (?P<issued_at>[0-9]{4}-[0-9]{2}-[0-9]{2}T"
    r"[0-9]{2}:[0-9]{2}:[0-9]{2}Z)"
)


@dataclass(frozen=True, slots=True)
class SignIn:
    """One sign-in text. `issued_at` is RFC 3339 in UTC with seconds; `nonce` is used once.

    Example: SignIn("127.0.0.1:8000", "0x…", "http://127.0.0.1:8000", 31337, "4fWk9q2Zp1aX", "2026-…Z")
    """

    domain: str
    address: str
    uri: str
    chain_id: int
    nonce: str
    issued_at: str

    def text(self) -> str:
        """Return the exact text to sign with EIP-191."""
        return (
            f"{self.domain} wants you to sign in with your Ethereum account:\n{self.address}\n\n"
            f"{STATEMENT}\n\nURI: {self.uri}\nVersion: 1\nChain ID: {self.chain_id}\n"
            f"Nonce: {self.nonce}\nIssued At: {self.issued_at}"
        )


def parse(text: str) -> SignIn:
    """Read a sign-in text; raise `Malformed` for anything but the exact form."""
    found = _PATTERN.fullmatch(text)
    if found is None:
        raise Malformed("the sign-in text is not the EIP-4361 form of protocol/wire.md section 6")
    return SignIn(
        domain=found["domain"],
        address=checksum_address(found["address"]),
        uri=found["uri"],
        chain_id=int(found["chain_id"]),
        nonce=found["nonce"],
        issued_at=found["issued_at"],
    )
