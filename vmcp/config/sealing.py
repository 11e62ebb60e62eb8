"""The secret that replicas share for sealing what clients carry: session ids, page cursors, request state.

The operator makes one per gateway and hands it to every pod as the text of base64 around 32 random bytes. Without it a
process makes one of its own, and what it sealed is worth nothing to others or after a restart.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Final

from api.contract.errors import ConfigError
from api.contract.identifiers import SESSION_HMAC_ENV

MIN_BYTES: Final = 32
"""Of the decoded secret: the strength of the keys that are derived from it."""


def sealing_secret(environ: Mapping[str, str]) -> tuple[bytes | None, ConfigError | None]:
    """Return the shared secret, None where none is given, and what is wrong with the one that is."""
    text = environ.get(SESSION_HMAC_ENV, "").strip()
    if not text:
        return None, None
    try:
        secret = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None, _wrong("is not base64")
    if len(secret) < MIN_BYTES:
        return None, _wrong(f"holds {len(secret)} bytes; at least {MIN_BYTES} are needed")
    if not any(secret):
        return None, _wrong("is all zero")
    return secret, None


def _wrong(what: str) -> ConfigError:
    return ConfigError(SESSION_HMAC_ENV, f"the secret {what}")
