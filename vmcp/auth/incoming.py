"""Who gets in: what the configuration says about callers, and the authenticator that it asks for."""

from __future__ import annotations

import getpass
from dataclasses import dataclass

from vmcp.auth.fetch import AiohttpFetcher, Overrides
from vmcp.auth.interface import ANONYMOUS, LOCAL_ISSUER, Authenticator, Headers, Principal, ProtectedResource
from vmcp.auth.jwks import KeyStore
from vmcp.auth.oidc import OidcAuthenticator, OidcSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcSource:
    """Where the issuer's keys come from, besides what tokens must look like.

    Attributes:
        tokens: What a token must say.
        jwks_url: Skips discovery; empty = discover.
        allow_private: Key servers may have private addresses.
        allow_http: Key servers may be without TLS. For tests.
        ca_bundle: PEM file trusted besides the system's; None = system only.
    """

    tokens: OidcSettings
    jwks_url: str = ""
    allow_private: bool = False
    allow_http: bool = False
    ca_bundle: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IncomingSettings:
    """Who gets in.

    Attributes:
        mode: `anonymous`, `local` or `oidc`.
        oidc: Set for `oidc`.
    """

    mode: str = "anonymous"
    oidc: OidcSource | None = None


def build_authenticator(settings: IncomingSettings, resolve: Overrides | None = None) -> Authenticator:
    """Return the authenticator that `settings` ask for.

    Args:
        settings: Who gets in.
        resolve: Addresses to use instead of looking up the names of key servers.

    Raises:
        OSError: The CA bundle cannot be read, or holds no certificate.
    """
    if settings.oidc is not None:
        source = settings.oidc
        fetcher = AiohttpFetcher(ca_bundle=source.ca_bundle, resolve=resolve, allow_private=source.allow_private)
        keys = KeyStore(source.tokens.issuer, fetcher, jwks_url=source.jwks_url or None, allow_http=source.allow_http)
        return OidcAuthenticator(source.tokens, keys)
    return FixedAuthenticator(local_user()) if settings.mode == "local" else FixedAuthenticator()


class FixedAuthenticator:
    """`Authenticator` of a gateway without tokens: every caller is `anonymous`, or the local user in `local` mode."""

    def __init__(self, principal: Principal = ANONYMOUS) -> None:
        """Take every caller for `principal`."""
        self._principal = principal

    async def authenticate(self, headers: Headers) -> Principal:  # noqa: ARG002  the interface's signature
        """See `Authenticator.authenticate`."""
        return self._principal

    def protected_resource(self) -> ProtectedResource | None:
        """See `Authenticator.protected_resource`."""
        return None

    async def close(self) -> None:
        """Nothing to close."""


def local_user() -> Principal:
    """Return the principal of the operating system's user who runs the process; `local` where it has no name."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = "local"
    return Principal(name, LOCAL_ISSUER, {"sub": name, "iss": LOCAL_ISSUER, "name": name})
