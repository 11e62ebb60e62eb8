"""Identity providers that the embedded authorization server sends users to."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from api.common.authz import ProviderName
from api.common.markers import CelRule, ValueBounds, rules
from api.common.model import AtomicList, Struct
from api.common.references import NonEmpty, SecretKeyRef

HttpUrl = Annotated[str, ValueBounds(pattern=r"^https?://.*$")]
HttpsUrl = Annotated[str, ValueBounds(pattern=r"^https://.*$")]
# https, no query, no fragment, no trailing slash.
PlainHttpsUrl = Annotated[str, ValueBounds(pattern=r"^https://[^\s?#]+[^/\s?#]$", max_length=2048)]
AuthorizationParams = Annotated[dict[str, str], ValueBounds(max_properties=16)]
JsonPath = Annotated[str, ValueBounds(min_length=1, max_length=256)]


class UserInfoFieldMapping(Struct):
    """Which fields of a user info answer are read; the first that is there counts."""

    subject_fields: AtomicList[str] = ()
    """Fields that hold the user's identifier."""
    name_fields: AtomicList[str] = ()
    """Fields that hold the user's name."""
    email_fields: AtomicList[str] = ()
    """Fields that hold the user's e-mail address."""


class UserInfoConfig(Struct):
    """Where and how the user's identity is read."""

    endpoint_url: HttpUrl
    """User info endpoint."""
    http_method: Literal["GET", "POST"] | None = None
    """Method of the request; GET when empty."""
    additional_headers: dict[str, str] = Field(default_factory=dict)
    """Headers of the request besides the token."""
    field_mapping: UserInfoFieldMapping | None = None
    """Which fields of the answer are read."""


class TokenResponseMapping(Struct):
    """Where a token endpoint that does not follow the standard puts the parts of its answer, as dotted paths."""

    access_token_path: NonEmpty
    """Path of the access token."""
    scope_path: str | None = None
    """Path of the granted scopes."""
    refresh_token_path: str | None = None
    """Path of the refresh token."""
    expires_in_path: str | None = None
    """Path of the lifetime in seconds."""


class IdentityFromToken(Struct):
    """Where the token endpoint's answer holds the user's identity, as dotted paths."""

    subject_path: JsonPath
    """Path of the user's identifier."""
    name_path: JsonPath | None = None
    """Path of the user's name."""
    email_path: JsonPath | None = None
    """Path of the user's e-mail address."""


@rules(
    CelRule(
        "has(self.discoveryUrl) != has(self.registrationEndpoint)",
        "exactly one of discoveryUrl or registrationEndpoint must be set",
    )
)
class DCRConfig(Struct):
    """Dynamic client registration (RFC 7591) at the upstream provider."""

    discovery_url: PlainHttpsUrl | None = None
    """Authorization server metadata (RFC 8414) that names the registration endpoint."""
    registration_endpoint: PlainHttpsUrl | None = None
    """Registration endpoint."""
    initial_access_token_ref: SecretKeyRef | None = None
    """Token that allows the registration."""
    software_id: Annotated[str, ValueBounds(max_length=255)] | None = None
    """Identifier of the client software."""
    software_statement: Annotated[str, ValueBounds(max_length=16384)] | None = None
    """Signed statement about the client software (a JWT)."""


class OIDCUpstreamConfig(Struct):
    """An upstream provider that speaks OpenID Connect."""

    issuer_url: HttpsUrl
    """Issuer; its endpoints are discovered."""
    client_id: str
    """OAuth client at the provider."""
    client_secret_ref: SecretKeyRef | None = None
    """Its secret."""
    redirect_uri: str | None = None
    """Redirect URI registered at the provider; derived from the resource URL when empty."""
    scopes: AtomicList[str] = ()
    """Scopes to ask for."""
    user_info_override: UserInfoConfig | None = None
    """User info endpoint to use instead of the discovered one."""
    additional_authorization_params: AuthorizationParams = Field(default_factory=dict)
    """Parameters added to the authorization request; those of the protocol itself are refused."""
    subject_claim: Annotated[str, ValueBounds(pattern=r"^([a-zA-Z_][a-zA-Z0-9_]*)?$", max_length=128)] | None = None
    """Claim that identifies the user; sub when empty."""


@rules(
    CelRule("has(self.clientId) != has(self.dcrConfig)", "exactly one of clientId or dcrConfig must be set"),
    CelRule(
        "!(has(self.dcrConfig) && has(self.clientSecretRef))",
        "clientSecretRef must not be set when dcrConfig is set; the client_secret is obtained at runtime via Dynamic "
        "Client Registration",
    ),
)
class OAuth2UpstreamConfig(Struct):
    """An upstream provider that speaks OAuth 2.0 without OpenID Connect."""

    authorization_endpoint: HttpUrl
    """Authorization endpoint."""
    token_endpoint: HttpUrl
    """Token endpoint."""
    user_info: UserInfoConfig | None = None
    """Where the user's identity is read; without it and identityFromToken an identity is made up per token."""
    client_id: str | None = None
    """OAuth client at the provider."""
    client_secret_ref: SecretKeyRef | None = None
    """Its secret."""
    redirect_uri: str | None = None
    """Redirect URI registered at the provider; derived from the resource URL when empty."""
    scopes: AtomicList[str] = ()
    """Scopes to ask for."""
    token_response_mapping: TokenResponseMapping | None = None
    """Where the token endpoint's answer holds its parts, if not where the standard says."""
    identity_from_token: IdentityFromToken | None = None
    """Where the token endpoint's answer holds the user's identity."""
    additional_authorization_params: AuthorizationParams = Field(default_factory=dict)
    """Parameters added to the authorization request; those of the protocol itself are refused."""
    insecure_allow_http: bool | None = Field(default=None, alias="insecureAllowHTTP")
    """Accept endpoints without TLS. For tests only."""
    allow_private_ips: bool | None = Field(default=None, alias="allowPrivateIPs")
    """Accept endpoints on private addresses."""
    dcr_config: DCRConfig | None = None
    """Register a client at run time instead of clientId."""


@rules(
    CelRule(
        "self.type == 'oidc' ? (has(self.oidcConfig) && !has(self.oauth2Config)) : "
        "(self.type == 'oauth2' ? (has(self.oauth2Config) && !has(self.oidcConfig)) : false)",
        "type must be 'oidc' or 'oauth2'; oidcConfig must be set when type is 'oidc' and oauth2Config must be set when "
        "type is 'oauth2' (and the other must not be set)",
    )
)
class UpstreamProvider(Struct):
    """An upstream identity provider."""

    name: ProviderName
    """Name of the provider, unique in the list; others refer to it."""
    type: Literal["oidc", "oauth2"]
    """Protocol of the provider."""
    oidc_config: OIDCUpstreamConfig | None = None
    """Settings for type oidc."""
    oauth2_config: OAuth2UpstreamConfig | None = None
    """Settings for type oauth2."""
