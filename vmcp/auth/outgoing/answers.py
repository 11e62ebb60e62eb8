"""What token endpoints (RFC 6749, RFC 8693) and introspection endpoints (RFC 7662) answer, read and judged; pure.

Every function fails closed: an answer that leaves room for doubt is refused, with a sentence that holds no part of it.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from binascii import Error as Base64Error
from typing import Any

import orjson

from vmcp.auth.fetch import FetchedAnswer
from vmcp.auth.interface import AuthUnavailable

METHOD = "token_exchange"
"""The strategy that all of this belongs to."""
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105  a name, no secret
JWT = "urn:ietf:params:oauth:token-type:jwt"

UNKNOWN_LIFETIME = 60.0
"""Seconds that a token is kept whose end nobody told."""
MAX_LIFETIME = 3_600.0
SKEW = 30.0

_TOKEN = re.compile(r"[\x21-\x7e]{1,16384}")
_OAUTH_ERRORS = frozenset(
    {
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
        "invalid_target",
        "invalid_token",
        "access_denied",
        "interaction_required",
        "insufficient_scope",
    }
)


def refusal_of(answer: FetchedAnswer, endpoint: str) -> str:
    """Say that `endpoint` refused; the OAuth error code is told only if it is a registered one."""
    code = ""
    try:
        parsed: Any = orjson.loads(answer.body)
        if isinstance(parsed, dict) and parsed.get("error") in _OAUTH_ERRORS:
            code = f" ({parsed['error']})"
    except orjson.JSONDecodeError:
        pass
    return f"the {endpoint} refused with status {answer.status}{code}"


def issued_token(body: bytes) -> tuple[str, Any]:
    """Return the token of a token endpoint's 200 answer, and its `expires_in` as it came (None = not told).

    Raises:
        AuthUnavailable: The answer is unusable.
    """
    parsed = _object(body)
    if parsed is None:
        raise AuthUnavailable(METHOD, "the token endpoint's answer is not JSON")
    token = parsed.get("access_token")
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise AuthUnavailable(METHOD, "the token endpoint's answer contains no usable access_token")
    kind = parsed.get("token_type", "Bearer")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise AuthUnavailable(METHOD, "the token endpoint returned a token that is not a bearer token")
    if parsed.get("issued_token_type", ACCESS_TOKEN) not in (ACCESS_TOKEN, JWT):
        raise AuthUnavailable(METHOD, "the token endpoint returned a token that is not an access token")
    return token, parsed.get("expires_in")


def introspected_claims(answer: FetchedAnswer) -> dict[str, Any]:
    """Return what an introspection endpoint says about an active token (RFC 7662 section 2.2): `aud`, `exp`, ...

    Raises:
        AuthUnavailable: The endpoint refused, the token is not active, or the answer does not say for whom it is good.
    """
    if answer.status != 200:
        raise AuthUnavailable(METHOD, refusal_of(answer, "introspection endpoint"))
    claims = _object(answer.body)
    if claims is None:
        raise AuthUnavailable(METHOD, "the introspection endpoint's answer is not a JSON object")
    if claims.get("active") is not True:
        raise AuthUnavailable(METHOD, "the introspection endpoint says that the token is not active")
    if not claims.get("aud"):
        raise AuthUnavailable(METHOD, "the introspection endpoint does not say for which audience the token is")
    ends = claims.get("exp")
    if ends is not None and (isinstance(ends, bool) or not isinstance(ends, int | float)):
        raise AuthUnavailable(METHOD, "the introspection endpoint gives an exp that is not a number")
    return claims


def lifetime_of(expires_in: object, claims: dict[str, Any] | None, now: float) -> float:
    """Return the seconds during which a token may be used.

    Args:
        expires_in: What the token endpoint says.
        claims: The token's own, or what introspection says; None = unknown.
        now: Unix seconds.

    Raises:
        AuthUnavailable: The token is expired.
    """
    ends = claims.get("exp") if claims else None
    told = (expires_in, ends - now if isinstance(ends, int | float) else None)
    lifetimes = [float(value) for value in told if isinstance(value, int | float) and not isinstance(value, bool)]
    if not lifetimes:
        return UNKNOWN_LIFETIME
    lifetime = min(*lifetimes, MAX_LIFETIME)
    if lifetime <= 0:
        raise AuthUnavailable(METHOD, "the token endpoint returned a token that is expired already")
    return lifetime - min(SKEW, lifetime / 10)


def check_audience(claims: dict[str, Any], audience: str) -> None:
    """Refuse a token that is not for `audience`.

    Raises:
        AuthUnavailable: It is not.
    """
    found = claims.get("aud")
    if found != audience and not (isinstance(found, list) and audience in found):
        raise AuthUnavailable(METHOD, "the token is for another audience than the configured one")


def unverified_claims(token: str) -> dict[str, Any] | None:
    """Return a JWT's claims without checking its signature (it comes from the endpoint, by TLS); None = no JWT."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = orjson.loads(urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (Base64Error, ValueError):
        return None
    return claims if isinstance(claims, dict) else None


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        parsed: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return parsed if isinstance(parsed, dict) else None
