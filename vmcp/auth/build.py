"""From settings to running authentication."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from api.contract.urls import HttpUrl, read_http_url
from vmcp.auth.exchange import ExchangeSettings, TokenExchange
from vmcp.auth.fetch import AiohttpFetcher, Overrides
from vmcp.auth.interface import Authenticator, OutgoingAuth
from vmcp.auth.jwks import KeyStore
from vmcp.auth.local import FixedAuthenticator, local_user
from vmcp.auth.oidc import OidcAuthenticator
from vmcp.auth.static import HeaderInjection, NoAuth
from vmcp.config.settings import IncomingSettings, InjectionSettings, OidcSource, OutgoingSettings
from vmcp.http.client import Reach


class _OwningOidc(OidcAuthenticator):
    """Closes the fetcher that was made for it."""

    def __init__(self, source: OidcSource, fetcher: AiohttpFetcher) -> None:
        store = KeyStore(source.tokens.issuer, fetcher, jwks_url=source.jwks_url or None, allow_http=source.allow_http)
        super().__init__(source.tokens, store)
        self._fetcher = fetcher

    async def close(self) -> None:
        """See `Authenticator.close`."""
        await super().close()
        await self._fetcher.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEndpoints:
    """What whoever started the gateway says about token endpoints.

    Attributes:
        resolve: Addresses to use instead of looking their names up.
        reach: Private addresses that they may have.
        allow_http: They may be without TLS.
        opaque: How opaque tokens are checked (`TokenExchange`), by the URL of the endpoint that issues them.
    """

    resolve: Overrides | None = None
    reach: Reach = field(default_factory=Reach)
    allow_http: bool = False
    opaque: Mapping[str, str] = field(default_factory=dict)

    def opaque_of(self, token_url: str) -> str | None:
        """Return how the opaque tokens of an endpoint are checked; None = they are refused."""
        wanted = _identity(token_url)
        return next((way for url, way in self.opaque.items() if _identity(url) == wanted), None)


def _identity(url: str) -> HttpUrl | str:
    """Return what is equal for spellings of one URL: of the host, and of the port that is the scheme's."""
    try:
        return replace(read_http_url(url), written="")
    except ValueError:
        return url


class _OwningExchange(TokenExchange):
    """Closes the fetcher that was made for it."""

    def __init__(self, settings: ExchangeSettings, fetcher: AiohttpFetcher, opaque: str | None) -> None:
        super().__init__(settings, fetcher, opaque=opaque)
        self._own_fetcher = fetcher

    async def close(self) -> None:
        """See `OutgoingAuth.close`."""
        await super().close()
        await self._own_fetcher.close()


def build_authenticator(settings: IncomingSettings, resolve: Overrides | None = None) -> Authenticator:
    """Return the authenticator that `settings` ask for.

    Raises:
        OSError: The CA bundle cannot be read, or holds no certificate.
    """
    if settings.oidc is not None:
        source = settings.oidc
        fetcher = AiohttpFetcher(ca_bundle=source.ca_bundle, resolve=resolve, allow_private=source.allow_private)
        return _OwningOidc(source, fetcher)
    return FixedAuthenticator(local_user()) if settings.mode == "local" else FixedAuthenticator()


def build_outgoing(settings: OutgoingSettings, endpoints: TokenEndpoints) -> OutgoingAuth:
    """Return the strategy that `settings` of one backend ask for."""
    if isinstance(settings, InjectionSettings):
        return HeaderInjection(settings.name, settings.value)
    if isinstance(settings, ExchangeSettings):
        fetcher = AiohttpFetcher(
            resolve=endpoints.resolve, allow_private=False, allow_http=endpoints.allow_http, reach=endpoints.reach
        )
        return _OwningExchange(settings, fetcher, endpoints.opaque_of(settings.token_url))
    return NoAuth()
