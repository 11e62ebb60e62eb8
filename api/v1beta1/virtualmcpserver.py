"""VirtualMCPServer: a gateway that puts the servers of a group behind one endpoint."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from api.common.auth_server import EmbeddedAuthServerConfig
from api.common.authz import AUTHZ_EXCLUSIVE, AuthzConfigRef
from api.common.markers import (
    AGE,
    REASON,
    CelRule,
    Column,
    Definition,
    KeepUnknown,
    ListType,
    OneOf,
    ValueBounds,
    condition_column,
    rules,
)
from api.common.model import AtomicList, Conditions, CustomResource, Int32, Int64, Struct, Timestamp
from api.common.references import (
    EmbeddingServerRef,
    ExternalAuthConfigRef,
    LocalObjectReference,
    MCPAuthzConfigReference,
    MCPGroupRef,
    MCPOIDCConfigReference,
    MCPTelemetryConfigReference,
)
from api.common.traffic import SessionStorageConfig
from api.common.vmcp_config import VirtualMCPConfig
from api.common.workload import PodTemplatePatch, SessionAffinity


@rules(
    CelRule(
        "self.type != 'oidc' || has(self.oidcConfigRef)",
        "spec.incomingAuth.oidcConfigRef is required when type is oidc",
    ),
    AUTHZ_EXCLUSIVE,
)
class IncomingAuthConfig(Struct):
    """How clients are authenticated and what they may do."""

    type: Literal["anonymous", "oidc"]
    """Accept everybody, or validate OIDC tokens."""
    oidc_config_ref: MCPOIDCConfigReference | None = None
    """How tokens are validated, for oidc."""
    authz_config: AuthzConfigRef | None = None
    """What clients may do."""
    authz_config_ref: MCPAuthzConfigReference | None = None
    """What clients may do, as a shared object."""


class BackendAuthConfig(Struct):
    """How the gateway authenticates towards a backend."""

    type: Literal["discovered", "externalAuthConfigRef"]
    """As the backend's object says, or as the reference says."""
    external_auth_config_ref: ExternalAuthConfigRef | None = None
    """The configuration to use, for externalAuthConfigRef."""


class OutgoingAuthConfig(Struct):
    """How the gateway authenticates towards its backends."""

    source: Literal["discovered", "inline"] = "discovered"
    """discovered: the gateway watches the group itself; inline: the operator writes all backends into its
    configuration."""
    default: BackendAuthConfig | None = None
    """For backends without authentication of their own."""
    backends: dict[str, BackendAuthConfig] = Field(default_factory=dict)
    """By backend name; wins over what the backend's object says."""


_PER_USER = "!has(self.config) || !has(self.config.rateLimiting) || "


@rules(
    CelRule(
        f"{_PER_USER}(has(self.sessionStorage) && self.sessionStorage.provider == 'redis')",
        "config.rateLimiting requires sessionStorage with provider 'redis'",
    ),
    CelRule(
        f"{_PER_USER}!has(self.config.rateLimiting.perUser) || self.incomingAuth.type == 'oidc'",
        "config.rateLimiting.perUser requires incomingAuth.type oidc",
    ),
    CelRule(
        f"{_PER_USER}!has(self.config.rateLimiting.tools) || self.incomingAuth.type == 'oidc' || "
        "self.config.rateLimiting.tools.all(tool, !has(tool.perUser))",
        "per-tool perUser rate limiting requires incomingAuth.type oidc",
    ),
    CelRule(
        "!has(self.embeddingServerRef) || !has(self.config) || !has(self.config.optimizer) || "
        "!has(self.config.optimizer.embeddingProvider) || self.config.optimizer.embeddingProvider != 'openai'",
        "embeddingServerRef provisions a managed TEI server and cannot be combined with optimizer.embeddingProvider "
        "'openai'; openai mode uses embeddingService directly",
    ),
)
class VirtualMCPServerSpec(Struct):
    """The group, who may use it, and how the gateway runs."""

    group_ref: MCPGroupRef
    """Group whose members become the gateway's backends."""
    incoming_auth: IncomingAuthConfig
    """How clients are authenticated and what they may do."""
    outgoing_auth: OutgoingAuthConfig | None = None
    """How the gateway authenticates towards its backends."""
    passthrough_headers: AtomicList[str] = ()
    """Headers of clients that are passed on to backends; wins over config.passthroughHeaders."""
    service_type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = "ClusterIP"
    """Type of the Service."""
    session_affinity: SessionAffinity = "ClientIP"
    """Whether one client always reaches the same pod."""
    service_account: str | None = None
    """ServiceAccount of the pods; one is made, with its Role, when empty."""
    pod_template_spec: PodTemplatePatch | None = None
    """Strategic merge patch over the generated pod template; the container is named vmcp."""
    config: Annotated[VirtualMCPConfig, KeepUnknown()] | None = None
    """Settings of the gateway."""
    telemetry_config_ref: MCPTelemetryConfigReference | None = None
    """Traces and metrics of the gateway."""
    embedding_server_ref: EmbeddingServerRef | None = None
    """Embedding service for the tool search."""
    auth_server_config: EmbeddedAuthServerConfig | None = None
    """Authorization server that the gateway hosts for clients."""
    replicas: Annotated[Int32, ValueBounds(minimum=0)] | None = None
    """Number of pods; left to others, such as an autoscaler, when absent."""
    session_storage: SessionStorageConfig | None = None
    """Where sessions and rate limits are kept."""
    image_pull_secrets: AtomicList[LocalObjectReference] = ()
    """Secrets for pulling the gateway's image."""


class DiscoveredBackend(Struct):
    """A backend as the running gateway sees it."""

    name: str
    """Name of the backend."""
    url: str | None = None
    """URL of its MCP endpoint."""
    status: str | None = None
    """ready, degraded, unavailable, unauthenticated or unknown."""
    auth_config_ref: str | None = None
    """MCPExternalAuthConfig in use."""
    auth_type: str | None = None
    """Strategy in use."""
    last_health_check: Timestamp | None = None
    """When it was last checked."""
    message: str | None = None
    """What the last check found."""
    circuit_breaker_state: Annotated[str, OneOf("closed", "open", "half-open")] | None = None
    """State of its circuit breaker."""
    circuit_last_changed: Timestamp | None = None
    """When its circuit breaker last changed."""
    consecutive_failures: int | None = None
    """Failed requests in a row."""
    mcp_revision: str | None = None
    """MCP revision that it speaks."""


class VirtualMCPServerStatus(Struct):
    """State of the gateway."""

    observed_generation: Int64 | None = None
    """Generation of the spec that this status was computed from."""
    phase: Annotated[str, OneOf("Pending", "Ready", "Degraded", "Failed")] = "Pending"
    """State of the gateway in one word."""
    message: str | None = None
    """State of the gateway in a sentence."""
    url: str | None = None
    """URL of the gateway inside the cluster."""
    discovered_backends: Annotated[tuple[DiscoveredBackend, ...], ListType("map", ("name",))] = ()
    """The backends as the running gateway sees them."""
    backend_count: Int32 | None = None
    """Number of backends that can be used."""
    ready_backends: str | None = None
    """Backends that can be used, and all of them: 3/4. Counts those that the list has no room for."""
    last_report_time: Timestamp | None = None
    """When the running gateway last reported on its backends."""
    authz_config_hash: str | None = None
    """Hash of the MCPAuthzConfig in use."""
    oidc_config_hash: str | None = None
    """Hash of the MCPOIDCConfig in use."""
    telemetry_config_hash: str | None = None
    """Hash of the MCPTelemetryConfig in use."""
    conditions: Conditions = ()
    """Aspects of the gateway's state."""


class VirtualMCPServer(CustomResource):
    """A gateway that puts the servers of a group behind one MCP endpoint."""

    definition: ClassVar[Definition] = Definition(
        plural="virtualmcpservers",
        short_names=("vmcp", "virtualmcp"),
        columns=(
            Column("Phase", ".status.phase"),
            Column("URL", ".status.url"),
            Column("Backends", ".status.backendCount", "integer"),
            AGE,
            condition_column("Ready", "Ready"),
            REASON,
            Column("Ready Backends", ".status.readyBackends"),
        ),
        selectable=(
            ".spec.groupRef.name",
            ".spec.incomingAuth.oidcConfigRef.name",
            ".spec.incomingAuth.authzConfigRef.name",
            ".spec.telemetryConfigRef.name",
            ".spec.embeddingServerRef.name",
        ),
        reconciled=True,
    )

    kind: str = "VirtualMCPServer"
    """Name of the kind."""
    spec: VirtualMCPServerSpec
    """The group, who may use it, and how the gateway runs."""
    status: VirtualMCPServerStatus | None = None
    """State of the gateway, written by the operator and by the gateway itself."""
