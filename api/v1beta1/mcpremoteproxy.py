"""MCPRemoteProxy: a proxy in the cluster in front of a remote MCP server."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from api.common.authz import AUTHZ_EXCLUSIVE, AuthzConfigRef
from api.common.headers import HeaderForwardConfig
from api.common.markers import AGE, REASON, Column, Definition, OneOf, ValueBounds, condition_column, rules
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


@rules(AUTHZ_EXCLUSIVE)
class MCPRemoteProxySpec(Struct):
    """The remote server and the proxy in front of it."""

    remote_url: Annotated[str, ValueBounds(pattern=r"^https?://")]
    """URL of the MCP endpoint. Loopback, link-local and metadata addresses are refused by the operator."""
    allow_private_endpoint: bool = False
    """Accept addresses of private ranges, those of Services among them, and names that end in cluster.local. Other
    names, short ones of Services (server.ns.svc) among them, are accepted without it."""
    proxy_port: Port = 8080
    """Port that the proxy listens on."""
    transport: Literal["sse", "streamable-http"] = "streamable-http"
    """MCP transport of the server."""
    oidc_config_ref: MCPOIDCConfigReference | None = None
    """How tokens of clients are validated; without it the proxy does not authenticate clients."""
    external_auth_config_ref: ExternalAuthConfigRef | None = None
    """How the proxy authenticates towards the server."""
    auth_server_ref: AuthServerRef | None = None
    """Authorization server that the proxy hosts for clients."""
    header_forward: HeaderForwardConfig | None = None
    """Headers added to requests towards the server."""
    authz_config: AuthzConfigRef | None = None
    """What clients may do."""
    authz_config_ref: MCPAuthzConfigReference | None = None
    """What clients may do, as a shared object."""
    audit: AuditConfig | None = None
    """Audit log of the proxy."""
    tool_config_ref: ToolConfigRef | None = None
    """Tool filter and overrides."""
    telemetry_config_ref: MCPTelemetryConfigReference | None = None
    """Traces and metrics of the proxy."""
    resources: ResourceRequirements | None = None
    """Compute resources of the proxy container."""
    service_account: str | None = None
    """ServiceAccount of the pods; one is made when empty."""
    pod_template_spec: PodTemplatePatch | None = None
    """Strategic merge patch over the generated pod template; the container is named toolhive."""
    trust_proxy_headers: bool = False
    """Believe X-Forwarded headers of whoever calls the proxy."""
    endpoint_prefix: str | None = None
    """Path put before the endpoint in SSE messages."""
    resource_overrides: ResourceOverrides | None = None
    """Additions to the generated objects."""
    group_ref: MCPGroupRef | None = None
    """Group that the server belongs to."""
    session_affinity: SessionAffinity = "ClientIP"
    """Whether one client always reaches the same pod."""
    replicas: Annotated[Int32, ValueBounds(minimum=0)] | None = None
    """Number of pods; left to others, such as an autoscaler, when absent."""
    session_storage: SessionStorageConfig | None = None
    """Where sessions are kept."""


class MCPRemoteProxyStatus(Struct):
    """State of the proxy."""

    observed_generation: Int64 | None = None
    """Generation of the spec that this status was computed from."""
    phase: Annotated[str, OneOf("Pending", "Ready", "Failed", "Terminating")] | None = None
    """State of the proxy in one word."""
    url: str | None = None
    """URL of the proxy inside the cluster."""
    external_url: str | None = None
    """Not used."""
    message: str | None = None
    """State of the proxy in a sentence."""
    tool_config_hash: str | None = None
    """Hash of the MCPToolConfig in use."""
    telemetry_config_hash: str | None = None
    """Hash of the MCPTelemetryConfig in use."""
    external_auth_config_hash: str | None = None
    """Hash of the MCPExternalAuthConfig in use."""
    auth_server_config_hash: str | None = None
    """Hash of the authorization server's configuration in use."""
    authz_config_hash: str | None = None
    """Hash of the MCPAuthzConfig in use."""
    oidc_config_hash: str | None = None
    """Hash of the MCPOIDCConfig in use."""
    conditions: Conditions = ()
    """Aspects of the proxy's state."""


class MCPRemoteProxy(CustomResource):
    """A proxy pod in front of a remote MCP server.

    Deprecated: superseded by MCPRemoteEndpoint of type proxy.
    """

    definition: ClassVar[Definition] = Definition(
        plural="mcpremoteproxies",
        short_names=("rp", "mcprp"),
        columns=(
            Column("Phase", ".status.phase"),
            Column("Remote URL", ".spec.remoteUrl"),
            Column("URL", ".status.url"),
            condition_column("Ready", "Ready"),
            AGE,
            REASON,
        ),
        selectable=(
            ".spec.groupRef.name",
            ".spec.externalAuthConfigRef.name",
            ".spec.authServerRef.name",
            ".spec.oidcConfigRef.name",
            ".spec.toolConfigRef.name",
            ".spec.telemetryConfigRef.name",
            ".spec.authzConfigRef.name",
        ),
        reconciled=True,
    )

    kind: str = "MCPRemoteProxy"
    """Name of the kind."""
    spec: MCPRemoteProxySpec
    """The remote server and the proxy in front of it."""
    status: MCPRemoteProxyStatus | None = None
    """State of the proxy, written by the operator."""
