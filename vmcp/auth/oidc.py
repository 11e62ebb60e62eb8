"""OIDC: bearer JWTs of one issuer, for one audience.

A token is accepted when its signature verifies under one of the issuer's keys with an algorithm that fits the key,
`iss` is the issuer to the letter, `aud` holds our audience, `sub` is there, and the time lies between `nbf` and `exp`.
Scopes are published in the metadata and in the challenge; what a caller may do is decided by policy, from the claims.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import orjson
from joserfc import jws
from joserfc.errors import JoseError, UnsupportedAlgorithmError

from vmcp.auth.interface import LEEWAY, Headers, Principal, ProtectedResource, Unauthenticated
from vmcp.auth.jwks import KeyStore, KeysUnavailable, VerificationKey
from vmcp.auth.tokens import (
    ALGORITHMS,
    MAX_HEADER_BYTES,
    MAX_TOKEN_BYTES,
    BadCredential,
    TokenCache,
    bearer_token,
    jose_header,
)

MAX_CANDIDATES = 8
"""Keys tried for a token without `kid`."""

WELL_KNOWN = "/.well-known/oauth-protected-resource"


@dataclass(frozen=True, slots=True)
class OidcSettings:
    """What incomingAuth.oidc says.

    Attributes:
        issuer: `iss` to the letter.
        audience: Must be in `aud`.
        resource: The URL that clients use (RFC 8707); the audience where it is a URL and nothing else is said.
        scopes: Published, not enforced.
        group_claim: Claim that holds the groups; dots step into objects where no claim has the whole name.
        role_claim: The same for roles.
        realm: Named in the challenge.
    """

    issuer: str
    audience: str
    resource: str = ""
    scopes: tuple[str, ...] = ()
    group_claim: str = ""
    role_claim: str = ""
    realm: str = "vmcp"


class _Registry(jws.JWSRegistry):
    """Room for what identity providers really send: certificates in the header, a hundred groups in the body."""

    max_header_length = MAX_HEADER_BYTES
    max_payload_length = MAX_TOKEN_BYTES

    def get_alg(self, name: str) -> Any:
        """Return the one algorithm that was allowed, without the base class's opinions about its age."""
        if name not in (self.allowed or ()):
            raise UnsupportedAlgorithmError(name)
        return self.algorithms[name]


_REGISTRIES = {name: _Registry(algorithms=[name], strict_check_header=False) for name in ALGORITHMS}


class OidcAuthenticator:
    """`Authenticator` for OIDC."""

    def __init__(
        self,
        settings: OidcSettings,
        keys: KeyStore,
        *,
        cache: TokenCache | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Combine settings and keys; `clock` gives Unix seconds."""
        self._settings = settings
        self._keys = keys
        self._cache = TokenCache() if cache is None else cache
        self._clock = clock
        self._resource = protected_resource(settings)

    async def authenticate(self, headers: Headers) -> Principal:
        """See `Authenticator.authenticate`."""
        try:
            token = bearer_token(headers)
            now = self._clock()
            known = self._cache.get(token, now)
            if known is not None:
                return known
            principal = await self._validate(token)
        except BadCredential as error:
            raise self._refuse(str(error), error.error) from None
        except KeysUnavailable as error:
            raise Unauthenticated(
                f"the issuer's keys are not available: {error}",
                www_authenticate=None,
                status=503,
                retry_after=error.retry_after,
            ) from None
        self._cache.put(token, principal, now)
        return principal

    async def _validate(self, token: str) -> Principal:
        header = jose_header(token)
        keys = await self._keys.find(header.kid, header.algorithm)
        claims = verify_signature(token, header.algorithm, keys)
        return principal_of(claims, token, self._settings, self._clock())

    def _refuse(self, reason: str, error: str) -> Unauthenticated:
        return Unauthenticated(reason, www_authenticate=challenge(self._settings, error, reason))

    def protected_resource(self) -> ProtectedResource | None:
        """See `Authenticator.protected_resource`."""
        return self._resource

    async def close(self) -> None:
        """See `Authenticator.close`."""
        await self._keys.close()


def verify_signature(token: str, algorithm: str, keys: tuple[VerificationKey, ...]) -> dict[str, Any]:
    """Return the claims, once one key verifies the signature.

    Raises:
        BadCredential: No key, no match, or no JSON object inside.
    """
    if not keys:
        raise BadCredential("the token's key is not one of the issuer's")
    for candidate in keys[:MAX_CANDIDATES]:
        try:
            signed = jws.deserialize_compact(token, candidate.key, registry=_REGISTRIES[algorithm])
            claims = orjson.loads(signed.payload)
        except (JoseError, ValueError):
            continue
        if isinstance(claims, dict):
            return claims
    raise BadCredential("the token's signature does not verify")


def principal_of(claims: dict[str, Any], token: str, settings: OidcSettings, now: float) -> Principal:
    """Check the claims of a token whose signature is good.

    Raises:
        BadCredential: A claim is missing or wrong.
    """
    if claims.get("iss") != settings.issuer:
        raise BadCredential("the token is from another issuer")
    audience = claims.get("aud")
    if audience != settings.audience and not (isinstance(audience, list) and settings.audience in audience):
        raise BadCredential("the token is for another audience")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not subject or "\0" in subject:
        raise BadCredential("the token has no subject")
    expires = _number(claims, "exp")
    if expires is None:
        raise BadCredential("the token has no expiry")
    if now >= expires + LEEWAY:
        raise BadCredential("the token is expired")
    for name in ("nbf", "iat"):
        start = _number(claims, name)
        if start is not None and now < start - LEEWAY:
            raise BadCredential("the token is not valid yet")
    return Principal(
        subject,
        settings.issuer,
        claims,
        token,
        names_in(claims, settings.group_claim),
        names_in(claims, settings.role_claim),
        expires,
    )


def _number(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        raise BadCredential(f"the token's {name} is not a time")
    return float(value)


def names_in(claims: Mapping[str, Any], claim: str) -> tuple[str, ...]:
    """Return the strings of a claim, `realm_access.roles` style paths included; a single string counts as one."""
    if not claim:
        return ()
    value: Any = claims.get(claim)
    if value is None and "." in claim:
        value = claims
        for part in claim.split("."):
            value = value.get(part) if isinstance(value, dict) else None
    if isinstance(value, str):
        return (value,)
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def challenge(settings: OidcSettings, error: str, description: str) -> str:
    """Return the `WWW-Authenticate` value: RFC 6750 section 3, RFC 9728 section 5.1."""
    parts = [("realm", settings.realm)]
    url = metadata_url(settings)
    if url:
        parts.append(("resource_metadata", url))
    if settings.scopes:
        parts.append(("scope", " ".join(settings.scopes)))
    if error:
        parts += [("error", error), ("error_description", description)]
    return "Bearer " + ", ".join(f'{name}="{_quotable(value)}"' for name, value in parts)


def _quotable(value: str) -> str:
    return "".join(char for char in value if " " <= char <= "~" and char not in '"\\')


def resource_url(settings: OidcSettings) -> str:
    """Return the resource identifier, or an empty string where none is known."""
    if settings.resource:
        return settings.resource
    return settings.audience if urlsplit(settings.audience).scheme in ("http", "https") else ""


def metadata_url(settings: OidcSettings) -> str:
    """Return where the RFC 9728 document is: the well-known part goes between host and path."""
    parts = urlsplit(resource_url(settings))
    return f"{parts.scheme}://{parts.netloc}{WELL_KNOWN}{parts.path.rstrip('/')}" if parts.netloc else ""


def protected_resource(settings: OidcSettings) -> ProtectedResource:
    """Return the RFC 9728 document, served at the bare path and at the one with the resource's path."""
    document: dict[str, Any] = {
        "resource": resource_url(settings) or settings.audience,
        "authorization_servers": [settings.issuer],
        "bearer_methods_supported": ["header"],
    }
    if settings.scopes:
        document["scopes_supported"] = list(settings.scopes)
    path = urlsplit(resource_url(settings)).path.rstrip("/")
    return ProtectedResource(frozenset({WELL_KNOWN, WELL_KNOWN + path, WELL_KNOWN + "/mcp"}), orjson.dumps(document))
