"""From the `Authorization` header to the parts of a token, and the memory of tokens that were found good.

Nothing here decides who somebody is; it only refuses what cannot be a bearer JWT before any key is touched.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from base64 import urlsafe_b64decode
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import orjson

from vmcp.auth.interface import Headers, Principal

MAX_TOKEN_BYTES = 16_384
MAX_HEADER_BYTES = 8_192
MAX_KID = 256
ALGORITHMS = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"}
)
"""Signatures with public keys. No `none`, no HMAC: a resource server holds no shared secret with the issuer."""

_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt", "application/jwt"})
_COMPACT = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


class BadCredential(Exception):  # noqa: N818  said to the client as invalid_token or invalid_request
    """What the header holds is no acceptable token.

    Attributes:
        error: The RFC 6750 error code; empty = no credential at all, which gets no error code.
    """

    def __init__(self, reason: str, error: str = "invalid_token") -> None:
        super().__init__(reason)
        self.error = error


@dataclass(frozen=True, slots=True)
class JoseHeader:
    """What we use of a token's header. `jwk`, `jku`, `x5c` and their like are never looked at."""

    algorithm: str
    kid: str | None


def bearer_token(headers: Headers) -> str:
    """Return the bearer token.

    Raises:
        BadCredential: There is none, more than one, or something that is no token.
    """
    found: bytes | None = None
    for name, value in headers:
        if name == b"authorization":
            if found is not None:
                raise BadCredential("more than one Authorization header", "invalid_request")
            found = value
    if found is None:
        raise BadCredential("no credential", "")
    scheme, _, token = found.strip(b" \t").partition(b" ")
    token = token.strip(b" \t")
    if scheme.lower() != b"bearer":
        raise BadCredential("the Authorization header has no bearer token", "")
    if len(token) > MAX_TOKEN_BYTES:
        raise BadCredential(f"the token is longer than {MAX_TOKEN_BYTES} bytes")
    if not _COMPACT.fullmatch(token):
        raise BadCredential("the token is not a signed JWT")
    return token.decode("ascii")


def jose_header(token: str) -> JoseHeader:
    """Read a compact JWS's header.

    Raises:
        BadCredential: Not readable, or with an algorithm, type or extension that we do not accept.
    """
    encoded = token.partition(".")[0]
    if len(encoded) > MAX_HEADER_BYTES:
        raise BadCredential("the token's header is too long")
    try:
        header: Any = orjson.loads(urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
    except (binascii.Error, ValueError):
        raise BadCredential("the token's header is not readable") from None
    if not isinstance(header, dict):
        raise BadCredential("the token's header is not an object")
    algorithm, kid, kind = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise BadCredential("the token's algorithm is not accepted")
    if "crit" in header:
        raise BadCredential("the token needs an extension that is not supported")
    if kid is not None and (not isinstance(kid, str) or len(kid) > MAX_KID):
        raise BadCredential("the token's key id is not valid")
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise BadCredential("the token is not an access token")
    return JoseHeader(algorithm, kid)


class TokenCache:
    """Tokens that were validated: a bounded LRU keyed by their SHA-256, each good until the token ends.

    Keyed by a digest so that a memory dump of the table alone holds no credentials twice, and bounded in time so that a
    key that was withdrawn does not live on in here.
    """

    def __init__(self, size: int = 10_000, ttl: float = 300.0) -> None:
        """Make an empty cache.

        Args:
            size: Entries kept; the least recently used one goes first.
            ttl: Seconds after which a token is validated again, whatever its `exp` says.
        """
        self._size = size
        self._ttl = ttl
        self._entries: OrderedDict[bytes, tuple[float, Principal]] = OrderedDict()

    def get(self, token: str, now: float) -> Principal | None:
        """Return the principal of a token that is still good at `now` (Unix seconds)."""
        key = hashlib.sha256(token.encode()).digest()
        entry = self._entries.get(key)
        if entry is None:
            return None
        if now >= entry[0]:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return entry[1]

    def put(self, token: str, principal: Principal, now: float) -> None:
        """Remember a token that was validated at `now`."""
        until = now + self._ttl
        if principal.expires_at is not None:
            until = min(until, principal.expires_at)
        if until > now:
            self._entries[hashlib.sha256(token.encode()).digest()] = (until, principal)
            if len(self._entries) > self._size:
                self._entries.popitem(last=False)

    def __len__(self) -> int:
        return len(self._entries)
