"""Tokens that clients carry for us: session ids, page cursors, request state. Nobody else can read or make one.

AES-256-GCM with a random nonce, under a key of its own per purpose, so that a token of one kind is worthless as
another. Whatever a token is bound to (a principal, a request) lies inside it and is compared by who opens it.

Replicas that share a secret open each other's tokens. The keys are derived (HKDF, RFC 5869) from the secret and a
random salt of the sealing process, which the token carries: random nonces are safe for about 2^32 tokens per key, which
a secret that many replicas use for years could exceed and one process does not.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections import OrderedDict
from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MAX_TOKEN: Final = 64 * 1024
"""Longer tokens of clients are refused unread, characters."""
MIN_SECRET: Final = 16
"""Bytes of a secret, at least."""
_SALT: Final = 16
_NONCE: Final = 12
_KEPT: Final = 256
"""Keys of other processes that are kept; beyond that the one that was not used for longest is derived again."""


class Purpose(StrEnum):
    """What a token is for."""

    SESSION = "session"
    CURSOR = "cursor"
    STATE = "state"
    RECORD = "record"
    """Of a session, where replicas share it."""
    NOTE = "note"
    """From replica to replica."""


class SealError(ValueError):
    """The token is not ours, not of this purpose, or damaged."""


class Sealer:
    """Seals with the first secret, opens with any: that is how secrets are rotated."""

    def __init__(self, secrets: Sequence[bytes] = ()) -> None:
        """Take the secrets, newest first, each of at least 16 bytes; without any, one of this process's own is made.

        Raises:
            ValueError: A secret is too short.
        """
        if any(len(secret) < MIN_SECRET for secret in secrets):
            raise ValueError(f"a sealing secret must have at least {MIN_SECRET} bytes")
        self._secrets = tuple(secrets) or (os.urandom(32),)
        self._salt = os.urandom(_SALT)
        self._own = {purpose: _derive(self._secrets[0], self._salt, purpose) for purpose in Purpose}
        self._others: OrderedDict[tuple[Purpose, bytes], AESGCM] = OrderedDict()

    def seal(self, purpose: Purpose, content: bytes) -> str:
        """Return a token of URL-safe characters."""
        nonce = os.urandom(_NONCE)
        sealed = self._salt + nonce + self._own[purpose].encrypt(nonce, content, None)
        return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()

    def open(self, purpose: Purpose, token: str, *, limit: int = MAX_TOKEN) -> bytes:
        """Return the content.

        Args:
            purpose: For which it was sealed.
            token: As `seal` returned it.
            limit: Longer tokens are refused unread, characters.

        Raises:
            SealError: Anything is wrong with the token; the text does not say what.
        """
        if len(token) > limit:
            raise SealError("the token is too long")
        try:
            sealed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError) as err:
            raise SealError("the token is not valid") from err
        salt, nonce, content = sealed[:_SALT], sealed[_SALT : _SALT + _NONCE], sealed[_SALT + _NONCE :]
        if salt == self._salt:
            found = _decrypt(self._own[purpose], nonce, content)
        else:
            found = self._open_others(purpose, salt, nonce, content)
        if found is None:
            raise SealError("the token is not valid")
        return found

    def _open_others(self, purpose: Purpose, salt: bytes, nonce: bytes, content: bytes) -> bytes | None:
        """Open what another process sealed. Only keys that opened something are kept: anybody can send a salt."""
        known = self._others.get((purpose, salt))
        if known is not None:
            self._others.move_to_end((purpose, salt))
            return _decrypt(known, nonce, content)
        for secret in self._secrets:
            key = _derive(secret, salt, purpose)
            found = _decrypt(key, nonce, content)
            if found is not None:
                self._others[purpose, salt] = key
                if len(self._others) > _KEPT:
                    self._others.popitem(last=False)
                return found
        return None


def _derive(secret: bytes, salt: bytes, purpose: Purpose) -> AESGCM:
    kdf = HKDF(algorithm=SHA256(), length=32, salt=salt, info=b"vmcp seal 1 " + purpose.value.encode())
    return AESGCM(kdf.derive(secret))


def _decrypt(key: AESGCM, nonce: bytes, content: bytes) -> bytes | None:
    try:
        return key.decrypt(nonce, content, None)
    except (InvalidTag, ValueError):
        return None
