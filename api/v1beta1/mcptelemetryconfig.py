"""MCPTelemetryConfig: traces and metrics settings that servers share."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from api.common.markers import AGE, CelRule, Column, Definition, ListType, ValueBounds, condition_column, rules
from api.common.model import Conditions, CustomResource, Int64, Struct
from api.common.references import CABundleSource, NonEmpty, SecretKeyRef


class SensitiveHeader(Struct):
    """A header whose value is a secret."""

    name: NonEmpty
    """Name of the header."""
    secret_key_ref: SecretKeyRef
    """Secret and key that hold the value."""


class MetricsConfig(Struct):
    """Metrics sent to the collector."""

    enabled: bool = False
    """Send metrics."""


class TracingConfig(Struct):
    """Traces sent to the collector."""

    enabled: bool = False
    """Send traces."""
    sampling_rate: Annotated[str, ValueBounds(pattern=r"^(0(\.\d+)?|1(\.0+)?)$")] = "0.05"
    """Share of requests that are traced, from 0 to 1."""


@rules(
    CelRule(
        "!has(self.headers) || !has(self.sensitiveHeaders) || "
        "self.sensitiveHeaders.all(header, !(header.name in self.headers))",
        "a header name cannot appear in both headers and sensitiveHeaders",
    )
)
class OpenTelemetryConfig(Struct):
    """OpenTelemetry settings."""

    enabled: bool = False
    """Use OpenTelemetry."""
    endpoint: str | None = None
    """Address of the OTLP collector, host:port."""
    insecure: bool = False
    """Send without TLS."""
    headers: dict[str, str] = Field(default_factory=dict)
    """Headers of requests to the collector."""
    sensitive_headers: Annotated[tuple[SensitiveHeader, ...], ListType("map", ("name",))] = ()
    """Headers of requests to the collector whose values come from Secrets."""
    resource_attributes: dict[str, str] = Field(default_factory=dict)
    """Attributes of every trace and metric."""
    metrics: MetricsConfig | None = None
    """Metrics sent to the collector."""
    tracing: TracingConfig | None = None
    """Traces sent to the collector."""
    use_legacy_attributes: bool = True
    """Also write the attribute names of before the MCP semantic conventions."""
    ca_bundle_ref: CABundleSource | None = None
    """Certificate authorities trusted for the collector."""


class PrometheusConfig(Struct):
    """Metrics for Prometheus to scrape."""

    enabled: bool = False
    """Serve metrics under /metrics."""


class MCPTelemetryConfigSpec(Struct):
    """Where traces and metrics go."""

    open_telemetry: OpenTelemetryConfig | None = None
    """OpenTelemetry settings."""
    prometheus: PrometheusConfig | None = None
    """Metrics for Prometheus to scrape."""


class MCPTelemetryConfigStatus(Struct):
    """Whether the configuration can be used."""

    observed_generation: Int64 | None = None
    """Generation of the spec that this status was computed from."""
    config_hash: str | None = None
    """Hash of the spec; changes when the configuration does."""
    conditions: Conditions = ()
    """Aspects of the object's state."""


class MCPTelemetryConfig(CustomResource):
    """Traces and metrics settings that servers share."""

    definition: ClassVar[Definition] = Definition(
        plural="mcptelemetryconfigs",
        short_names=("mcpotel",),
        columns=(
            Column("Endpoint", ".spec.openTelemetry.endpoint"),
            condition_column("Valid", "Valid"),
            Column("Tracing", ".spec.openTelemetry.tracing.enabled", "boolean"),
            Column("Metrics", ".spec.openTelemetry.metrics.enabled", "boolean"),
            AGE,
        ),
    )

    kind: str = "MCPTelemetryConfig"
    """Name of the kind."""
    spec: MCPTelemetryConfigSpec = Field(default_factory=MCPTelemetryConfigSpec)
    """Where traces and metrics go."""
    status: MCPTelemetryConfigStatus | None = None
    """Whether the configuration can be used, written by the operator."""
