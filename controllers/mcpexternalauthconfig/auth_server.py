"""What can be wrong with an embedded authorization server beyond its schema."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from urllib.parse import urlsplit

from api.common.auth_server import AuthServerStorageConfig, EmbeddedAuthServerConfig
from api.common.trust import TrustedIssuer
from api.common.upstreams import UpstreamProvider
from api.contract.urls import has_http_url_shape

RESERVED_PARAMS = frozenset(
    (
        "response_type",
        "client_id",
        "redirect_uri",
        "scope",
        "state",
        "code_challenge",
        "code_challenge_method",
        "nonce",
    )
)
"""Parameters of the authorization request that belong to the protocol."""


def auth_server_problems(config: EmbeddedAuthServerConfig) -> list[str]:
    """Return a sentence for everything that is wrong."""
    return [
        *_issuer_problems(config),
        *_upstream_problems(config),
        *_storage_problems(config.storage),
        *_trust_problems(config.trusted_issuers),
    ]


def synthesizes_identity(config: EmbeddedAuthServerConfig) -> bool:
    """Whether an upstream says nothing of who the user is, so that an identity must be made up."""
    return any(
        upstream.oauth2_config is not None
        and upstream.oauth2_config.user_info is None
        and upstream.oauth2_config.identity_from_token is None
        for upstream in config.upstream_providers
    )


def is_loopback(url: str) -> bool:
    """Whether a URL names this very machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _issuer_problems(config: EmbeddedAuthServerConfig) -> Iterator[str]:
    if not has_http_url_shape(config.issuer):
        yield "issuer must be an http:// or https:// URL with a host"
        return
    plain, loopback = config.issuer.startswith("http://"), is_loopback(config.issuer)
    if plain and not loopback and not config.insecure_allow_http:
        yield "issuer must use https:// unless insecureAllowHTTP is set or it is on loopback"
    confidential = config.allow_confidential_client_registration or config.force_confidential_redirect_uris
    if confidential and plain and not (loopback and config.insecure_allow_confidential_over_loopback_http):
        yield (
            "confidential clients need an https:// issuer, or one on loopback together with "
            "insecureAllowConfidentialOverLoopbackHTTP"
        )
    clients = Counter(client.client_id for client in config.delegate_clients)
    yield from (f'delegateClients: clientId "{name}" is used more than once' for name in _repeated(clients))


def _upstream_problems(config: EmbeddedAuthServerConfig) -> Iterator[str]:
    names = Counter(upstream.name for upstream in config.upstream_providers)
    if not names:
        yield "at least one upstream provider is required"
    yield from (f'upstreamProviders: name "{name}" is used more than once' for name in _repeated(names))
    primary = config.primary_upstream_provider
    if primary and primary not in names:
        yield f'primaryUpstreamProvider "{primary}" is none of the upstream providers'
    for upstream in config.upstream_providers:
        for name in sorted(RESERVED_PARAMS & _params(upstream)):
            yield f'upstreamProviders "{upstream.name}": additionalAuthorizationParams must not set {name}'


def _params(upstream: UpstreamProvider) -> set[str]:
    configs = (upstream.oidc_config, upstream.oauth2_config)
    return {name for config in configs if config is not None for name in config.additional_authorization_params}


def _storage_problems(storage: AuthServerStorageConfig | None) -> Iterator[str]:
    if storage is None:
        return
    if storage.type == "redis" and storage.redis is None:
        yield "storage.redis is required when storage.type is redis"
    if storage.type == "memory" and storage.redis is not None:
        yield "storage.redis must not be set when storage.type is memory"
    sentinel = storage.redis.sentinel_config if storage.redis is not None else None
    if sentinel is not None and bool(sentinel.sentinel_addrs) == (sentinel.sentinel_service is not None):
        yield "storage.redis.sentinelConfig: exactly one of sentinelAddrs or sentinelService must be set"


def _trust_problems(issuers: Iterable[TrustedIssuer]) -> Iterator[str]:
    issuers = list(issuers)
    urls = Counter(issuer.issuer_url for issuer in issuers)
    yield from (f'trustedIssuers: issuerUrl "{url}" is used more than once' for url in _repeated(urls))
    for issuer in issuers:
        for name, url in (("issuerUrl", issuer.issuer_url), ("jwksUrl", issuer.jwks_url or "")):
            if name == "jwksUrl" and not url:
                continue
            if not has_http_url_shape(url):
                yield f'trustedIssuers "{issuer.issuer_url}": {name} must be an http:// or https:// URL with a host'
            elif url.startswith("http://") and not issuer.insecure_allow_http:
                yield f'trustedIssuers "{issuer.issuer_url}": {name} must use https:// unless insecureAllowHTTP is set'


def _repeated(counts: Counter[str]) -> list[str]:
    return sorted(name for name, count in counts.items() if count > 1)
