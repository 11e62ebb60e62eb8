"""MCPExternalAuthConfig: how workloads authenticate towards the servers behind them."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from api.common.auth_server import EmbeddedAuthServerConfig
from api.common.authz import ProviderName
from api.common.markers import AGE, CelRule, Column, Definition, ValueBounds, condition_column, rules
from api.common.model import AtomicList, Conditions, CustomResource, Int32, Int64, Struct
from api.common.references import NonEmpty, SecretKeyRef
from api.common.upstreams import HttpsUrl

RoleArn = Annotated[str, ValueBounds(pattern=r"^arn:(aws|aws-cn|aws-us-gov):iam::\d{12}:role/[\w+=,.@\-_/]+$")]


class TokenExchangeConfig(Struct):
    """Exchange the client's token at a token endpoint (RFC 8693)."""

    token_url: str
    """Token endpoint."""
    client_id: str | None = None
    """OAuth client at the token endpoint."""
    client_secret_ref: SecretKeyRef | None = None
    """Its secret."""
    audience: str
    """Audience to ask for."""
    scopes: AtomicList[str] = ()
    """Scopes to ask for."""
    subject_token_type: (
        Annotated[
            str,
            ValueBounds(
                pattern=r"^(access_token|id_token|jwt|urn:ietf:params:oauth:token-type:(access_token|id_token|jwt))?$"
            ),
        ]
        | None
    ) = None
    """Type of the token that is given in exchange, as a URN or its last part; access_token when empty."""
    external_token_header_name: str | None = None
    """Header that carries the new token, for MCPServer and MCPRemoteProxy; Authorization when empty."""
    subject_provider_name: str | None = None
    """Upstream provider whose token is exchanged; the client's own token when empty."""


class HeaderInjectionConfig(Struct):
    """A fixed header with a secret value."""

    header_name: NonEmpty
    """Name of the header."""
    value_secret_ref: SecretKeyRef
    """Secret and key that hold the value."""


class BearerTokenConfig(Struct):
    """A fixed bearer token."""

    token_secret_ref: SecretKeyRef
    """Secret and key that hold the token."""


class RoleMapping(Struct):
    """A role for users that match; either claim or matcher."""

    claim: NonEmpty | None = None
    """Value of the role claim that matches."""
    matcher: NonEmpty | None = None
    """CEL expression over the claims that matches."""
    role_arn: RoleArn
    """Role to assume."""
    priority: Annotated[Int32, ValueBounds(minimum=0)] | None = None
    """Lower numbers are tried first; mappings without one come last."""


class AWSStsConfig(Struct):
    """Assume an AWS role with the user's token and sign requests (SigV4)."""

    region: Annotated[str, ValueBounds(pattern=r"^[a-z]{2}(-[a-z]+)+-\d+$", min_length=1)]
    """AWS region of the service."""
    service: str = "aws-mcp"
    """Service name in the signature."""
    fallback_role_arn: RoleArn | None = None
    """Role for users that no mapping matches."""
    role_mappings: AtomicList[RoleMapping] = ()
    """Roles by claim or expression."""
    role_claim: str = "groups"
    """Claim that role mappings look at."""
    session_duration: Annotated[Int32, ValueBounds(minimum=900, maximum=43200)] = 3600
    """Lifetime of the AWS credentials, in seconds."""
    session_name_claim: str = "sub"
    """Claim that names the AWS session."""
    subject_provider_name: str | None = None
    """Upstream provider whose token is presented; the client's own token when empty."""


class UpstreamInjectConfig(Struct):
    """Pass on the user's token of an upstream provider of the embedded authorization server."""

    provider_name: NonEmpty
    """Name of the upstream provider."""


class OBOConfig(Struct):
    """On-behalf-of flow of Microsoft Entra. Needs a handler that this project does not have."""

    tenant_id: (
        Annotated[
            str,
            ValueBounds(
                pattern=r"^([0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}|([a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?\.)+[a-zA-Z]{2,})$",
                max_length=253,
            ),
        ]
        | None
    ) = None
    """Tenant, as a GUID or a domain."""
    authority: Annotated[str, ValueBounds(pattern=r"^https://[^\s?#@]+[^/\s?#@]$")] | None = None
    """Base URL of the identity platform, for national clouds."""
    client_id: str | None = None
    """Application id of the middle tier."""
    client_secret_ref: SecretKeyRef | None = None
    """Its secret."""
    audience: str | None = None
    """Application to get a token for."""
    scopes: Annotated[
        AtomicList[Annotated[str, ValueBounds(min_length=1, max_length=256)]], ValueBounds(max_items=20)
    ] = ()
    """Scopes to ask for."""
    subject_token_provider_name: ProviderName | None = None
    """Upstream provider whose token is presented."""
    cache_skew: str | None = None
    """How long before its end a cached token is renewed, a Go duration."""


class XAAConfig(Struct):
    """Cross-application access: an identity assertion of the identity provider, exchanged at the target."""

    idp_token_url: HttpsUrl
    """Token endpoint of the identity provider."""
    idp_client_id: str | None = None
    """OAuth client at the identity provider."""
    idp_client_secret_ref: SecretKeyRef | None = None
    """Its secret."""
    target_token_url: str
    """Token endpoint of the target."""
    insecure_target_token_url: bool | None = None
    """Accept a target token endpoint without TLS. For tests only."""
    target_client_id: str | None = None
    """OAuth client at the target."""
    target_client_secret_ref: SecretKeyRef | None = None
    """Its secret."""
    target_audience: str
    """Issuer of the target's authorization server."""
    target_resource: str | None = None
    """Resource that the final token is for."""
    scopes: AtomicList[str] = ()
    """Scopes to ask for."""
    subject_provider_name: str | None = None
    """Upstream provider whose token is presented."""
    subject_token_type: Literal["urn:ietf:params:oauth:token-type:id_token"] | None = None
    """Type of the token that is presented."""


AuthType = Literal[
    "tokenExchange",
    "headerInjection",
    "bearerToken",
    "unauthenticated",
    "embeddedAuthServer",
    "awsSts",
    "upstreamInject",
    "obo",
    "xaa",
]
# Types whose settings stand in a field of the same name, in the order of their rules.
CONFIGURED_TYPES = (
    "tokenExchange",
    "headerInjection",
    "bearerToken",
    "embeddedAuthServer",
    "awsSts",
    "upstreamInject",
    "obo",
    "xaa",
)


@rules(
    *(
        CelRule(
            f"(self.type == '{name}') == has(self.{name})",
            f"{name} configuration must be set if and only if type is '{name}'",
        )
        for name in CONFIGURED_TYPES
    ),
    CelRule(
        f"self.type != 'unauthenticated' || !({' || '.join(f'has(self.{name})' for name in CONFIGURED_TYPES)})",
        "no configuration must be set when type is 'unauthenticated'",
    ),
)
class MCPExternalAuthConfigSpec(Struct):
    """One way of authenticating and its settings."""

    type: AuthType
    """The way; its settings stand in the field of the same name."""
    token_exchange: TokenExchangeConfig | None = None
    """Settings for type tokenExchange."""
    header_injection: HeaderInjectionConfig | None = None
    """Settings for type headerInjection."""
    bearer_token: BearerTokenConfig | None = None
    """Settings for type bearerToken."""
    embedded_auth_server: EmbeddedAuthServerConfig | None = None
    """Settings for type embeddedAuthServer."""
    aws_sts: AWSStsConfig | None = None
    """Settings for type awsSts."""
    upstream_inject: UpstreamInjectConfig | None = None
    """Settings for type upstreamInject."""
    obo: OBOConfig | None = None
    """Settings for type obo."""
    xaa: XAAConfig | None = None
    """Settings for type xaa."""


class MCPExternalAuthConfigStatus(Struct):
    """Whether the configuration can be used."""

    observed_generation: Int64 | None = None
    """Generation of the spec that this status was computed from."""
    config_hash: str | None = None
    """Hash of the spec; changes when the configuration does."""
    conditions: Conditions = ()
    """Aspects of the object's state."""


class MCPExternalAuthConfig(CustomResource):
    """How workloads authenticate towards the servers behind them."""

    definition: ClassVar[Definition] = Definition(
        plural="mcpexternalauthconfigs",
        short_names=("extauth", "mcpextauth"),
        columns=(Column("Type", ".spec.type"), condition_column("Valid", "Valid"), AGE),
        selectable=(".spec.type",),
        reconciled=True,
    )

    kind: str = "MCPExternalAuthConfig"
    """Name of the kind."""
    spec: MCPExternalAuthConfigSpec
    """One way of authenticating and its settings."""
    status: MCPExternalAuthConfigStatus | None = None
    """Whether the configuration can be used, written by the operator."""
