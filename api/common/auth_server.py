"""The OAuth authorization server that a workload can host for its clients."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from api.common.authz import ProviderName
from api.common.markers import CelRule, ListType, Required, ValueBounds, rules
from api.common.model import AtomicList, Duration, Int32, Struct
from api.common.references import SecretKeyRef
from api.common.trust import TrustedIssuer
from api.common.upstreams import UpstreamProvider

# http(s), no query, no fragment, no trailing slash.
PlainUrl = Annotated[str, ValueBounds(pattern=r"^https?://[^\s?#]+[^/\s?#]$")]
# A scope token of RFC 6749.
Scope = Annotated[str, ValueBounds(pattern=r"^[\x21\x23-\x5B\x5D-\x7E]+$", min_length=1)]
RedirectUri = Annotated[str, ValueBounds(pattern=r"^https://[^\s?#]+$")]
ShortText = Annotated[str, ValueBounds(min_length=1, max_length=256)]
Audience = Annotated[str, ValueBounds(min_length=1, max_length=2048)]


class TokenLifespans(Struct):
    """How long issued tokens are valid."""

    access_token_lifespan: Duration | None = None
    """Lifetime of access tokens; 1h when empty."""
    refresh_token_lifespan: Duration | None = None
    """Lifetime of refresh tokens; 168h when empty."""
    auth_code_lifespan: Duration | None = None
    """Lifetime of authorization codes; 10m when empty."""


class RedisACLUserConfig(Struct):
    """User of the Redis server."""

    username_secret_ref: SecretKeyRef | None = None
    """User name; the default user when absent."""
    password_secret_ref: SecretKeyRef
    """Password."""


class SentinelServiceRef(Struct):
    """The Service in front of the Sentinels."""

    name: str
    """Name of the Service."""
    namespace: str | None = None
    """Namespace of the Service; that of this object when empty."""
    port: Int32 = 26379
    """Port of the Sentinels."""


class RedisSentinelConfig(Struct):
    """A Redis server found by Sentinels."""

    master_name: str
    """Name of the monitored master."""
    sentinel_addrs: AtomicList[str] = ()
    """Addresses of the Sentinels, host:port."""
    sentinel_service: SentinelServiceRef | None = None
    """Service in front of the Sentinels, instead of addresses."""
    db: Int32 = 0
    """Number of the Redis database."""


class RedisTLSConfig(Struct):
    """TLS towards Redis."""

    insecure_skip_verify: bool | None = None
    """Do not verify the server's certificate. For tests only."""
    ca_cert_secret_ref: SecretKeyRef | None = None
    """PEM certificate authority of the server."""


@rules(
    CelRule("has(self.addr) != has(self.sentinelConfig)", "exactly one of addr or sentinelConfig must be set"),
    CelRule(
        "!has(self.clusterMode) || !self.clusterMode || has(self.addr)",
        "clusterMode requires addr to be set",
    ),
)
class RedisStorageConfig(Struct):
    """A Redis server."""

    addr: str | None = None
    """Address of the server, host:port."""
    cluster_mode: bool | None = None
    """The address is that of a Redis cluster."""
    sentinel_config: RedisSentinelConfig | None = None
    """Find the server by Sentinels instead of by address."""
    acl_user_config: RedisACLUserConfig
    """User of the server."""
    dial_timeout: Duration = "5s"
    """Longest time of connecting."""
    read_timeout: Duration = "3s"
    """Longest wait for an answer."""
    write_timeout: Duration = "3s"
    """Longest time of sending."""
    tls: RedisTLSConfig | None = None
    """TLS towards the server."""
    sentinel_tls: RedisTLSConfig | None = None
    """TLS towards the Sentinels."""


class AuthServerStorageConfig(Struct):
    """Where clients, codes and tokens are kept."""

    type: Literal["memory", "redis"] = "memory"
    """memory: lost with the process; redis: shared and lasting."""
    redis: RedisStorageConfig | None = None
    """The Redis server, for type redis."""


class CIMDConfig(Struct):
    """Clients that identify themselves by the URL of a metadata document."""

    enabled: Annotated[bool, Required()] = False
    """Accept such clients."""
    cache_max_size: Annotated[int, ValueBounds(minimum=1)] | None = None
    """Most documents in the cache."""
    cache_fallback_ttl: Duration | None = None
    """How long a document without caching headers is kept."""


@rules(
    CelRule(
        "self.clientSecretRef.name.size() > 0 && self.clientSecretRef.key.size() > 0",
        "clientSecretRef.name and clientSecretRef.key are required and must be non-empty",
    )
)
class DelegateClient(Struct):
    """A confidential client that may exchange users' tokens on their behalf."""

    client_id: ShortText
    """Identifier of the client."""
    client_secret_ref: SecretKeyRef
    """Secret of the client."""
    scopes: Annotated[AtomicList[ShortText], ValueBounds(min_items=1, max_items=10)]
    """Scopes that it may ask for."""
    audiences: Annotated[AtomicList[Audience], ValueBounds(min_items=1, max_items=10)]
    """Audiences that it may ask for."""


@rules(
    CelRule(
        "!(has(self.allowConfidentialClientRegistration) && self.allowConfidentialClientRegistration && "
        "has(self.insecureAllowHTTP) && self.insecureAllowHTTP)",
        "allowConfidentialClientRegistration cannot be combined with insecureAllowHTTP; client secrets would be issued "
        "in cleartext over an unauthenticated endpoint",
    ),
    CelRule(
        "!has(self.delegateClients) || size(self.delegateClients) == 0 || !self.issuer.startsWith('http://')",
        "delegateClients require an https:// issuer; delegate client secrets must not be sent over plaintext HTTP",
    ),
    CelRule(
        "!has(self.forceConfidentialRedirectUris) || size(self.forceConfidentialRedirectUris) == 0 || "
        "(has(self.allowConfidentialClientRegistration) && self.allowConfidentialClientRegistration)",
        "forceConfidentialRedirectUris requires allowConfidentialClientRegistration to be true",
    ),
)
class EmbeddedAuthServerConfig(Struct):
    """Settings of the embedded OAuth authorization server."""

    issuer: PlainUrl
    """Issuer of the tokens, the server's public URL."""
    authorization_endpoint_base_url: PlainUrl | None = None
    """Base URL of the authorization endpoint in the metadata, if browsers reach it by another one."""
    signing_key_secret_refs: Annotated[AtomicList[SecretKeyRef], ValueBounds(max_items=5)] = ()
    """Private keys in PEM form; the first signs, all verify. A key that lasts until the next restart when empty."""
    hmac_secret_refs: AtomicList[SecretKeyRef] = ()
    """Secrets that protect codes and refresh tokens; the first is used for new ones."""
    token_lifespans: TokenLifespans | None = None
    """How long issued tokens are valid."""
    upstream_providers: Annotated[tuple[UpstreamProvider, ...], ListType("map", ("name",)), ValueBounds(min_items=1)]
    """Identity providers that users are sent to."""
    primary_upstream_provider: ProviderName | None = None
    """Provider whose claims authorization looks at; the first when empty."""
    storage: AuthServerStorageConfig | None = None
    """Where clients, codes and tokens are kept."""
    disable_upstream_token_injection: bool = False
    """Do not pass the user's upstream token on to backends."""
    insecure_allow_http: bool = Field(default=False, alias="insecureAllowHTTP")
    """Accept an issuer without TLS. For tests only."""
    baseline_client_scopes: Annotated[AtomicList[Scope], ValueBounds(max_items=10)] = ()
    """Scopes that every registered client gets."""
    allow_confidential_client_registration: bool = False
    """Let clients register with a secret."""
    force_confidential_redirect_uris: Annotated[AtomicList[RedirectUri], ValueBounds(max_items=10)] = ()
    """Clients with one of these redirect URIs are registered with a secret even if they did not ask for one."""
    insecure_allow_confidential_over_loopback_http: bool = Field(
        default=False, alias="insecureAllowConfidentialOverLoopbackHTTP"
    )
    """Let clients register with a secret over plain HTTP on loopback. For tests only."""
    delegate_clients: Annotated[AtomicList[DelegateClient], ValueBounds(max_items=10)] = ()
    """Clients that may exchange users' tokens."""
    trusted_issuers: Annotated[AtomicList[TrustedIssuer], ValueBounds(max_items=20)] = ()
    """Other issuers whose tokens are accepted in token exchange and as JWT bearer grants."""
    cimd: CIMDConfig | None = None
    """Clients that identify themselves by the URL of a metadata document."""
