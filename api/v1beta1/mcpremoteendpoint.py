"""MCPRemoteEndpoint: one kind for every remote MCP server, reached directly or through a proxy."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from api.common.authz import AUTHZ_EXCLUSIVE, AuthzConfigRef
from api.common.headers import HeaderForwardConfig
from api.common.markers import AGE, REASON, CelRule, Column, Definition, OneOf, Required, ValueBounds, rules
from api.common.model import Conditions, CustomResource, Int32, Int64, Struct
from api.common.references import (
    AuthServerRef,
    ExternalAuthConfigRef,
    MCPAuthzConfigReference,
    MCPGroupRef,
    MCPOIDCConfigReference,
    MCPTelemetryConfigReference,
    ToolConfigRef,
)
from api.common.traffic import SessionStorageConfig
from api.common.workload import (
    AuditConfig,
    PodTemplatePatch,
    Port,
    ResourceOverrides,
    ResourceRequirements,
    SessionAffinity,
)


class EndpointCABundleKey(Struct):
    """One key of a ConfigMap with PEM certificates."""

    name: Annotated[str, ValueBounds(min_length=1)]
    """Name of the ConfigMap."""
    key: str = "ca.crt"
    """Key within the ConfigMap's data."""


class EndpointCABundleRef(Struct):
    """Certificate authorities trusted for the server, besides the system's."""

    config_map_ref: EndpointCABundleKey
    """Key of a ConfigMap with PEM certificates. Whoever may write it can intercept the connection."""


@rules(AUTHZ_EXCLUSIVE)
class RemoteEndpointProxyConfig(Struct):
    """The proxy in front of the server."""

    oidc_config_ref: MCPOIDCConfigReference
    """How tokens of clients are validated."""
    authz_config: AuthzConfigRef | None = None
    """What clients may do."""
    authz_config_ref: MCPAuthzConfigReference | None = None
    """What clients may do, as a shared object."""
    audit: AuditConfig | None = None
    """Audit log of the proxy."""
    telemetry_config_ref: MCPTelemetryConfigReference | None = None
    """Traces and metrics of the proxy."""
    auth_server_ref: AuthServerRef | None = None
    """Authorization server that the proxy hosts for clients."""
    resources: ResourceRequirements | None = None
    """Compute resources of the proxy container."""
    service_account: str | None = None
    """ServiceAccount of the pods; one is made when empty."""
    proxy_port: Port = 8080
    """Port that the proxy listens on."""
    session_affinity: SessionAffinity = "ClientIP"
    """Whether one client always reaches the same pod."""
    trust_proxy_headers: bool = False
    """Believe X-Forwarded headers of whoever calls the proxy."""
    endpoint_prefix: str | None = None
    """Path put before the endpoint in SSE messages."""
    resource_overrides: ResourceOverrides | None = None
    """Additions to the generated objects."""
    pod_template_spec: PodTemplatePatch | None = None
    """Strategic merge patch over the generated pod template; the container is named toolhive."""
    replicas: Annotated[Int32, ValueBounds(minimum=0)] | None = None
    """Number of pods; left to others, such as an autoscaler, when absent."""
    session_storage: SessionStorageConfig | None = None
    """Where sessions are kept."""


@rules(
    CelRule("self.type == oldSelf.type", "type is immutable; delete the endpoint and create it anew to change it"),
    CelRule("self.type != 'proxy' || has(self.proxyConfig)", "proxyConfig is required when type is 'proxy'"),
    CelRule("self.type != 'direct' || !has(self.proxyConfig)", "proxyConfig must not be set when type is 'direct'"),
)
class MCPRemoteEndpointSpec(Struct):
    """Where the server is and how it is reached."""

    type: Annotated[Literal["proxy", "direct"], Required()] = "proxy"
    """direct: gateways connect to the server themselves; proxy: a pod stands in front of it. Cannot be changed."""
    remote_url: Annotated[str, ValueBounds(pattern=r"^https?://")]
    """URL of the MCP endpoint. Loopback, link-local and metadata addresses are refused by the operator."""
    allow_private_endpoint: bool = False
    """Accept addresses of private ranges, those of Services among them, and names that end in cluster.local. Other
    names, short ones of Services (server.ns.svc) among them, are accepted without it."""
    transport: Literal["streamable-http", "sse"]
    """MCP transport of the server; sse is the deprecated one of 2024-11-05."""
    group_ref: MCPGroupRef
    """Group that the server belongs to."""
    external_auth_config_ref: ExternalAuthConfigRef | None = None
    """How requests are authenticated towards the server."""
    header_forward: HeaderForwardConfig | None = None
    """Headers added to requests towards the server."""
    ca_bundle_ref: EndpointCABundleRef | None = None
    """Certificate authorities trusted for the server, besides the system's."""
    tool_config_ref: ToolConfigRef | None = None
    """Tool filter and overrides."""
    proxy_config: RemoteEndpointProxyConfig | None = None
    """The proxy, for type proxy."""


class MCPRemoteEndpointStatus(Struct):
    """Whether the endpoint can be used."""

    observed_generation: Int64 | None = None
    """Generation of the spec that this status was computed from."""
    phase: Annotated[str, OneOf("Pending", "Ready", "Failed", "Terminating")] | None = None
    """Failed: a user must mend something; Pending: something is not there yet; Terminating: being deleted."""
    url: str | None = None
    """Where gateways connect to: the server itself or its proxy; empty as long as it cannot be used."""
    conditions: Conditions = ()
    """The checks one by one."""


class MCPRemoteEndpoint(CustomResource):
    """A remote MCP server, reached directly by the gateways of its group or through a proxy of its own."""

    definition: ClassVar[Definition] = Definition(
        plural="mcpremoteendpoints",
        short_names=("mcpre",),
        columns=(
            Column("Type", ".spec.type"),
            Column("Phase", ".status.phase"),
            Column("Remote URL", ".spec.remoteUrl"),
            Column("URL", ".status.url"),
            AGE,
            REASON,
        ),
        selectable=(
            ".spec.groupRef.name",
            ".spec.externalAuthConfigRef.name",
            ".spec.caBundleRef.configMapRef.name",
            ".spec.toolConfigRef.name",
            ".spec.proxyConfig.authServerRef.name",
        ),
        versions=("v1beta1",),
        spec_required=True,
        reconciled=True,
    )

    kind: str = "MCPRemoteEndpoint"
    """Name of the kind."""
    spec: MCPRemoteEndpointSpec
    """Where the server is and how it is reached."""
    status: MCPRemoteEndpointStatus | None = None
    """Whether the endpoint can be used, written by the operator."""
