"""How the gateway authenticates towards a backend, as its configuration file says it.

References to Secrets do not occur here: `*Env` fields name environment variables that the operator fills.
"""

from __future__ import annotations

from api.common.model import AtomicList, Int32, Struct


class HeaderInjectionStrategy(Struct):
    """A fixed header."""

    header_name: str
    """Name of the header."""
    header_value: str | None = None
    """Value in the clear; prefer headerValueEnv."""
    header_value_env: str | None = None
    """Environment variable that holds the value."""


class TokenExchangeStrategy(Struct):
    """Exchange the client's token at a token endpoint (RFC 8693)."""

    token_url: str
    """Token endpoint."""
    client_id: str | None = None
    """OAuth client of the gateway."""
    client_secret: str | None = None
    """Client secret in the clear; prefer clientSecretEnv."""
    client_secret_env: str | None = None
    """Environment variable that holds the client secret."""
    audience: str | None = None
    """Audience to ask for."""
    scopes: AtomicList[str] = ()
    """Scopes to ask for."""
    subject_token_type: str | None = None
    """Type of the token that is exchanged, a URN."""
    subject_provider_name: str | None = None
    """Upstream provider whose token is exchanged; the client's own token when empty."""


class UpstreamInjectStrategy(Struct):
    """Pass on the user's token of an upstream provider of the embedded authorization server."""

    provider_name: str
    """Name of the upstream provider."""


class AwsStsRoleMapping(Struct):
    """A role for users that match."""

    claim: str | None = None
    """Value of the role claim that matches."""
    matcher: str | None = None
    """CEL expression over the claims that matches."""
    role_arn: str
    """Role to assume."""
    priority: int | None = None
    """Lower numbers are tried first."""


class AwsStsStrategy(Struct):
    """Assume an AWS role with the user's token and sign requests (SigV4)."""

    region: str
    """AWS region of the service."""
    service: str | None = None
    """Service name in the signature."""
    fallback_role_arn: str | None = None
    """Role for users that no mapping matches."""
    role_mappings: AtomicList[AwsStsRoleMapping] = ()
    """Roles by claim or expression."""
    role_claim: str | None = None
    """Claim that role mappings look at."""
    session_duration: Int32 | None = None
    """Lifetime of the AWS credentials, in seconds."""
    session_name_claim: str | None = None
    """Claim that names the AWS session."""
    subject_provider_name: str | None = None
    """Upstream provider whose token is presented."""


class OboStrategy(Struct):
    """On-behalf-of flow of Microsoft Entra."""

    token_url: str
    """Token endpoint."""
    client_id: str | None = None
    """Application id of the gateway."""
    client_secret: str | None = None
    """Client secret in the clear; prefer clientSecretEnv."""
    client_secret_env: str | None = None
    """Environment variable that holds the client secret."""
    audience: str | None = None
    """Application to get a token for."""
    scopes: AtomicList[str] = ()
    """Scopes to ask for."""
    subject_token_provider_name: str | None = None
    """Upstream provider whose token is presented."""
    cache_skew_seconds: Int32 | None = None
    """How long before its end a cached token is renewed, in seconds."""


class XaaStrategy(Struct):
    """Cross-application access: an identity assertion of the identity provider, exchanged at the target."""

    idp_token_url: str
    """Token endpoint of the identity provider."""
    idp_client_id: str | None = None
    """OAuth client at the identity provider."""
    idp_client_secret: str | None = None
    """Its secret in the clear; prefer idpClientSecretEnv."""
    idp_client_secret_env: str | None = None
    """Environment variable that holds its secret."""
    target_token_url: str
    """Token endpoint of the target."""
    insecure_target_token_url: bool | None = None
    """Accept a target token endpoint without TLS."""
    target_client_id: str | None = None
    """OAuth client at the target."""
    target_client_secret: str | None = None
    """Its secret in the clear; prefer targetClientSecretEnv."""
    target_client_secret_env: str | None = None
    """Environment variable that holds its secret."""
    target_audience: str
    """Issuer of the target's authorization server."""
    target_resource: str | None = None
    """Resource that the final token is for."""
    scopes: AtomicList[str] = ()
    """Scopes to ask for."""
    subject_provider_name: str | None = None
    """Upstream provider whose token is presented."""
    subject_token_type: str | None = None
    """Type of the token that is presented, a URN."""


class BackendAuthStrategy(Struct):
    """One strategy and its settings."""

    type: str
    """unauthenticated, header_injection, token_exchange, upstream_inject, aws_sts, obo or xaa."""
    header_injection: HeaderInjectionStrategy | None = None
    """Settings of header_injection."""
    token_exchange: TokenExchangeStrategy | None = None
    """Settings of token_exchange."""
    upstream_inject: UpstreamInjectStrategy | None = None
    """Settings of upstream_inject."""
    aws_sts: AwsStsStrategy | None = None
    """Settings of aws_sts."""
    obo: OboStrategy | None = None
    """Settings of obo."""
    xaa: XaaStrategy | None = None
    """Settings of xaa."""
