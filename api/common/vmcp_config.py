"""The gateway's settings as they stand in `VirtualMCPServer.spec.config`.

The operator completes them (backends, references, defaults) into the configuration file of `api.contract`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from api.common.markers import CelRule, ValueBounds, rules
from api.common.model import AtomicList, Duration, Int32, Int64, Struct
from api.common.references import ToolConfigRef
from api.common.strategies import BackendAuthStrategy
from api.common.tools import CompositeTool, ToolOverride
from api.common.traffic import RateLimitConfig

Ratio = Annotated[str, ValueBounds(pattern=r"^([0-9]*[.])?[0-9]+$")]
# The text of an HTTP field value: no control characters but the tab.
HeaderValue = Annotated[str, ValueBounds(pattern=r"^[^\x00-\x08\x0A-\x1F\x7F]*$", min_length=1, max_length=8192)]


class ConflictResolutionConfig(Struct):
    """Settings of the conflict resolution."""

    prefix_format: str = "{workload}_"
    """Prefix of tool names, for prefix; {workload} stands for the backend's name."""
    priority_order: tuple[str, ...] = ()
    """Backends from the most to the least important, for priority."""


class WorkloadToolConfig(Struct):
    """Which tools of one backend are shown, and how."""

    workload: str
    """Name of the backend."""
    tool_config_ref: ToolConfigRef | None = None
    """MCPToolConfig to take filter and overrides from; what is written here wins."""
    filter: tuple[str, ...] = ()
    """Tools to show, by their names after overrides; all when empty."""
    overrides: dict[str, ToolOverride] = Field(default_factory=dict)
    """What to show instead, by the backend's tool name."""
    exclude_all: bool | None = None
    """Show no tool of this backend; composite tools may still call them."""


class AggregationConfig(Struct):
    """How the backends' capabilities are merged into one list."""

    conflict_resolution: Literal["prefix", "priority", "manual"] = "prefix"
    """What happens to tools of the same name: every name is prefixed, the more important backend wins, or overrides
    must have made them different."""
    conflict_resolution_config: ConflictResolutionConfig | None = None
    """Settings of the conflict resolution."""
    tools: tuple[WorkloadToolConfig, ...] = ()
    """Filters and overrides per backend."""
    exclude_all_tools: bool | None = None
    """Show no tool of any backend, only composite tools."""
    default_tool_visibility: Literal["allow", "deny"] | None = None
    """Whether tools of backends without an entry in tools are shown; allow when empty."""


class GatewayAuditConfig(Struct):
    """Audit log of the gateway."""

    enabled: bool = False
    """Write audit events."""
    component: str | None = None
    """Component name in the events; the name of the VirtualMCPServer when empty."""
    event_types: tuple[str, ...] = ()
    """Event types to write; all when empty."""
    exclude_event_types: tuple[str, ...] = ()
    """Event types not to write; wins over eventTypes."""
    include_request_data: bool = False
    """Write request bodies. They may hold personal data."""
    include_response_data: bool = False
    """Write response bodies. They may hold personal data."""
    detect_application_errors: bool = True
    """Look into successful HTTP responses for JSON-RPC and tool errors."""
    max_data_size: int = 1024
    """Bytes of a body that are written at most."""
    max_delegation_depth: Annotated[int, ValueBounds(minimum=1)] = 10
    """How many actors of a delegation chain are written at most."""
    log_file: str | None = None
    """File to write to; standard output when empty."""


class StaticBackendConfig(Struct):
    """A backend with a fixed address."""

    name: str
    """Name of the backend, unique in the gateway."""
    url: Annotated[str, ValueBounds(pattern=r"^https?://")]
    """URL of the MCP endpoint."""
    transport: Literal["sse", "streamable-http"]
    """MCP transport of the backend."""
    type: Literal["entry", ""] | None = None
    """entry: a remote server outside the cluster."""
    ca_bundle_path: str | None = None
    """File with certificate authorities trusted for this backend, besides the system's."""
    metadata: dict[str, str] = Field(default_factory=dict)
    """Free text about the backend."""


class CodeModeConfig(Struct):
    """Scripts that call many tools in one request."""

    enabled: bool | None = None
    """Offer code mode."""
    step_limit: Annotated[Int64, ValueBounds(minimum=1)] = 100000
    """Steps that a script may run."""
    parallel_max_concurrency: Annotated[int, ValueBounds(minimum=1)] = 10
    """Tool calls of one script in flight at the same time."""
    tool_call_timeout: Duration = "30s"
    """Longest time of one tool call of a script."""


class CompositeToolRef(Struct):
    """A VirtualMCPCompositeToolDefinition."""

    name: str
    """Name of the definition."""


class GatewayAuthzConfig(Struct):
    """Authorization of incoming requests."""

    type: str
    """cedar or none."""
    policies: tuple[str, ...] = ()
    """Cedar policies."""
    entities_json: str | None = None
    """Cedar entities as a JSON array."""
    primary_upstream_provider: str | None = None
    """Upstream provider whose claims are evaluated."""
    group_claim_name: str | None = None
    """Claim that lists the groups of a user."""
    role_claim_name: str | None = None
    """Claim that lists the roles of a user."""
    group_entity_type: str | None = None
    """Cedar entity type of groups and roles."""


class GatewayOIDCConfig(Struct):
    """Validation of incoming OIDC tokens."""

    issuer: Annotated[str, ValueBounds(pattern=r"^https?://")]
    """Issuer of the tokens."""
    client_id: str
    """OAuth client for token introspection."""
    client_secret_env: str | None = None
    """Environment variable that holds the client secret."""
    audience: str
    """Audience that tokens must carry."""
    resource: str | None = None
    """URL of this resource in the protected resource metadata (RFC 9728)."""
    jwks_url: str | None = None
    """Where the issuer's keys are; discovered when empty."""
    introspection_url: str | None = None
    """Introspection endpoint for opaque tokens; discovered when empty."""
    scopes: tuple[str, ...] = ()
    """Scopes published in the protected resource metadata."""
    protected_resource_allow_private_ip: bool | None = None
    """Accept private addresses in the protected resource metadata."""
    jwks_allow_private_ip: bool | None = None
    """Accept private addresses for the issuer's keys."""
    insecure_allow_http: bool | None = None
    """Accept an issuer without TLS. For tests only."""
    ca_bundle_path: str | None = None
    """File with certificate authorities trusted for the issuer."""


class GatewayIncomingAuthConfig(Struct):
    """Authentication of clients; the operator fills it from spec.incomingAuth."""

    type: str
    """oidc, local or anonymous."""
    oidc: GatewayOIDCConfig | None = None
    """Settings of oidc."""
    authz: GatewayAuthzConfig | None = None
    """What authenticated clients may do."""


class CircuitBreakerConfig(Struct):
    """Stop calling a backend that keeps failing, and try again later."""

    enabled: bool = False
    """Use a circuit breaker for each backend."""
    failure_threshold: Annotated[int, ValueBounds(minimum=1)] = 5
    """Failures in a row that open the circuit."""
    timeout: Annotated[
        Duration,
        CelRule("self == '' || duration(self) >= duration('1s')", "timeout must be >= 1s"),
    ] = "60s"
    """How long the circuit stays open before one request may try."""


class FailureHandlingConfig(Struct):
    """What happens when backends fail."""

    health_check_interval: Duration = "30s"
    """Time between two health checks of a backend."""
    unhealthy_threshold: int = 3
    """Failed health checks in a row after which a backend is unhealthy."""
    health_check_timeout: Duration = "10s"
    """Longest time of one health check."""
    status_reporting_interval: Duration = "30s"
    """Time between two reports into the status of the VirtualMCPServer."""
    partial_failure_mode: Literal["fail", "best_effort"] = "fail"
    """Whether a request that some backends cannot serve fails, or is answered from the others."""
    circuit_breaker: CircuitBreakerConfig | None = None
    """Circuit breaker of the backends."""


class TimeoutConfig(Struct):
    """Time limits of requests to backends."""

    default: Duration = "30s"
    """Time limit of backends without one of their own."""
    per_workload: dict[str, Duration] = Field(default_factory=dict)
    """Time limits by backend name."""


class OperationalConfig(Struct):
    """Timeouts, health and logging."""

    log_level: Literal["debug"] | None = None
    """debug writes more; nothing else can be chosen."""
    timeouts: TimeoutConfig | None = None
    """Time limits of requests to backends."""
    failure_handling: FailureHandlingConfig | None = None
    """What happens when backends fail."""


@rules(
    CelRule(
        "!has(self.embeddingHeaders) || size(self.embeddingHeaders) == 0 || "
        "(has(self.embeddingProvider) && self.embeddingProvider == 'openai')",
        "embeddingHeaders is only supported when embeddingProvider is 'openai'",
    ),
    CelRule(
        "!has(self.embeddingHeaders) || self.embeddingHeaders.all(name, "
        "name.matches('^[!#$%&\\'*+.^_`|~0-9A-Za-z-]+$') && "
        "!(name.lowerAscii() in ['authorization', 'content-type']))",
        "embeddingHeaders names must be valid HTTP header names and must not include Authorization or Content-Type",
    ),
)
class OptimizerConfig(Struct):
    """Show clients a search over the tools instead of all tools."""

    embedding_service: str | None = None
    """URL of the embedding service."""
    embedding_service_timeout: Duration = "30s"
    """Longest time of one embedding request."""
    embedding_provider: Literal["tei", "openai"] = "tei"
    """API of the embedding service."""
    embedding_model: str | None = None
    """Model to ask for, for openai."""
    embedding_headers: Annotated[dict[str, HeaderValue], ValueBounds(max_properties=32)] = Field(default_factory=dict)
    """Headers of embedding requests, for openai."""
    max_tools_to_return: Annotated[int, ValueBounds(minimum=1, maximum=50)] | None = None
    """Most tools in one search result; 8 when empty."""
    hybrid_search_semantic_ratio: Ratio | None = None
    """Weight of meaning against words, from 0 (words) to 1 (meaning); 0.5 when empty."""
    semantic_distance_threshold: Ratio | None = None
    """Results farther away than this are left out; 1.0 when empty."""


class GatewayOutgoingAuthConfig(Struct):
    """Authentication towards the backends; the operator fills it from spec.outgoingAuth."""

    source: str
    """inline: as listed here; discovered: as each backend's object says."""
    default: BackendAuthStrategy | None = None
    """Strategy for backends that have none."""
    backends: dict[str, BackendAuthStrategy] = Field(default_factory=dict)
    """Strategies by backend name."""


class GatewaySessionStorageConfig(Struct):
    """Where sessions are kept; the operator fills it from spec.sessionStorage, never with the password."""

    provider: Literal["memory", "redis"]
    """memory or redis."""
    address: str | None = None
    """Address of the Redis server, host:port."""
    db: Annotated[Int32, ValueBounds(minimum=0)] = 0
    """Number of the Redis database."""
    key_prefix: str | None = None
    """Prefix of every key."""


class GatewayTelemetryConfig(Struct):
    """OpenTelemetry; the operator fills it from spec.telemetryConfigRef."""

    endpoint: str | None = None
    """Address of the OTLP collector."""
    service_name: str | None = None
    """Service name in traces and metrics."""
    service_version: str | None = None
    """Service version in traces and metrics."""
    tracing_enabled: bool = False
    """Send traces."""
    metrics_enabled: bool = False
    """Send metrics."""
    sampling_rate: str = "0.05"
    """Share of requests that are traced, from 0 to 1."""
    headers: dict[str, str] = Field(default_factory=dict)
    """Headers of requests to the collector."""
    insecure: bool = False
    """Send without TLS."""
    enable_prometheus_metrics_path: bool = False
    """Serve metrics under /metrics."""
    prometheus_port: int | None = None
    """Port of /metrics, if it has its own."""
    metrics_on_transport_port: bool | None = None
    """Serve /metrics on the port that serves MCP."""
    environment_variables: tuple[str, ...] = ()
    """Environment variables that are recorded in traces."""
    custom_attributes: dict[str, str] = Field(default_factory=dict)
    """Attributes of every trace and metric."""
    use_legacy_attributes: bool = True
    """Also write the attribute names of before the MCP semantic conventions."""
    ca_cert_path: str | None = None
    """File with certificate authorities trusted for the collector."""


class VirtualMCPConfig(Struct):
    """Settings of the gateway. What the operator decides itself (name, group, auth, telemetry) is overwritten."""

    name: str | None = None
    """Name of the gateway; always the name of the VirtualMCPServer."""
    group_ref: str | None = None
    """Name of the MCPGroup; always that of spec.groupRef."""
    backends: tuple[StaticBackendConfig, ...] = ()
    """Backends with fixed addresses; the operator writes the group's members here in inline mode."""
    incoming_auth: GatewayIncomingAuthConfig | None = None
    """Authentication of clients."""
    outgoing_auth: GatewayOutgoingAuthConfig | None = None
    """Authentication to backends."""
    aggregation: AggregationConfig | None = None
    """How the backends' capabilities are merged into one list."""
    composite_tools: tuple[CompositeTool, ...] = ()
    """Composite tools, written here."""
    composite_tool_refs: tuple[CompositeToolRef, ...] = ()
    """Composite tools, by reference to VirtualMCPCompositeToolDefinitions."""
    operational: OperationalConfig | None = None
    """Timeouts, health and logging."""
    metadata: dict[str, str] = Field(default_factory=dict)
    """Free text about the gateway."""
    telemetry: GatewayTelemetryConfig | None = None
    """OpenTelemetry."""
    audit: GatewayAuditConfig | None = None
    """Audit log."""
    optimizer: OptimizerConfig | None = None
    """Show clients a search over the tools instead of all tools."""
    code_mode: CodeModeConfig | None = None
    """Scripts that call many tools in one request."""
    session_storage: GatewaySessionStorageConfig | None = None
    """Where sessions are kept."""
    rate_limiting: RateLimitConfig | None = None
    """Limits on requests."""
    passthrough_headers: AtomicList[str] = ()
    """Headers of clients that are passed on to backends."""
