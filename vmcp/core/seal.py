"""Tokens that clients carry for us: session ids, page cursors, request state. Nobody else can read or make one.

AES-256-GCM with a random nonce; the purpose is authenticated with the content, so that a token of one kind is worthless
as another. Whatever a token is bound to (a principal, a request) lies inside it and is compared by who opens it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Sequence
from enum import StrEnum

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAX_TOKEN = 64 * 1024
"""Longer tokens are refused unread, characters."""
_NONCE = 12


class Purpose(StrEnum):
    """What a token is for."""

    SESSION = "session"
    CURSOR = "cursor"
    STATE = "state"


class SealError(ValueError):
    """The token is not ours, not of this purpose, or damaged."""


class Sealer:
    """Seals with the first secret, opens with any: that is how secrets are rotated."""

    def __init__(self, secrets: Sequence[bytes] = ()) -> None:
        """Take the secrets, newest first, each of at least 16 bytes; without any, one of this process's own is made.

        Raises:
            ValueError: A secret is too short.
        """
        if any(len(secret) < 16 for secret in secrets):
            raise ValueError("a sealing secret must have at least 16 bytes")
        self._keys = [
            AESGCM(hashlib.sha256(b"vmcp seal\0" + secret).digest()) for secret in secrets or (os.urandom(32),)
        ]

    def seal(self, purpose: Purpose, content: bytes) -> str:
        """Return a token of URL-safe characters."""
        nonce = os.urandom(_NONCE)
        sealed = nonce + self._keys[0].encrypt(nonce, content, purpose.value.encode())
        return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()

    def open(self, purpose: Purpose, token: str) -> bytes:
        """Return the content.

        Raises:
            SealError: Anything is wrong with the token; the text does not say what.
        """
        if len(token) > MAX_TOKEN:
            raise SealError("the token is too long")
        try:
            sealed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError) as err:
            raise SealError("the token is not valid") from err
        for key in self._keys:
            try:
                return key.decrypt(sealed[:_NONCE], sealed[_NONCE:], purpose.value.encode())
            except (InvalidTag, ValueError):
                continue
        raise SealError("the token is not valid")
