"""A controller: sources fill a queue, workers empty it through a reconciler.

The life of a controller: subscribe to every source, wait until each has delivered its initial list, start the
workers. When it is told to stop: take no new item, let the running reconciles finish, end. What was still queued is not
lost: the next start lists everything again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import structlog

from runtime.control.handlers import Handler, enqueue_object
from runtime.control.outcome import Outcome, run_reconcile
from runtime.control.predicates import Event, Predicate, always, is_behind
from runtime.control.reconcile import Reconciler
from runtime.control.scope import ReconcileScope, current_scope
from runtime.control.source import Listener, Source, Subscription
from runtime.observe.metrics import ControllerMetrics
from runtime.queue.ratelimit import ItemBackoff
from runtime.queue.ready import Ageing
from runtime.queue.workqueue import LOW_PRIORITY, NORMAL_PRIORITY, Claim, QueueShutDown, WorkQueue
from runtime.wire.gvk import Key, Resource

log = structlog.get_logger("controller")

UNREADABLE_RETRY = 10.0
"""Seconds after which a request in a namespace that cannot be read is looked at again."""


@dataclass(frozen=True, slots=True)
class ControllerOptions:
    """How a controller works.

    Attributes:
        concurrency: Reconciles at once. More than 1 by default, because reconciles wait for the network most of the
            time; one key is never worked twice at once whatever the number.
        reconcile_timeout: Seconds after which a reconcile is cancelled and retried; None for no limit. Default 120.
        sync_timeout: Seconds for all sources to deliver their initial lists; then the start fails. Default 120.
        slow_after: Seconds after which a running reconcile is reported with its stack. Default 30.
        conflict_retries: Conflicts in a row that are repeated silently before they count as errors: one is the normal
            result of a race, many are a fight.
        conflict_cap: Longest delay after a conflict, in seconds; it starts at `backoff_base` and doubles. Conflicts say
            nothing about whether the next try succeeds, so they neither use nor grow the back-off of failures: an
            object that many write would be left alone for a quarter of an hour otherwise.
        backoff_base: First delay after a failure, in seconds; doubles up to `backoff_cap`.
        backoff_cap: Longest delay after failures, in seconds.
        ageing: How low priorities are kept from starving.
    """

    concurrency: int = 8
    reconcile_timeout: float | None = 120.0
    sync_timeout: float = 120.0
    slow_after: float = 30.0
    conflict_retries: int = 5
    conflict_cap: float = 1.0
    backoff_base: float = 0.005
    backoff_cap: float = 1000.0
    ageing: Ageing = field(default_factory=Ageing)

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise ValueError(f"a controller needs at least 1 worker, got {self.concurrency}")


@dataclass(frozen=True, slots=True)
class Watch:
    """One edge: events of `source` that pass `predicate` wake the requests that `handler` names."""

    source: Source
    handler: Handler
    predicate: Predicate = always


class SourceNotSyncedError(Exception):
    """A source did not deliver its initial list in time: the kind is missing, or may not be listed."""


class Controller:
    """Runs one reconciler. Made by the builder; started by the manager once per process life."""

    def __init__(
        self, name: str, kind: Resource | None, reconciler: Reconciler, watches: list[Watch], options: ControllerOptions
    ) -> None:
        self.name = name
        self.kind = kind
        self.options = options
        self.queue: WorkQueue[Key] = WorkQueue(
            name, backoff=ItemBackoff(options.backoff_base, options.backoff_cap), ageing=options.ageing
        )
        self._conflicts: ItemBackoff[Key] = ItemBackoff(
            min(options.backoff_base, options.conflict_cap), options.conflict_cap
        )
        self.serves: Callable[[str], bool] = lambda _: True
        """Whether everything of a namespace can be read; while it cannot, requests in it wait. Set by the manager."""
        self._reconciler = reconciler
        self._watches = watches
        self._subscriptions: list[Subscription] = []
        self._metrics = ControllerMetrics(name)
        self._metrics.max_concurrent.set(options.concurrency)
        self._running: dict[Key, tuple[float, asyncio.Task[None]]] = {}
        self._reported: set[Key] = set()

    async def run(self, started: Callable[[], None], stop: asyncio.Event) -> None:
        """Work until `stop` is set, then drain.

        Args:
            started: Called once the workers run.
            stop: Set by the manager when the process shuts down.

        Raises:
            SourceNotSyncedError: An initial list did not arrive within `sync_timeout`.
        """
        try:
            await self._subscribe(stop)
            workers = [
                asyncio.create_task(self._work(), name=f"{self.name}-worker-{i}")
                for i in range(self.options.concurrency)
            ]
            watchdog = asyncio.create_task(self._watch_slow(), name=f"{self.name}-watchdog")
            try:
                started()
                log.info("controller started", controller=self.name, workers=len(workers))
                await stop.wait()
                self.queue.shut_down(discard=True)
                await asyncio.gather(*workers)
            finally:
                watchdog.cancel()
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, watchdog, return_exceptions=True)
        finally:
            for subscription in self._subscriptions:
                subscription.close()
            self.queue.shut_down(discard=True)
        log.info("controller stopped", controller=self.name)

    # --- sources ---------------------------------------------------------------------------------------------------

    async def _subscribe(self, stop: asyncio.Event) -> None:
        """Register with all sources and wait for their initial lists together; a stop ends the wait."""
        self._subscriptions = [watch.source.subscribe(self._listener(watch)) for watch in self._watches]
        syncs = {
            asyncio.create_task(subscription.synced()): watch.source.name
            for watch, subscription in zip(self._watches, self._subscriptions, strict=True)
        }
        everything = asyncio.gather(*syncs)
        stopping = asyncio.create_task(stop.wait())
        try:
            first: set[asyncio.Future[Any]] = {everything, stopping}
            await asyncio.wait(first, timeout=self.options.sync_timeout, return_when=asyncio.FIRST_COMPLETED)
            if everything.done():
                everything.result()
            elif not stop.is_set():
                late = sorted({name for task, name in syncs.items() if not task.done()})
                raise SourceNotSyncedError(
                    f"controller {self.name}: no initial list of {', '.join(late)} "
                    f"within {self.options.sync_timeout:g} s; is the CRD installed, may the operator list it?"
                )
        finally:
            stopping.cancel()
            everything.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await everything

    def _listener(self, watch: Watch) -> Listener:
        own = watch.handler is enqueue_object

        def deliver(event: Event) -> None:
            # A bug in a predicate or mapping costs its own events, not the informer that calls it.
            try:
                if not watch.predicate(event):
                    return
                quiet = event.resync or (event.initial and not (own and is_behind(event.record)))
                priority = LOW_PRIORITY if quiet else NORMAL_PRIORITY
                for request in watch.handler(event):
                    self.queue.add(request, priority=priority, urgent=own)
            except Exception:
                self._metrics.handler_errors.inc()
                log.exception(
                    "event handler failed", controller=self.name, source=watch.source.name, object=str(event.record.key)
                )

        return deliver

    # --- workers ---------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        while True:
            try:
                claim = await self.queue.get()
            except QueueShutDown:
                return
            task = asyncio.current_task()
            assert task is not None
            self._running[claim.item] = (asyncio.get_running_loop().time(), task)
            self._metrics.active.inc()
            try:
                await self._reconcile(claim)
            finally:
                self._metrics.active.dec()
                del self._running[claim.item]
                self._reported.discard(claim.item)
                self.queue.done(claim.item)

    async def _reconcile(self, claim: Claim[Key]) -> None:
        if not self.serves(claim.item.namespace):
            self.queue.add(claim.item, priority=LOW_PRIORITY, after=UNREADABLE_RETRY)
            return
        current_scope.set(ReconcileScope(self.name, self.kind, claim.item))
        outcome = await run_reconcile(
            self._reconciler,
            claim.item,
            timeout=self.options.reconcile_timeout,
            metrics=self._metrics,
            quiet_conflict=self._conflicts.failures(claim.item) < self.options.conflict_retries,
        )
        self._requeue(claim, outcome)
        current_scope.set(None)

    def _requeue(self, claim: Claim[Key], outcome: Outcome) -> None:
        priority = claim.priority if outcome.priority is None else outcome.priority
        if outcome.conflict:
            delay = max(outcome.after or 0.0, self._conflicts.next_delay(claim.item))
            self.queue.add(claim.item, priority=priority, after=delay)
            log.debug("reconcile will be repeated after a conflict", after=round(delay, 3))
            return
        self._conflicts.forget(claim.item)
        if outcome.retry:
            delay = self.queue.add_rate_limited(claim.item, priority=priority, at_least=outcome.after or 0.0)
            log.debug("reconcile will be repeated", after=round(delay, 3))
            return
        self.queue.forget(claim.item)
        if outcome.after is not None:
            self.queue.add(claim.item, priority=priority, after=outcome.after, hold=outcome.hold)

    async def _watch_slow(self) -> None:
        """Report reconciles that run too long, once each, with the place where they hang."""
        limit = self.options.slow_after
        while True:
            await asyncio.sleep(limit / 2)
            now = asyncio.get_running_loop().time()
            for request, (since, task) in list(self._running.items()):
                if now - since < limit or request in self._reported:
                    continue
                self._reported.add(request)
                self._metrics.slow.inc()
                log.warning(
                    "reconcile is slow",
                    controller=self.name,
                    object=str(request),
                    seconds=round(now - since, 1),
                    stack=await_chain(task),
                )


def await_chain(task: asyncio.Task[None]) -> list[str]:
    """Where a suspended task hangs: `file:line function` from the outermost coroutine inwards.

    `Task.get_stack` shows only the outermost frame of a suspended task, which is always the worker's loop.
    """
    chain: list[str] = []
    awaited: Any = task.get_coro()
    while awaited is not None and len(chain) < 30:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is not None:
            chain.append(f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}")
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
    return chain
