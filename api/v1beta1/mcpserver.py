"""MCPServer: an MCP server that runs in the cluster."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from api.common.authz import AUTHZ_EXCLUSIVE, AuthzConfigRef
from api.common.markers import (
    AGE,
    REASON,
    CelRule,
    Column,
    Definition,
    ListType,
    OneOf,
    Required,
    ValueBounds,
    condition_column,
    rules,
)
from api.common.model import AtomicList, Conditions, CustomResource, Int32, Int64, Struct
from api.common.references import (
    AuthServerRef,
    ExternalAuthConfigRef,
    MCPAuthzConfigReference,
    MCPGroupRef,
    MCPOIDCConfigReference,
    MCPTelemetryConfigReference,
    ToolConfigRef,
    WebhookConfigRef,
)
from api.common.traffic import RateLimitConfig, SessionStorageConfig
from api.common.workload import (
    AuditConfig,
    EnvVars,
    PodTemplatePatch,
    Port,
    ResourceOverrides,
    ResourceRequirements,
    SessionAffinity,
)


class Volume(Struct):
    """A directory of the node inside the server's container."""

    name: str
    """Name of the volume."""
    host_path: str
    """Path on the node."""
    mount_path: str
    """Path in the container."""
    read_only: bool = False
    """Mount read-only."""


class ServerSecret(Struct):
    """A key of a Secret as an environment variable of the server."""

    name: str
    """Name of the Secret."""
    key: str
    """Key within the Secret's data."""
    target_env_name: str | None = None
    """Name of the variable; the key when empty."""


class PermissionProfileRef(Struct):
    """What the server may reach."""

    type: Annotated[Literal["builtin", "configmap"], Required()] = "builtin"
    """Where the profile is."""
    name: str
    """Name of the built-in profile (none, network) or of the ConfigMap."""
    key: str | None = None
    """Key of the ConfigMap."""


_AUTHENTICATED = "has(self.oidcConfigRef) || has(self.externalAuthConfigRef)"


@rules(
    AUTHZ_EXCLUSIVE,
    CelRule(
        "!has(self.rateLimiting) || (has(self.sessionStorage) && self.sessionStorage.provider == 'redis')",
        "rateLimiting requires sessionStorage with provider 'redis'",
    ),
    CelRule(
        f"!has(self.rateLimiting) || !has(self.rateLimiting.perUser) || {_AUTHENTICATED}",
        "rateLimiting.perUser requires authentication (oidcConfigRef or externalAuthConfigRef)",
    ),
    CelRule(
        "!has(self.rateLimiting) || !has(self.rateLimiting.tools) || "
        f"self.rateLimiting.tools.all(tool, !has(tool.perUser)) || {_AUTHENTICATED}",
        "per-tool perUser rate limiting requires authentication (oidcConfigRef or externalAuthConfigRef)",
    ),
)
class MCPServerSpec(Struct):
    """The server's image and the proxy in front of it."""

    image: str
    """Image of the server."""
    transport: Literal["stdio", "streamable-http", "sse"] = "stdio"
    """MCP transport that the server itself speaks."""
    proxy_mode: Literal["sse", "streamable-http"] = "streamable-http"
    """MCP transport that clients meet, for stdio servers."""
    proxy_port: Port = 8080
    """Port that the proxy listens on."""
    mcp_port: Port | None = None
    """Port that the server listens on, for streamable-http and sse."""
    args: AtomicList[str] = ()
    """Arguments of the server."""
    env: EnvVars = ()
    """Environment variables of the server."""
    volumes: Annotated[tuple[Volume, ...], ListType("map", ("name",))] = ()
    """Directories of the node inside the server's container."""
    resources: ResourceRequirements | None = None
    """Compute resources of the server's container."""
    secrets: Annotated[tuple[ServerSecret, ...], ListType("map", ("name",))] = ()
    """Secrets as environment variables of the server."""
    service_account: str | None = None
    """ServiceAccount of the server's pods; one is made when empty."""
    permission_profile: PermissionProfileRef | None = None
    """What the server may reach."""
    pod_template_spec: PodTemplatePatch | None = None
    """Strategic merge patch over the server's pod template; the container is named mcp."""
    resource_overrides: ResourceOverrides | None = None
    """Additions to the objects generated for the proxy."""
    oidc_config_ref: MCPOIDCConfigReference | None = None
    """How tokens of clients are validated."""
    authz_config: AuthzConfigRef | None = None
    """What clients may do."""
    authz_config_ref: MCPAuthzConfigReference | None = None
    """What clients may do, as a shared object."""
    audit: AuditConfig | None = None
    """Audit log of the proxy."""
    tool_config_ref: ToolConfigRef | None = None
    """Tool filter and overrides."""
    external_auth_config_ref: ExternalAuthConfigRef | None = None
    """How the proxy authenticates towards the server."""
    webhook_config_ref: WebhookConfigRef | None = None
    """Webhooks that see every MCP request."""
    auth_server_ref: AuthServerRef | None = None
    """Authorization server that the proxy hosts for clients."""
    telemetry_config_ref: MCPTelemetryConfigReference | None = None
    """Traces and metrics of the proxy."""
    trust_proxy_headers: bool = False
    """Believe X-Forwarded headers of whoever calls the proxy."""
    endpoint_prefix: str | None = None
    """Path put before the endpoint in SSE messages."""
    group_ref: MCPGroupRef | None = None
    """Group that the server belongs to."""
    session_affinity: SessionAffinity = "ClientIP"
    """Whether one client always reaches the same proxy pod."""
    replicas: Annotated[Int32, ValueBounds(minimum=0)] | None = None
    """Number of proxy pods; left to others, such as an autoscaler, when absent."""
    backend_replicas: Annotated[Int32, ValueBounds(minimum=0)] | None = None
    """Number of server pods; left to others when absent."""
    session_storage: SessionStorageConfig | None = None
    """Where sessions and rate limits are kept."""
    rate_limiting: RateLimitConfig | None = None
    """Limits on requests."""


class MCPServerStatus(Struct):
    """State of the server."""

    observed_generation: Int64 | None = None
    """Generation of the spec that this status was computed from."""
    phase: Annotated[str, OneOf("Pending", "Ready", "Failed", "Terminating", "Stopped")] | None = None
    """State of the server in one word."""
    url: str | None = None
    """URL of the MCP endpoint inside the cluster."""
    message: str | None = None
    """State of the server in a sentence."""
    ready_replicas: Int32 | None = None
    """Number of proxy pods that are ready."""
    tool_config_hash: str | None = None
    """Hash of the MCPToolConfig in use."""
    external_auth_config_hash: str | None = None
    """Hash of the MCPExternalAuthConfig in use."""
    auth_server_config_hash: str | None = None
    """Hash of the authorization server's configuration in use."""
    authz_config_hash: str | None = None
    """Hash of the MCPAuthzConfig in use."""
    oidc_config_hash: str | None = None
    """Hash of the MCPOIDCConfig in use."""
    telemetry_config_hash: str | None = None
    """Hash of the MCPTelemetryConfig in use."""
    webhook_config_hash: str | None = None
    """Hash of the MCPWebhookConfig in use."""
    conditions: Conditions = ()
    """Aspects of the server's state."""


class MCPServer(CustomResource):
    """An MCP server that runs in the cluster, behind a proxy."""

    definition: ClassVar[Definition] = Definition(
        plural="mcpservers",
        short_names=("mcpserver", "mcpservers"),
        columns=(
            Column("Status", ".status.phase"),
            condition_column("Ready", "Ready"),
            Column("Replicas", ".status.readyReplicas", "integer"),
            Column("URL", ".status.url"),
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
            ".spec.webhookConfigRef.name",
        ),
    )

    kind: str = "MCPServer"
    """Name of the kind."""
    spec: MCPServerSpec
    """The server's image and the proxy in front of it."""
    status: MCPServerStatus | None = None
    """State of the server, written by the operator."""
