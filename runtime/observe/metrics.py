"""Every metric of the runtime, in one file, in one registry.

The first half has controller-runtime's names, labels and buckets, so that existing dashboards and alerts work. The
second half (`runtime_*`) is what a list/watch cache and an event loop need besides. Metrics are process-wide like
controller-runtime's: two controllers of one name would share their series, and the manager refuses them.

Hot paths bind their label values once (see `bind`); anything that can be computed when somebody looks (queue depth,
unfinished work, cache size) is a collector and costs nothing in between.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

# Client libraries in Go export no `_created` series; they would double the size of a scrape.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library's own gap

REGISTRY = CollectorRegistry(auto_describe=True)
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)

MAX_PRIORITIES = 25
EXCEEDED = "exceeded_cardinality_limit"

_RECONCILE_BUCKETS = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.25, 1.5),
    *(1.75, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5, 6, 7, 8, 9, 10, 15, 20, 25, 30, 40, 50, 60),
)
_QUEUE_BUCKETS = tuple(10e-9 * 10**n for n in range(12))


def _counter(name: str, text: str, *labels: str) -> Counter:
    return Counter(name, text, labels, registry=REGISTRY)


def _gauge(name: str, text: str, *labels: str) -> Gauge:
    return Gauge(name, text, labels, registry=REGISTRY)


# --- controller-runtime's names -------------------------------------------------------------------------------------

RECONCILE_TOTAL = _counter(
    "controller_runtime_reconcile_total", "Reconciles per controller and result", "controller", "result"
)
RECONCILE_ERRORS = _counter(
    "controller_runtime_reconcile_errors_total", "Reconciles that failed, terminal failures included", "controller"
)
TERMINAL_ERRORS = _counter(
    "controller_runtime_terminal_reconcile_errors_total", "Reconciles that failed and are not retried", "controller"
)
RECONCILE_PANICS = _counter(
    "controller_runtime_reconcile_panics_total",
    "Reconciles that ended in an exception that is neither an API error nor terminal",
    "controller",
)
RECONCILE_TIMEOUTS = _counter(
    "controller_runtime_reconcile_timeouts_total", "Reconciles stopped by the controller's time limit", "controller"
)
RECONCILE_TIME = Histogram(
    "controller_runtime_reconcile_time_seconds",
    "Duration of a reconcile",
    ("controller",),
    buckets=_RECONCILE_BUCKETS,
    registry=REGISTRY,
)
MAX_CONCURRENT = _gauge(
    "controller_runtime_max_concurrent_reconciles", "Maximum number of concurrent reconciles", "controller"
)
ACTIVE_WORKERS = _gauge("controller_runtime_active_workers", "Reconciles running now", "controller")

QUEUE_ADDS = _counter("workqueue_adds_total", "Items that became ready", "name", "controller")
QUEUE_RETRIES = _counter("workqueue_retries_total", "Items added with a delay", "name", "controller")
QUEUE_DURATION = Histogram(
    "workqueue_queue_duration_seconds",
    "Time an item waited before a worker took it",
    ("name", "controller"),
    buckets=_QUEUE_BUCKETS,
    registry=REGISTRY,
)
WORK_DURATION = Histogram(
    "workqueue_work_duration_seconds",
    "Time a worker spent on an item",
    ("name", "controller"),
    buckets=_QUEUE_BUCKETS,
    registry=REGISTRY,
)

REST_REQUESTS = _counter(
    "rest_client_requests_total",
    "Requests to the API server; code is <error> without an answer",
    "code",
    "method",
    "host",
)

LEADER_STATUS = _gauge("leader_election_master_status", "1 while this process holds the lease", "name")
LEADER_SLOWPATH = _counter("leader_election_slowpath_total", "Lease renewals that had to read the lease first", "name")

# --- the cache, the loop, the recorder ------------------------------------------------------------------------------

HANDLER_ERRORS = _counter(
    "runtime_handler_errors_total", "Event handlers, predicates or mappings that raised", "controller"
)
LOOP_LAG = Histogram(
    "runtime_event_loop_lag_seconds",
    "How late the event loop ran a timer",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    registry=REGISTRY,
)
GC_PAUSE = Histogram(
    "runtime_gc_pause_seconds",
    "Stop-the-world pauses of the garbage collector",
    ("generation",),
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1),
    registry=REGISTRY,
)
EVENTS_DROPPED = _counter("runtime_events_dropped_total", "Events that were not written, by cause", "cause")
SLOW_RECONCILES = _counter(
    "runtime_slow_reconciles_total", "Reconciles that ran longer than the controller's warning limit", "controller"
)


class QueueState(Protocol):
    """What a work queue tells a scrape."""

    name: str

    def depth_by_priority(self) -> dict[int, int]:
        """Ready items per priority."""

    def running_seconds(self) -> list[float]:
        """How long each item in work has been there."""


class _QueueCollector(Collector):
    """Gauges of all live queues, computed when scraped (controller-runtime refreshes them every 0.5 s)."""

    def __init__(self) -> None:
        self._queues: weakref.WeakSet[QueueState] = weakref.WeakSet()

    def add(self, queue: QueueState) -> None:
        self._queues.add(queue)

    def describe(self) -> Iterable[Metric]:
        return self._families()

    def collect(self) -> Iterator[Metric]:
        depth, unfinished, longest = families = self._families()
        for queue in sorted(self._queues, key=lambda q: q.name):
            labels = [queue.name, queue.name]
            for priority, count in _bounded(queue.depth_by_priority()).items():
                depth.add_metric([*labels, priority], count)
            running = queue.running_seconds()
            unfinished.add_metric(labels, sum(running))
            longest.add_metric(labels, max(running, default=0.0))
        yield from families

    @staticmethod
    def _families() -> tuple[GaugeMetricFamily, GaugeMetricFamily, GaugeMetricFamily]:
        labels = ("name", "controller")
        return (
            GaugeMetricFamily("workqueue_depth", "Ready items", labels=(*labels, "priority")),
            GaugeMetricFamily(
                "workqueue_unfinished_work_seconds", "Sum of the ages of the items being processed", labels=labels
            ),
            GaugeMetricFamily(
                "workqueue_longest_running_processor_seconds", "Age of the oldest item being processed", labels=labels
            ),
        )


def _bounded(depths: dict[int, int]) -> dict[str, int]:
    """At most MAX_PRIORITIES label values, as controller-runtime: the rest share one."""
    bounded: dict[str, int] = {}
    for priority, count in sorted(depths.items(), reverse=True):
        label = str(priority) if len(bounded) < MAX_PRIORITIES else EXCEEDED
        bounded[label] = bounded.get(label, 0) + count
    return bounded or {"0": 0}


QUEUES = _QueueCollector()
REGISTRY.register(QUEUES)


@dataclass(frozen=True, slots=True)
class CacheSample:
    """One informer as a scrape sees it; counts are totals since the start."""

    resource: str
    objects: int
    bytes: int
    pending_writes: int  # own writes that the watch has not shown yet
    silent_for: float | None  # seconds since the last event or bookmark; None before the first list
    events: Mapping[str, int]  # by type, bookmarks included
    lists: Mapping[str, int]  # by cause
    watches: Mapping[str, int]  # by cause
    skipped: Mapping[str, int]  # by reason


class CacheState(Protocol):
    """What a cache tells a scrape."""

    def samples(self) -> Iterable[CacheSample]:
        """One per informer."""


class _CacheCollector(Collector):
    """Sizes, ages and histories of all live caches."""

    def __init__(self) -> None:
        self._caches: weakref.WeakSet[CacheState] = weakref.WeakSet()

    def add(self, cache: CacheState) -> None:
        self._caches.add(cache)

    def describe(self) -> Iterable[Metric]:
        return self._gauges() + self._counters()

    def collect(self) -> Iterator[Metric]:
        objects, size, pending, age = gauges = self._gauges()
        events, lists, watches, skipped = counters = self._counters()
        for sample in self._samples():
            name = [sample.resource]
            objects.add_metric(name, sample.objects)
            size.add_metric(name, sample.bytes)
            pending.add_metric(name, sample.pending_writes)
            if sample.silent_for is not None:
                age.add_metric(name, sample.silent_for)
            totals = (
                (events, sample.events),
                (lists, sample.lists),
                (watches, sample.watches),
                (skipped, sample.skipped),
            )
            for family, counts in totals:
                for label, count in sorted(counts.items()):
                    family.add_metric([*name, label], count)
        yield from gauges
        yield from counters

    def _samples(self) -> Iterable[CacheSample]:
        """One per kind: a second cache of the same kind in one process (tests) must not repeat a series."""
        by_resource = {sample.resource: sample for cache in self._caches for sample in cache.samples()}
        return [by_resource[name] for name in sorted(by_resource)]

    @staticmethod
    def _gauges() -> tuple[GaugeMetricFamily, ...]:
        label = ("resource",)
        return (
            GaugeMetricFamily("runtime_cache_objects", "Objects held", labels=label),
            GaugeMetricFamily("runtime_cache_bytes", "Bytes of the raw objects held", labels=label),
            GaugeMetricFamily("runtime_cache_pending_writes", "Own writes not yet seen by the watch", labels=label),
            GaugeMetricFamily(
                "runtime_cache_last_progress_age_seconds", "Time since the last watch event or bookmark", labels=label
            ),
        )

    @staticmethod
    def _counters() -> tuple[CounterMetricFamily, ...]:
        return (
            CounterMetricFamily(
                "runtime_cache_watch_events_total", "Watch events by type", labels=("resource", "type")
            ),
            CounterMetricFamily("runtime_cache_lists_total", "First and repeated lists", labels=("resource", "cause")),
            CounterMetricFamily("runtime_cache_watches_total", "Watch requests", labels=("resource", "cause")),
            CounterMetricFamily(
                "runtime_cache_skipped_events_total", "Watch events that changed nothing", labels=("resource", "reason")
            ),
        )


CACHES = _CacheCollector()
REGISTRY.register(CACHES)


class ControllerMetrics:
    """One controller's series, bound once and present from the start, so that `rate()` has a zero to begin with."""

    def __init__(self, controller: str) -> None:
        self.success = RECONCILE_TOTAL.labels(controller, "success")
        self.error = RECONCILE_TOTAL.labels(controller, "error")
        self.requeue_after = RECONCILE_TOTAL.labels(controller, "requeue_after")
        self.requeue = RECONCILE_TOTAL.labels(controller, "requeue")
        self.errors = RECONCILE_ERRORS.labels(controller)
        self.terminal = TERMINAL_ERRORS.labels(controller)
        self.panics = RECONCILE_PANICS.labels(controller)
        self.timeouts = RECONCILE_TIMEOUTS.labels(controller)
        self.time = RECONCILE_TIME.labels(controller)
        self.max_concurrent = MAX_CONCURRENT.labels(controller)
        self.active = ACTIVE_WORKERS.labels(controller)
        self.handler_errors = HANDLER_ERRORS.labels(controller)
        self.slow = SLOW_RECONCILES.labels(controller)


class QueueMetrics:
    """One queue's series, bound once."""

    def __init__(self, name: str) -> None:
        self.adds = QUEUE_ADDS.labels(name, name)
        self.retries = QUEUE_RETRIES.labels(name, name)
        self.queue_duration = QUEUE_DURATION.labels(name, name)
        self.work_duration = WORK_DURATION.labels(name, name)
