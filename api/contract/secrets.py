"""What the value of a Secret must be for the gateway to use it: one rule for operator and gateway.

A configuration names values by variables; the gateway gets them from a `SecretSource`. The operator reads a Secret only
to learn whether a value would do and keeps the answer, never the value.
"""

from __future__ import annotations

import base64
import binascii
from typing import Protocol

from api.contract.headers import header_value_problem

MAX_SECRET = 16 * 1024
"""Characters of one value. Linux starts no program with a variable beyond 128 KiB."""
SESSION_SECRET_BYTES = 32
"""Fewest bytes of the decoded session secret: the strength of the keys that are derived from it."""


class SecretSource(Protocol):
    """Where a gateway finds the values of Secrets, by the variables that its configuration names.

    The process's environment is one; Secrets that are read by name are another.
    """

    def get(self, variable: str, default: str, /) -> str:
        """Return the value of a variable, as it stands in the Secret; `default` where there is none."""
        ...


def secret_text(value: str) -> str:
    r"""Return a Secret's value as it is used: without the one line break that `echo token | base64` leaves at its end.

    Exactly one goes, `\n` or `\r\n`; whoever writes two meant something else, and `secret_problem` says so.
    """
    if value.endswith("\r\n"):
        return value[:-2]
    return value.removesuffix("\n")


def secret_problem(value: str) -> str | None:
    """Say why a value cannot be used as a credential, such as a client secret; None when it can.

    Args:
        value: from `secret_text`.
    """
    if not value:
        return "is empty"
    if len(value) > MAX_SECRET:
        return f"is longer than {MAX_SECRET} characters"
    if any(char < " " or char == "\x7f" for char in value):
        return "contains a line break or another control character"
    return None


def secret_header_problem(value: str) -> str | None:
    """Say why a value from a Secret cannot stand in a header; None when it can.

    Args:
        value: from `secret_text`.
    """
    return secret_problem(value) or header_value_problem(value)


def decode_secret(value: bytes) -> str:
    """Return a Secret's bytes as the gateway finds them in its environment (PEP 383)."""
    return value.decode("utf-8", "surrogateescape")


def session_secret(text: str) -> tuple[bytes, str]:
    """Read the secret that replicas share for sealing what clients carry: base64 around at least 32 bytes.

    Args:
        text: the value, as it stands in the Secret or in the environment.

    Returns:
        The decoded secret and "", or no bytes and what is wrong, as the end of a sentence about the secret.
    """
    try:
        secret = base64.b64decode(secret_text(text).encode("ascii"), validate=True)
    except (binascii.Error, ValueError):
        return b"", "is not base64"
    if len(secret) < SESSION_SECRET_BYTES:
        return b"", f"holds {len(secret)} bytes; at least {SESSION_SECRET_BYTES} are needed"
    if not any(secret):
        return b"", "is all zero"
    return secret, ""
