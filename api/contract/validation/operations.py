"""Operational settings, telemetry, audit, optimizer, code mode, sessions, limits, references."""

from __future__ import annotations

import re

from api.contract.config import VmcpConfig
from api.contract.duration import Duration
from api.contract.headers import canonical_header, is_header_name
from api.contract.operations import Bucket, FailureHandling, Operational, Optimizer
from api.contract.urls import read_host_port
from api.contract.validation.report import Findings, Positions

_NUMBER = re.compile(r"([0-9]*[.])?[0-9]+")
_SECOND = Duration(10**9)


def check_operations(config: VmcpConfig, report: Findings) -> None:
    """Check everything around the calls themselves."""
    if config.operational is not None:
        _check_operational(config.operational, Positions(config), report)
    names = [ref.name for ref in config.composite_tool_refs]
    report.unique("compositeToolRefs", names, "name", "definition")
    for index, name in enumerate(names):
        report.require(f"compositeToolRefs[{index}].name", name)
    _check_telemetry(config, report)
    _check_audit(config, report)
    if config.optimizer is not None:
        _check_optimizer(config.optimizer, report)
    _check_code_mode(config, report)
    _check_sessions(config, report)
    _check_rate_limits(config, report)


def _positive(value: Duration | None, where: str, report: Findings) -> None:
    if value is not None and value <= 0:
        report.add(where, "must be positive")


def _check_operational(operational: Operational, positions: Positions, report: Findings) -> None:
    report.one_of("operational.logLevel", operational.log_level, ("debug",), optional=True)
    if operational.timeouts is not None:
        _positive(operational.timeouts.default, "operational.timeouts.default", report)
        for name, value in operational.timeouts.per_workload.items():
            with report.costing(positions.of(name)):
                _positive(value, f"operational.timeouts.perWorkload.{name}", report)
    if operational.failure_handling is not None:
        _check_failure_handling(operational.failure_handling, "operational.failureHandling", report)


def _check_failure_handling(failure: FailureHandling, where: str, report: Findings) -> None:
    _positive(failure.health_check_interval, f"{where}.healthCheckInterval", report)
    _positive(failure.status_reporting_interval, f"{where}.statusReportingInterval", report)
    if failure.unhealthy_threshold < 0:
        report.add(f"{where}.unhealthyThreshold", "must be positive")
    timeout, interval = failure.health_check_timeout, failure.health_check_interval
    if timeout is not None and timeout < 0:
        report.add(f"{where}.healthCheckTimeout", "must not be negative")
    elif timeout and interval is not None and 0 < interval <= timeout:
        report.add(f"{where}.healthCheckTimeout", f"must be shorter than healthCheckInterval ({interval})")
    report.one_of(f"{where}.partialFailureMode", failure.partial_failure_mode, ("fail", "best_effort"), optional=True)
    breaker = failure.circuit_breaker
    if breaker is None:
        return
    if breaker.failure_threshold < 0 or (breaker.enabled and breaker.failure_threshold == 0):
        report.add(f"{where}.circuitBreaker.failureThreshold", "must be at least 1")
    if breaker.enabled and breaker.timeout is not None and breaker.timeout < _SECOND:
        report.add(f"{where}.circuitBreaker.timeout", "must be at least 1s")


def _check_telemetry(config: VmcpConfig, report: Findings) -> None:
    telemetry = config.telemetry
    if telemetry is None:
        return
    if telemetry.endpoint and not telemetry.tracing_enabled and not telemetry.metrics_enabled:
        report.add("telemetry.endpoint", "needs tracingEnabled or metricsEnabled")
    _check_share(telemetry.sampling_rate, 1.0, "telemetry.samplingRate", report)
    if not 0 <= telemetry.prometheus_port <= 65535:
        report.add("telemetry.prometheusPort", "must be a port, 0 to 65535")


def _check_share(text: str, most: float, where: str, report: Findings) -> None:
    if text and (not _NUMBER.fullmatch(text) or float(text) > most):
        report.add(where, f"must be a number from 0 to {most:g}, as text")


def _check_audit(config: VmcpConfig, report: Findings) -> None:
    if config.audit is None:
        return
    if config.audit.max_data_size < 0:
        report.add("audit.maxDataSize", "must not be negative")
    if config.audit.max_delegation_depth < 0:
        report.add("audit.maxDelegationDepth", "must not be negative")


def _check_optimizer(optimizer: Optimizer, report: Findings) -> None:
    report.one_of("optimizer.embeddingProvider", optimizer.embedding_provider, ("tei", "openai"), optional=True)
    openai = optimizer.embedding_provider == "openai"
    if openai:
        report.require("optimizer.embeddingModel", optimizer.embedding_model)
    elif optimizer.embedding_headers:
        report.add("optimizer.embeddingHeaders", "is only supported when embeddingProvider is openai")
    if len(optimizer.embedding_headers) > 32:
        report.add("optimizer.embeddingHeaders", "has more than 32 headers")
    for name in optimizer.embedding_headers:
        if not is_header_name(name) or canonical_header(name) in ("Authorization", "Content-Type"):
            report.add(f"optimizer.embeddingHeaders.{name}", "is not a header that may be set here")
    _positive(optimizer.embedding_service_timeout, "optimizer.embeddingServiceTimeout", report)
    if optimizer.max_tools_to_return and not 1 <= optimizer.max_tools_to_return <= 50:
        report.add("optimizer.maxToolsToReturn", "must be between 1 and 50")
    _check_share(optimizer.hybrid_search_semantic_ratio, 1.0, "optimizer.hybridSearchSemanticRatio", report)
    _check_share(optimizer.semantic_distance_threshold, 2.0, "optimizer.semanticDistanceThreshold", report)


def _check_code_mode(config: VmcpConfig, report: Findings) -> None:
    code = config.code_mode
    if code is None:
        return
    if code.step_limit < 0:
        report.add("codeMode.stepLimit", "must be at least 1")
    if code.parallel_max_concurrency < 0:
        report.add("codeMode.parallelMaxConcurrency", "must be at least 1")
    _positive(code.tool_call_timeout, "codeMode.toolCallTimeout", report)


def _check_sessions(config: VmcpConfig, report: Findings) -> None:
    storage = config.session_storage
    if storage is None:
        return
    report.one_of("sessionStorage.provider", storage.provider, ("memory", "redis"))
    if storage.provider == "redis" and report.require("sessionStorage.address", storage.address):
        try:
            read_host_port(storage.address)
        except ValueError as error:
            report.add("sessionStorage.address", str(error))
    if storage.db < 0:
        report.add("sessionStorage.db", "must not be negative")


def _check_rate_limits(config: VmcpConfig, report: Findings) -> None:
    limits = config.rate_limiting
    if limits is None:
        return
    if limits.shared is None and limits.per_user is None and not limits.tools:
        report.add("rateLimiting", "at least one of shared, perUser and tools is required")
    _check_bucket(limits.shared, "rateLimiting.shared", report)
    _check_bucket(limits.per_user, "rateLimiting.perUser", report)
    report.unique("rateLimiting.tools", (tool.name for tool in limits.tools), "name", "tool")
    for index, tool in enumerate(limits.tools):
        where = f"rateLimiting.tools[{index}]"
        report.require(f"{where}.name", tool.name)
        if tool.shared is None and tool.per_user is None:
            report.add(where, "at least one of shared and perUser is required")
        _check_bucket(tool.shared, f"{where}.shared", report)
        _check_bucket(tool.per_user, f"{where}.perUser", report)
    _check_user_limits(config, report)


def _check_user_limits(config: VmcpConfig, report: Findings) -> None:
    limits = config.rate_limiting
    assert limits is not None
    anonymous = config.incoming_auth is not None and config.incoming_auth.type == "anonymous"
    per_user = limits.per_user is not None or any(tool.per_user is not None for tool in limits.tools)
    if anonymous and per_user:
        report.add("rateLimiting", "limits per user need incomingAuth of type oidc")


def _check_bucket(bucket: Bucket | None, where: str, report: Findings) -> None:
    if bucket is None:
        return
    if bucket.max_tokens < 1:
        report.add(f"{where}.maxTokens", "must be at least 1")
    if bucket.refill_period is None:
        report.add(f"{where}.refillPeriod", "is required")
    else:
        _positive(bucket.refill_period, f"{where}.refillPeriod", report)
