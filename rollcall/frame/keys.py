"""Private keys, from the environment: never from a committed file or a command line."""

import os
import secrets

from protocol.signing import address_of
from protocol.user_error import UserError

KEY_VARIABLE = "ROLLCALL_KEY"
KEY_BYTES = 32


def key_from_environment() -> bytes:
    """Return the 32-byte key; raise `UserError` with the remedy if there is none."""
    text = os.environ.get(KEY_VARIABLE, "").strip()
    if not text:
        raise UserError(
            f"set {KEY_VARIABLE} to a private key of 32 bytes in hex; `rollcall key` makes a new one"
        )
    try:
        key = bytes.fromhex(text.removeprefix("0x"))
        address_of(key)
    except ValueError as error:
        raise UserError(
            f"{KEY_VARIABLE} is not a private key: 64 hex digits are expected"
        ) from error
    if len(key) != KEY_BYTES:
        raise UserError(f"{KEY_VARIABLE} has {len(key)} bytes; a private key has {KEY_BYTES}")
    return key


def take_key() -> bytes:
    """Return the key and take it out of the environment, so that no child inherits it."""
    key = key_from_environment()
    del os.environ[KEY_VARIABLE]
    return key


def key_if_any() -> bytes | None:
    """Return the key of the environment, or None if none is set."""
    return key_from_environment() if os.environ.get(KEY_VARIABLE, "").strip() else None


def new_key() -> bytes:
    """Return a fresh random private key."""
    return secrets.token_bytes(KEY_BYTES)
