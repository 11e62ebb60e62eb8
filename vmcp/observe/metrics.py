"""Prometheus metrics. Names are those that ToolHive's gateway exports; every label has a bounded set of values.

| metric | labels |
|---|---|
| `toolhive_mcp_requests_total`, `toolhive_mcp_request_duration_seconds` | `mcp_method`, `era`, `outcome` |
| `toolhive_mcp_active_connections` | - |
| `toolhive_mcp_tool_calls_total` | `tool`, `backend`, `outcome` |
| `toolhive_vmcp_backends_discovered` | - |
| `toolhive_vmcp_backend_requests_total`, `..._errors_total`, `..._requests_duration_seconds` | `target_workload_id`,
`mcp_method` |
| `vmcp_session_store_available` | - |
| `vmcp_rate_limit_uncounted_total` | - |
| `vmcp_sessions`, `vmcp_rate_limited_total`, `vmcp_unauthenticated_total`, `vmcp_audit_dropped_total` | - |
| `vmcp_config_reloads_total` | `result` |
| `vmcp_config_last_reload_successful`, `vmcp_config_last_reload_success_timestamp_seconds` | - |
| `vmcp_backend_left_out`, `vmcp_backend_standing` | `backend` |
| `vmcp_backend_up`, `vmcp_backend_circuit_open` | `backend` |
| `vmcp_backend_lists_failing`, `vmcp_backend_entries_left_out`, `vmcp_backend_answers_refused_total` | `backend` |

ToolHive labels with URLs and resource URIs; those are unbounded and can hold secrets, so they are left out here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
MAX_TOOLS: Final = 5_000
"""Different tools with a counter of their own; later ones are counted as `other`."""

METHODS: Final = frozenset(
    {
        "initialize",
        "server/discover",
        "ping",
        "tools/list",
        "tools/call",
        "resources/list",
        "resources/templates/list",
        "resources/read",
        "resources/subscribe",
        "resources/unsubscribe",
        "prompts/list",
        "prompts/get",
        "completion/complete",
        "logging/setLevel",
        "subscriptions/listen",
        "notifications/initialized",
        "notifications/cancelled",
        "notifications/progress",
        "notifications/roots/list_changed",
    }
)


@dataclass(frozen=True, slots=True)
class BackendSample:
    """A backend's state at scrape time."""

    name: str
    up: bool
    circuit_open: bool
    lists_failing: int = 0
    entries_left_out: int = 0
    answers_refused: int = 0


class _Request:
    """The children of one label set, bound once."""

    __slots__ = ("count", "seconds")

    def __init__(self, count: Counter, seconds: Histogram) -> None:
        self.count = count
        self.seconds = seconds


class Metrics:
    """All metrics of one gateway, in a registry of their own."""

    def __init__(self, *, max_tools: int = MAX_TOOLS) -> None:
        """Start at zero; calls of tools beyond `max_tools` are counted together."""
        self._max_tools = max_tools
        registry = self.registry = CollectorRegistry()
        labels = ("mcp_method", "era", "outcome")
        self._requests = Counter("toolhive_mcp_requests", "MCP requests.", labels, registry=registry)
        self._durations = Histogram(
            "toolhive_mcp_request_duration_seconds", "Time to answer.", labels, buckets=BUCKETS, registry=registry
        )
        self._tools = Counter(
            "toolhive_mcp_tool_calls", "Calls of tools.", ("tool", "backend", "outcome"), registry=registry
        )
        target = ("target_workload_id", "mcp_method")
        self._backend_requests = Counter(
            "toolhive_vmcp_backend_requests", "Requests to backends.", target, registry=registry
        )
        self._backend_errors = Counter(
            "toolhive_vmcp_backend_errors", "Requests to backends without a useful answer.", target, registry=registry
        )
        self._backend_durations = Histogram(
            "toolhive_vmcp_backend_requests_duration_seconds",
            "Time of requests to backends, until their answer.",
            target,
            buckets=BUCKETS,
            registry=registry,
        )
        self._reloads = Counter("vmcp_config_reloads", "Reloads of the configuration.", ("result",), registry=registry)
        self._reload_good = Gauge(
            "vmcp_config_last_reload_successful", "1 = the current file was accepted.", registry=registry
        )
        self._left_out = Gauge(
            "vmcp_backend_left_out",
            "1 = this configured backend cannot be served; the log says why.",
            ("backend",),
            registry=registry,
        )
        self._standing = Gauge(
            "vmcp_backend_standing",
            "1 = this backend is served as an earlier configuration said; the log says why.",
            ("backend",),
            registry=registry,
        )
        self._reloaded_at = Gauge(
            "vmcp_config_last_reload_success_timestamp_seconds",
            "Unix time of the last accepted file.",
            registry=registry,
        )
        self.connections = Gauge("toolhive_mcp_active_connections", "Open streams to clients.", registry=registry)
        self.sessions = Gauge("vmcp_sessions", "Legacy sessions.", registry=registry)
        self.session_store = Gauge(
            "vmcp_session_store_available",
            "1 = sessions of other replicas can be found; always 1 without a shared store.",
            registry=registry,
        )
        self.rate_limited = Counter("vmcp_rate_limited", "Calls refused by rate limits.", registry=registry)
        self.rate_limits_apart = Counter(
            "vmcp_rate_limit_uncounted",
            "Calls that could not be counted together with those of other replicas.",
            registry=registry,
        )
        self.unauthenticated = Counter("vmcp_unauthenticated", "Requests without valid credentials.", registry=registry)
        self.audit_dropped = Counter("vmcp_audit_dropped", "Audit events that were lost.", registry=registry)
        self._states = _BackendCollector()
        registry.register(self._states)
        self._bound: dict[tuple[str, str, str], _Request] = {}
        self._bound_tools: dict[tuple[str, str, str], Counter] = {}
        self._bound_backends: dict[tuple[str, str], _Request] = {}

    def request(self, method: str, era: str, outcome: str, seconds: float) -> None:
        """Count a request that was answered; unknown methods are one label value, `other`."""
        key = (method, era, outcome)
        bound = self._bound.get(key)
        if bound is None:
            key = (method if method in METHODS else "other", era, outcome)
            bound = self._bound.get(key)
        if bound is None:
            bound = self._bound[key] = _Request(self._requests.labels(*key), self._durations.labels(*key))
        bound.count.inc()
        bound.seconds.observe(seconds)

    def tool_call(self, tool: str, backend: str, outcome: str) -> None:
        """Count a call of an existing tool, by its advertised name."""
        key = (tool, backend, outcome)
        bound = self._bound_tools.get(key)
        if bound is None:
            if len(self._bound_tools) >= self._max_tools:
                key = ("other", backend, outcome)
            bound = self._bound_tools[key] = self._tools.labels(*key)
        bound.inc()

    def backend_request(self, backend: str, method: str, seconds: float, *, failed: bool) -> None:
        """Count a request to a backend; `failed` = no answer, or an error that is not the caller's fault."""
        key = (backend, method if method in METHODS else "other")
        bound = self._bound_backends.get(key)
        if bound is None:
            bound = _Request(self._backend_requests.labels(*key), self._backend_durations.labels(*key))
            self._bound_backends[key] = bound
        bound.count.inc()
        bound.seconds.observe(seconds)
        if failed:
            self._backend_errors.labels(*key).inc()

    def reloaded(self, *, accepted: bool) -> None:
        """Record what became of a configuration file, the first one included."""
        self._reloads.labels("accepted" if accepted else "refused").inc()
        self._reload_good.set(1 if accepted else 0)
        if accepted:
            self._reloaded_at.set(time.time())

    def left_out(self, backends: Iterable[str], standing: Iterable[str]) -> None:
        """Record the backends that cannot be served as the accepted configuration says.

        Args:
            backends: Those that are not served.
            standing: Those that are served as an earlier configuration said.
        """
        for gauge, names in ((self._left_out, backends), (self._standing, standing)):
            gauge.clear()
            for name in names:
                gauge.labels(name).set(1)

    def watch_backends(self, source: Callable[[], Iterable[BackendSample]]) -> None:
        """Ask `source` at every scrape; replaces an earlier one."""
        self._states.source = source

    def forget_backends(self, gone: Iterable[str]) -> None:
        """Drop the series of backends that a reload removed, so that names do not pile up."""
        names = set(gone)
        for key in [key for key in self._bound_backends if key[0] in names]:
            del self._bound_backends[key]
            for metric in (self._backend_requests, self._backend_durations, self._backend_errors):
                metric.remove_by_labels({"target_workload_id": key[0], "mcp_method": key[1]})
        for tool_key in [key for key in self._bound_tools if key[1] in names]:
            del self._bound_tools[tool_key]
            self._tools.remove(*tool_key)

    def render(self) -> tuple[str, bytes]:
        """Return content type and body of `/metrics`."""
        return CONTENT_TYPE_LATEST, generate_latest(self.registry)


class _BackendCollector(Collector):
    """Reads backends' states when scraped."""

    def __init__(self) -> None:
        self.source: Callable[[], Iterable[BackendSample]] | None = None

    def collect(self) -> Iterator[Metric]:
        """Yield the families."""
        samples = list(self.source()) if self.source is not None else []
        known = GaugeMetricFamily("toolhive_vmcp_backends_discovered", "Configured backends.", value=len(samples))
        up = GaugeMetricFamily("vmcp_backend_up", "1 = usable.", labels=["backend"])
        missing = GaugeMetricFamily(
            "vmcp_backend_lists_failing", "Lists that cannot be fetched from the backend.", labels=["backend"]
        )
        left_out = GaugeMetricFamily(
            "vmcp_backend_entries_left_out", "List entries that clients would reject.", labels=["backend"]
        )
        circuit = GaugeMetricFamily("vmcp_backend_circuit_open", "1 = the circuit is open.", labels=["backend"])
        refused = CounterMetricFamily(
            "vmcp_backend_answers_refused", "Large answers that there was no room for.", labels=["backend"]
        )
        for sample in samples:
            refused.add_metric([sample.name], sample.answers_refused)
            up.add_metric([sample.name], 1.0 if sample.up else 0.0)
            circuit.add_metric([sample.name], 1.0 if sample.circuit_open else 0.0)
            missing.add_metric([sample.name], sample.lists_failing)
            left_out.add_metric([sample.name], sample.entries_left_out)
        yield from (known, up, circuit, missing, left_out, refused)
