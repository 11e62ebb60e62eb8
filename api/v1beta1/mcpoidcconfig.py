"""MCPOIDCConfig: validation of OIDC tokens that servers share."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from api.common.markers import AGE, CelRule, Column, Definition, condition_column, rules
from api.common.model import Conditions, CustomResource, Int64, Struct
from api.common.references import CABundleSource, SecretKeyRef


class KubernetesServiceAccountOIDCConfig(Struct):
    """Tokens of Kubernetes ServiceAccounts."""

    service_account: str | None = None
    """Name of the ServiceAccount whose tokens are accepted."""
    namespace: str | None = None
    """Namespace of the ServiceAccount; that of the workload when empty."""
    issuer: str = "https://kubernetes.default.svc"
    """Issuer of the tokens."""
    jwks_url: str | None = None
    """Where the issuer's keys are; discovered when empty."""
    introspection_url: str | None = None
    """Introspection endpoint; discovered when empty."""
    use_cluster_auth: bool | None = None
    """Use the cluster's certificate authority and the pod's own token to fetch the keys; true when empty."""


class InlineOIDCConfig(Struct):
    """Tokens of any OIDC provider."""

    issuer: str
    """Issuer of the tokens."""
    jwks_url: str | None = None
    """Where the issuer's keys are; discovered when empty."""
    introspection_url: str | None = None
    """Introspection endpoint for opaque tokens; discovered when empty."""
    client_id: str | None = None
    """OAuth client for token introspection."""
    client_secret_ref: SecretKeyRef | None = None
    """Its secret."""
    ca_bundle_ref: CABundleSource | None = None
    """Certificate authorities trusted for the issuer, besides the system's."""
    jwks_auth_token_path: str | None = None
    """File with a token for fetching the keys."""
    jwks_allow_private_ip: bool = Field(default=False, alias="jwksAllowPrivateIP")
    """Accept private addresses for the keys."""
    protected_resource_allow_private_ip: bool = Field(default=False, alias="protectedResourceAllowPrivateIP")
    """Accept private addresses in the protected resource metadata."""
    insecure_allow_http: bool = Field(default=False, alias="insecureAllowHTTP")
    """Accept an issuer without TLS. For tests only."""


@rules(
    CelRule(
        "self.type == 'kubernetesServiceAccount' ? has(self.kubernetesServiceAccount) : "
        "!has(self.kubernetesServiceAccount)",
        "kubernetesServiceAccount must be set when type is 'kubernetesServiceAccount', and must not be set otherwise",
    ),
    CelRule(
        "self.type == 'inline' ? has(self.inline) : !has(self.inline)",
        "inline must be set when type is 'inline', and must not be set otherwise",
    ),
)
class MCPOIDCConfigSpec(Struct):
    """Whose tokens are accepted."""

    type: Literal["kubernetesServiceAccount", "inline"]
    """Tokens of Kubernetes ServiceAccounts, or of any OIDC provider."""
    kubernetes_service_account: KubernetesServiceAccountOIDCConfig | None = None
    """Settings for type kubernetesServiceAccount."""
    inline: InlineOIDCConfig | None = None
    """Settings for type inline."""


class MCPOIDCConfigStatus(Struct):
    """Whether the configuration can be used."""

    observed_generation: Int64 | None = None
    """Generation of the spec that this status was computed from."""
    config_hash: str | None = None
    """Hash of the spec; changes when the configuration does."""
    conditions: Conditions = ()
    """Aspects of the object's state."""


class MCPOIDCConfig(CustomResource):
    """Validation of OIDC tokens that servers share."""

    definition: ClassVar[Definition] = Definition(
        plural="mcpoidcconfigs",
        short_names=("mcpoidc",),
        columns=(Column("Source", ".spec.type"), condition_column("Valid", "Valid"), AGE),
    )

    kind: str = "MCPOIDCConfig"
    """Name of the kind."""
    spec: MCPOIDCConfigSpec
    """Whose tokens are accepted."""
    status: MCPOIDCConfigStatus | None = None
    """Whether the configuration can be used, written by the operator."""
