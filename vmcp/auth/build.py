"""From settings to running authentication."""

from __future__ import annotations

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


class _OwningExchange(TokenExchange):
    """Closes the fetcher that was made for it."""

    def __init__(self, settings: ExchangeSettings, fetcher: AiohttpFetcher) -> None:
        super().__init__(settings, fetcher)
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


def build_outgoing(
    settings: OutgoingSettings,
    resolve: Overrides | None = None,
    *,
    reach: Reach | None = None,
    allow_http: bool = False,
) -> OutgoingAuth:
    """Return the strategy that `settings` ask for.

    Args:
        settings: Of one backend.
        resolve: Addresses to use instead of looking names of token endpoints up.
        reach: Private addresses that token endpoints may have; None = none.
        allow_http: Token endpoints may be without TLS.
    """
    if isinstance(settings, InjectionSettings):
        return HeaderInjection(settings.name, settings.value)
    if isinstance(settings, ExchangeSettings):
        fetcher = AiohttpFetcher(resolve=resolve, allow_private=False, allow_http=allow_http, reach=reach or Reach())
        return _OwningExchange(settings, fetcher)
    return NoAuth()
