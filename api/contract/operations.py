"""Operational settings: time-outs, health, telemetry, audit, optimizer, sessions, limits."""

from __future__ import annotations

from pydantic import Field

from api.contract.section import Count, Flag, RefillPeriod, Section, Span, Text


class Timeouts(Section):
    """`operational.timeouts`."""

    default: Span | None = None
    """Time limit of a whole call to a backend; 30s when absent."""
    per_workload: dict[Text, Span] = Field(default_factory=dict)


class CircuitBreaker(Section):
    """`operational.failureHandling.circuitBreaker`."""

    enabled: Flag = False
    failure_threshold: Count = 0
    """Failures in a row that open it; 5 when absent."""
    timeout: Span | None = None
    """Time until a probe; 60s when absent."""


class FailureHandling(Section):
    """`operational.failureHandling`."""

    health_check_interval: Span | None = None
    unhealthy_threshold: Count = 0
    health_check_timeout: Span | None = None
    status_reporting_interval: Span | None = None
    partial_failure_mode: Text = ""
    """`fail` (the stock gateway's default, without effect there) or `best_effort` (the native gateway's)."""
    circuit_breaker: CircuitBreaker | None = None


class Operational(Section):
    """`operational`."""

    log_level: Text = ""
    """Only `debug`."""
    timeouts: Timeouts | None = None
    failure_handling: FailureHandling | None = None


class Telemetry(Section):
    """`telemetry`: OpenTelemetry and Prometheus."""

    endpoint: Text = ""
    service_name: Text = ""
    service_version: Text = ""
    tracing_enabled: Flag = False
    metrics_enabled: Flag = False
    sampling_rate: Text = ""
    headers: dict[Text, Text] = Field(default_factory=dict, repr=False)
    insecure: Flag = False
    enable_prometheus_metrics_path: Flag = False
    prometheus_port: Count = 0
    metrics_on_transport_port: Flag = False
    environment_variables: tuple[Text, ...] = ()
    custom_attributes: dict[Text, Text] = Field(default_factory=dict)
    use_legacy_attributes: Flag | None = None
    ca_cert_path: Text = ""


class Audit(Section):
    """`audit`: presence switches it on."""

    enabled: Flag = False
    component: Text = ""
    event_types: tuple[Text, ...] = ()
    exclude_event_types: tuple[Text, ...] = ()
    include_request_data: Flag = False
    include_response_data: Flag = False
    detect_application_errors: Flag | None = None
    """True when absent."""
    max_data_size: Count = 0
    """Bytes; 1,024 when absent."""
    max_delegation_depth: Count = 0
    """10 when absent."""
    log_file: Text = ""


class Optimizer(Section):
    """`optimizer`: presence switches it on."""

    embedding_service: Text = ""
    embedding_service_timeout: Span | None = None
    embedding_provider: Text = ""
    """`tei` (default) or `openai`."""
    embedding_model: Text = ""
    embedding_headers: dict[Text, Text] = Field(default_factory=dict, repr=False)
    max_tools_to_return: Count = 0
    hybrid_search_semantic_ratio: Text = ""
    semantic_distance_threshold: Text = ""


class CodeMode(Section):
    """`codeMode`."""

    enabled: Flag = False
    step_limit: Count = 0
    parallel_max_concurrency: Count = 0
    tool_call_timeout: Span | None = None


class SessionStorage(Section):
    """`sessionStorage`; the password comes from THV_SESSION_REDIS_PASSWORD."""

    provider: Text = ""
    """`memory` or `redis`."""
    address: Text = ""
    db: Count = 0
    key_prefix: Text = ""


class Bucket(Section):
    """A token bucket."""

    max_tokens: Count = 0
    refill_period: RefillPeriod | None = None


class ToolLimit(Section):
    """Limits of one tool."""

    name: Text = ""
    shared: Bucket | None = None
    per_user: Bucket | None = None


class RateLimiting(Section):
    """`rateLimiting`."""

    shared: Bucket | None = None
    per_user: Bucket | None = None
    tools: tuple[ToolLimit, ...] = ()
