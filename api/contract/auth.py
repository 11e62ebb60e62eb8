"""Incoming and outgoing authentication in the configuration file."""

from __future__ import annotations

from pydantic import Field

from api.contract.section import Count, Flag, Section, Text


class OIDC(Section):
    """`incomingAuth.oidc`: how tokens of callers are validated."""

    issuer: Text = ""
    client_id: Text = ""
    client_secret_env: Text = ""
    """Environment variable with the client secret, for introspection."""
    audience: Text = ""
    resource: Text = ""
    """URL of this gateway in the protected resource metadata (RFC 9728)."""
    jwks_url: Text = ""
    introspection_url: Text = ""
    scopes: tuple[Text, ...] = ()
    protected_resource_allow_private_ip: Flag = False
    jwks_allow_private_ip: Flag = False
    insecure_allow_http: Flag = False
    ca_bundle_path: Text = ""


class Authz(Section):
    """`incomingAuth.authz`: Cedar policies."""

    type: Text = ""
    """`cedar` or `none`."""
    policies: tuple[Text, ...] = ()
    entities_json: Text = ""
    primary_upstream_provider: Text = ""
    group_claim_name: Text = ""
    role_claim_name: Text = ""
    group_entity_type: Text = ""


class IncomingAuth(Section):
    """`incomingAuth`: who may call the gateway."""

    type: Text = ""
    """`oidc`, `local` or `anonymous`."""
    oidc: OIDC | None = None
    authz: Authz | None = None


class HeaderInjection(Section):
    """Strategy `header_injection`: one fixed header."""

    header_name: Text = ""
    header_value: Text = Field(default="", repr=False)
    header_value_env: Text = ""


class TokenExchange(Section):
    """Strategy `token_exchange`: RFC 8693."""

    token_url: Text = ""
    client_id: Text = ""
    client_secret: Text = Field(default="", repr=False)
    client_secret_env: Text = ""
    audience: Text = ""
    scopes: tuple[Text, ...] = ()
    subject_token_type: Text = ""
    subject_provider_name: Text = ""


class UpstreamInject(Section):
    """Strategy `upstream_inject`: the user's token of an upstream provider."""

    provider_name: Text = ""


class RoleMapping(Section):
    """A rule that picks an AWS role."""

    claim: Text = ""
    matcher: Text = ""
    role_arn: Text = ""
    priority: Count | None = None


class AwsSts(Section):
    """Strategy `aws_sts`: requests signed with a role's credentials."""

    region: Text = ""
    service: Text = ""
    fallback_role_arn: Text = ""
    role_mappings: tuple[RoleMapping, ...] = ()
    role_claim: Text = ""
    session_duration: Count | None = None
    """Seconds, 900 to 43,200; 3,600 when absent."""
    session_name_claim: Text = ""
    subject_provider_name: Text = ""


class Obo(Section):
    """Strategy `obo`: on behalf of; read, but no open gateway implements it."""

    token_url: Text = ""
    client_id: Text = ""
    client_secret: Text = Field(default="", repr=False)
    client_secret_env: Text = ""
    audience: Text = ""
    scopes: tuple[Text, ...] = ()
    subject_token_provider_name: Text = ""
    cache_skew_seconds: Count | None = None


class Xaa(Section):
    """Strategy `xaa`: cross-application access."""

    idp_token_url: Text = ""
    idp_client_id: Text = ""
    idp_client_secret: Text = Field(default="", repr=False)
    idp_client_secret_env: Text = ""
    target_token_url: Text = ""
    insecure_target_token_url: Flag = False
    target_client_id: Text = ""
    target_client_secret: Text = Field(default="", repr=False)
    target_client_secret_env: Text = ""
    target_audience: Text = ""
    target_resource: Text = ""
    scopes: tuple[Text, ...] = ()
    subject_provider_name: Text = ""
    subject_token_type: Text = ""


class Strategy(Section):
    """How the gateway authenticates towards a backend: a type and the sub-object of that type."""

    type: Text = ""
    """unauthenticated, header_injection, token_exchange, upstream_inject, aws_sts, obo or xaa."""
    header_injection: HeaderInjection | None = None
    token_exchange: TokenExchange | None = None
    upstream_inject: UpstreamInject | None = None
    aws_sts: AwsSts | None = None
    obo: Obo | None = None
    xaa: Xaa | None = None


class OutgoingAuth(Section):
    """`outgoingAuth`: strategies per backend, else the default, else none."""

    source: Text = ""
    """`inline`: what is written here; `discovered`: what the backend's object says, with this as the fallback."""
    default: Strategy | None = None
    backends: dict[Text, Strategy] = Field(default_factory=dict)
