"""Writes events.k8s.io/v1 Events in the background.

Recording never blocks a reconcile and never fails one: an event goes into a bounded queue, and what does not fit or is
refused is counted (`runtime_events_dropped_total`). The task that writes starts with the first event, so a process that
has nothing to say costs nothing.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import structlog

from runtime.events.series import Series, SeriesAction, SeriesBook, SeriesKey, SeriesSettings
from runtime.observe.metrics import EVENTS_DROPPED
from runtime.util.rbac import PolicyRule
from runtime.util.times import micro_time
from runtime.wire.errors import ApiError, NotFoundError, ServerError, TimeoutApiError, TransportError
from runtime.wire.gvk import Key, Resource
from runtime.wire.record import Record

log = structlog.get_logger("events")

EVENT = Resource("events.k8s.io", "v1", "Event", "events")
EventType = Literal["Normal", "Warning"]

RULES = (PolicyRule.of(EVENT, "create", "patch", why="events about objects, repeated ones as a series"),)

MAX_NOTE = 1024
_MAX_WORD = 128
_TRIES = 4
_FIRST_RETRY = 0.5
_TERMINATING = "NamespaceTerminating"


class EventWriter(Protocol):
    """The part of a client that events need."""

    async def create(self, resource: Resource, body: Mapping[str, Any]) -> Record:
        """See `runtime.client`."""

    async def merge_patch(self, resource: Resource, key: Key, patch: Mapping[str, Any]) -> Record:
        """See `runtime.client`."""


@dataclass(frozen=True, slots=True)
class _Occurrence:
    key: SeriesKey
    controller: str
    regarding: dict[str, str]
    related: dict[str, str] | None
    namespace: str
    at: str


class Recorder:
    """Records events in the name of one controller."""

    def __init__(self, controller: str, broadcaster: EventBroadcaster) -> None:
        self.controller = controller
        self._broadcaster = broadcaster

    def event(
        self,
        regarding: Record,
        *,
        type: EventType,  # noqa: A002  the API's own word
        reason: str,
        action: str,
        note: str,
        related: Record | None = None,
        minor: bool = False,
    ) -> None:
        """Say something about an object.

        Args:
            regarding: What it is about. The Event is written to its namespace, for cluster-scoped objects to `default`.
            type: `Normal` or `Warning`.
            reason: CamelCase, why it was done; at most 128 characters.
            action: CamelCase, what was done; at most 128 characters.
            note: A sentence; cut at 1024 characters. Must not hold values of Secrets.
            related: A second object that it is about.
            minor: Dropped when half of the queue is taken: thousands of these leave room for what matters more.
        """
        about = _reference(regarding)
        also = None if related is None else _reference(related)
        note = note if len(note) <= MAX_NOTE else note[: MAX_NOTE - 1] + "…"
        key = SeriesKey(
            type,
            reason[:_MAX_WORD],
            action[:_MAX_WORD],
            self.controller,
            f"{about['kind']}/{about['namespace']}/{about['name']}/{about['uid']}",
            "" if also is None else also["uid"],
            note,
        )
        namespace = about["namespace"] or "default"
        self._broadcaster.put(_Occurrence(key, self.controller, about, also, namespace, micro_time()), minor=minor)


class EventBroadcaster:
    """The queue and the writing task behind all recorders of a manager.

    Args:
        client: Where Events are written.
        instance: Which process says it; the pod's name usually.
        capacity: Events that may wait; more are dropped and counted.
        settings: Limits of series and floods.
    """

    def __init__(
        self, client: EventWriter, instance: str, *, capacity: int = 4000, settings: SeriesSettings | None = None
    ) -> None:
        self._client = client
        self._instance = instance[:_MAX_WORD]
        self._book = SeriesBook(settings or SeriesSettings())
        self._queue: asyncio.Queue[_Occurrence] = asyncio.Queue(capacity)
        self._serial = itertools.count()
        self._worker: asyncio.Task[None] | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._sweeping: asyncio.Task[None] | None = None
        self._closed = False

    def recorder(self, controller: str) -> Recorder:
        """A recorder in the name of `controller`, for example `mcpgroup-controller`."""
        return Recorder(controller, self)

    def put(self, occurrence: _Occurrence, *, minor: bool = False) -> None:
        """Queue an event, or drop it: never waits."""
        if self._closed:
            EVENTS_DROPPED.labels("stopped").inc()
            return
        if minor and self._queue.qsize() * 2 >= self._queue.maxsize:
            EVENTS_DROPPED.labels("minor").inc()
            return
        try:
            self._queue.put_nowait(occurrence)
        except asyncio.QueueFull:
            EVENTS_DROPPED.labels("queue_full").inc()
            return
        if self._worker is None:
            # In a context of its own: it writes for all, not for the reconcile that spoke first.
            self._worker = asyncio.create_task(self._work(), name="event-writer", context=contextvars.Context())

    async def flush(self, timeout: float) -> None:
        """Write what waits, for at most `timeout` seconds, then stop for good."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._queue.join()
        if self._queue.qsize():
            EVENTS_DROPPED.labels("stopped").inc(self._queue.qsize())
        for task in (self._worker, self._sweeping):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    async def _work(self) -> None:
        while True:
            occurrence = await self._queue.get()
            try:
                await self._write(occurrence)
            except (ApiError, TransportError) as error:
                self._book.forget(occurrence.key)
                if isinstance(error, ApiError) and error.has_cause(_TERMINATING):
                    EVENTS_DROPPED.labels("terminating").inc()
                    log.debug("event not written: its namespace is being deleted", **_names(occurrence))
                else:
                    EVENTS_DROPPED.labels("refused").inc()
                    log.warning("event not written", **_names(occurrence), error=str(error))
            except Exception:
                # A bug here must not silence all later events.
                self._book.forget(occurrence.key)
                EVENTS_DROPPED.labels("bug").inc()
                log.exception("event not written", **_names(occurrence))
            finally:
                self._queue.task_done()

    async def _write(self, occurrence: _Occurrence) -> None:
        now = asyncio.get_running_loop().time()
        name = f"{occurrence.regarding['name'][:200]}.{time.time_ns():x}{next(self._serial):x}"
        write, series = self._book.occurred(occurrence.key, occurrence.namespace, name, now)
        match write:
            case SeriesAction.DROP:
                EVENTS_DROPPED.labels("rate_limit").inc()
            case SeriesAction.CREATE:
                assert series is not None
                await self._send(lambda: self._client.create(EVENT, self._body(occurrence, name)))
                self._schedule_sweep()
            case SeriesAction.PATCH:
                assert series is not None
                try:
                    await self._patch(series, occurrence.at)
                except NotFoundError:  # expired (one hour by default): say it anew
                    self._book.forget(occurrence.key)
                    await self._write(occurrence)

    async def _patch(self, series: Series, at: str) -> None:
        count = series.count
        patch = {"series": {"count": count, "lastObservedTime": at}}
        key = Key(series.namespace, series.name)
        await self._send(lambda: self._client.merge_patch(EVENT, key, patch))
        series.written, series.written_at = count, asyncio.get_running_loop().time()

    async def _send(self, request: Any) -> None:
        """Try a few times where that can help; the transport already repeated what the server asked to repeat."""
        for attempt in range(1, _TRIES + 1):
            try:
                await request()
            except (TransportError, ServerError, TimeoutApiError):
                if attempt == _TRIES or self._closed:
                    raise
                await asyncio.sleep(_FIRST_RETRY * 4 ** (attempt - 1))
            else:
                return

    def _body(self, occurrence: _Occurrence, name: str) -> dict[str, Any]:
        key = occurrence.key
        body: dict[str, Any] = {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.kind,
            "metadata": {"name": name, "namespace": occurrence.namespace},
            "eventTime": occurrence.at,
            "reportingController": occurrence.controller,
            "reportingInstance": self._instance,
            "type": key.type,
            "reason": key.reason,
            "action": key.action,
            "regarding": occurrence.regarding,
            "note": key.note,
        }
        if occurrence.related is not None:
            body["related"] = occurrence.related
        return body

    # --- series that ended -----------------------------------------------------------------------------------------

    def _schedule_sweep(self) -> None:
        if self._sweeper is None and not self._closed:
            idle = self._book.settings.idle
            self._sweeper = asyncio.get_running_loop().call_later(idle, self._start_sweep)

    def _start_sweep(self) -> None:
        self._sweeper = None
        self._sweeping = asyncio.create_task(self._sweep(), name="event-series")

    async def _sweep(self) -> None:
        for key, series in self._book.close_idle(asyncio.get_running_loop().time()):
            try:
                await self._patch(series, micro_time())
            except (ApiError, TransportError) as error:
                log.debug(
                    "last count of an event series not written",
                    reason=key.reason,
                    namespace=series.namespace,
                    name=series.name,
                    error=str(error),
                )
        if len(self._book):
            self._schedule_sweep()


def _names(occurrence: _Occurrence) -> dict[str, str]:
    """Return what a log line says of an event: whom it is about, and why."""
    about = occurrence.regarding
    return {
        "controller": occurrence.controller,
        "kind": about["kind"],
        "namespace": about["namespace"],
        "name": about["name"],
        "reason": occurrence.key.reason,
    }


def _reference(record: Record) -> dict[str, str]:
    return {
        "apiVersion": record.resource.api_version,
        "kind": record.resource.kind,
        "namespace": record.meta.namespace,
        "name": record.meta.name,
        "uid": record.meta.uid,
        "resourceVersion": record.meta.resource_version,
    }
