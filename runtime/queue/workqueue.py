"""A priority work queue with controller-runtime's guarantees.

A key is in at most one of four places: *waiting* (has a due time), *ready*, *in work*, or in work and *dirty* (it was
added again meanwhile, and becomes ready when the worker is done). Hence one key is never worked twice at once, a
change during work is never lost, and any number of adds before a worker comes is one reconcile.

Re-adding keeps the better of both: the higher priority and the earlier due time; only a *held* item keeps its due time
whatever is added, unless it is urgent. All calls are made from one event
loop; there are no locks. Time is the loop's clock, so a loop with virtual time makes every test exact.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, NamedTuple, TypeVar

from runtime.observe.metrics import QUEUES, QueueMetrics
from runtime.queue.ratelimit import ItemBackoff
from runtime.queue.ready import Ageing, ReadyClasses

T = TypeVar("T", bound=Hashable)

LOW_PRIORITY = -100
"""Initial lists and resyncs: work that nobody waits for (controller-runtime's LowPriority)."""
NORMAL_PRIORITY = 0


class QueueShutDown(Exception):  # noqa: N818  says what happened, as asyncio.QueueShutDown
    """Raised by `get` when the queue is shut down and empty."""


class Claim(NamedTuple, Generic[T]):
    """An item handed to a worker, who owes a `done`."""

    item: T
    priority: int


class _Entry:
    """Where an item that somebody asked for is. In work without a new request = no entry."""

    __slots__ = ("due", "held", "parked", "priority")

    def __init__(self, priority: int) -> None:
        self.priority = priority
        self.due: float | None = None  # set while waiting
        self.held = False  # while waiting: until then, whoever asks
        self.parked = False  # set while dirty: ready as soon as the worker is done


class WorkQueue(Generic[T]):
    """The queue of one controller.

    Args:
        name: Name in the metrics: the controller's.
        backoff: Delays of `add_rate_limited`; default 5 ms doubling to 1000 s per item.
        ageing: How low priorities are kept from starving.
    """

    def __init__(self, name: str, *, backoff: ItemBackoff[T] | None = None, ageing: Ageing | None = None) -> None:
        self.name = name
        self._backoff = backoff or ItemBackoff()
        self._entries: dict[T, _Entry] = {}
        self._ready: ReadyClasses[T] = ReadyClasses(ageing or Ageing())
        self._waiting: list[tuple[float, int, T]] = []  # heap; stale tuples are skipped when due
        self._serial = 0
        self._timer: asyncio.TimerHandle | None = None
        self._work: dict[T, float] = {}  # item in work -> since when
        self._getters: deque[asyncio.Future[None]] = deque()
        self._idle: list[asyncio.Future[None]] = []
        self._closed = False
        self._clock: Callable[[], float] = time.monotonic  # the loop's, once something is in work
        self._metrics = QueueMetrics(name)
        QUEUES.add(self)

    def __len__(self) -> int:
        """Items that a worker could take now."""
        return len(self._ready)

    @property
    def closed(self) -> bool:
        """Whether `shut_down` was called."""
        return self._closed

    def add(
        self,
        item: T,
        *,
        priority: int = NORMAL_PRIORITY,
        after: float = 0.0,
        hold: bool = False,
        urgent: bool = False,
    ) -> None:
        """Ask for work on `item`, `after` seconds from now (0 or less: at once). Ignored after `shut_down`.

        Args:
            item: What to work on.
            priority: Its class.
            after: Seconds.
            hold: Not earlier, whoever else asks for it. Void when somebody asked for it while it was in work.
            urgent: Also when it is held.
        """
        if self._closed:
            return
        entry = self._entries.get(item)
        if entry is not None and entry.held and not urgent:
            entry.priority = max(entry.priority, priority)
            return
        known = entry is not None
        if entry is None:
            entry = self._entries[item] = _Entry(priority)
        if after > 0:
            self._metrics.retries.inc()
            if not known or entry.due is not None:
                self._wait(item, entry, asyncio.get_running_loop().time() + after)
                entry.held = hold and not known
        elif not known or entry.due is not None:
            entry.due, entry.held = None, False
            self._admit(item, entry, max(priority, entry.priority))
        if priority > entry.priority:
            self._raise_priority(item, entry, priority)

    def add_rate_limited(self, item: T, *, priority: int = NORMAL_PRIORITY, at_least: float = 0.0) -> float:
        """Ask for work after the item's back-off, which grows with every call until `forget`. Returns the delay.

        Args:
            item: What failed.
            priority: Of the retry.
            at_least: Seconds that somebody else asks to wait, such as a server's Retry-After.
        """
        delay = max(at_least, self._backoff.next_delay(item))
        self.add(item, priority=priority, after=delay)
        return delay

    def forget(self, item: T) -> None:
        """Start the item's back-off from the beginning: it succeeded."""
        self._backoff.forget(item)

    def failures(self, item: T) -> int:
        """Rate-limited adds of `item` since the last `forget`."""
        return self._backoff.failures(item)

    async def get(self) -> Claim[T]:
        """Wait for the next item and take it. Raises QueueShutDown when the queue is shut down and drained."""
        while not self._ready:
            if self._closed:
                raise QueueShutDown(self.name)
            getter = asyncio.get_running_loop().create_future()
            self._getters.append(getter)
            try:
                await getter
            except BaseException:
                getter.cancel()
                if getter in self._getters:
                    self._getters.remove(getter)
                elif self._ready:
                    self._wake()  # our wake-up was meant for an item: pass it on
                raise
        return self._take()

    def done(self, item: T) -> None:
        """The worker is finished with `item`; if it was added meanwhile, it is ready again.

        Raises:
            ValueError: No worker has this item.
        """
        started = self._work.pop(item, None)
        if started is None:
            raise ValueError(f"queue {self.name}: done({item!r}) without get")
        self._metrics.work_duration.observe(asyncio.get_running_loop().time() - started)
        entry = self._entries.get(item)
        if entry is not None and entry.parked:
            self._admit(item, entry, entry.priority)
        if self._is_idle():
            self._release_idle()

    def shut_down(self, *, discard: bool = False) -> None:
        """Refuse new items and forget the waiting ones; getters drain what is ready, then see QueueShutDown.

        Args:
            discard: Also drop what is ready: a restart lists everything again anyway, so a controller that stops
                only has to finish what is in work.
        """
        self._closed = True
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        dropped = [i for i, e in self._entries.items() if e.due is not None or (discard and not e.parked)]
        if discard:
            self._ready.clear()
            dropped = list(self._entries)
        for item in dropped:
            del self._entries[item]
        while self._getters:
            self._wake()
        if self._is_idle():
            self._release_idle()

    async def drained(self) -> None:
        """Wait until nothing is ready, dirty or in work."""
        if not self._is_idle():
            waiter = asyncio.get_running_loop().create_future()
            self._idle.append(waiter)
            await waiter

    def depth_by_priority(self) -> dict[int, int]:
        """Ready items per priority; waiting ones are not counted."""
        return self._ready.depths()

    def running_seconds(self) -> list[float]:
        """Ages of the items in work, in seconds."""
        now = self._clock()
        return [now - since for since in self._work.values()]

    # --- transitions -----------------------------------------------------------------------------------------------

    def _admit(self, item: T, entry: _Entry, priority: int) -> None:
        """Waiting, new or dirty -> ready; or dirty while the item is in work."""
        entry.priority = priority
        entry.parked = item in self._work
        if entry.parked:
            return
        self._metrics.adds.inc()
        self._ready.push(item, priority, asyncio.get_running_loop().time())
        self._wake()

    def _raise_priority(self, item: T, entry: _Entry, priority: int) -> None:
        if entry.due is None and not entry.parked:
            self._ready.move(item, entry.priority, priority)
        entry.priority = priority

    def _wait(self, item: T, entry: _Entry, due: float) -> None:
        if entry.due is not None and entry.due <= due:
            return
        entry.due = due
        self._serial += 1
        heapq.heappush(self._waiting, (due, self._serial, item))
        if self._waiting[0][1] == self._serial:
            self._arm(due)

    def _arm(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(due, self._on_due)

    def _on_due(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        while self._waiting:
            due, _, item = self._waiting[0]
            entry = self._entries.get(item)
            if entry is None or entry.due != due:
                heapq.heappop(self._waiting)  # added with an earlier time, or taken, meanwhile
                continue
            if due > now:
                self._arm(due)
                return
            heapq.heappop(self._waiting)
            entry.due, entry.held = None, False
            self._admit(item, entry, entry.priority)

    def _take(self) -> Claim[T]:
        self._clock = asyncio.get_running_loop().time
        now = self._clock()
        item, priority, since = self._ready.pop(now)
        del self._entries[item]
        self._work[item] = now
        self._metrics.queue_duration.observe(now - since)
        return Claim(item, priority)

    def _wake(self) -> None:
        while self._getters:
            getter = self._getters.popleft()
            if not getter.done():
                getter.set_result(None)
                return

    def _is_idle(self) -> bool:
        return not self._work and not self._ready

    def _release_idle(self) -> None:
        for waiter in self._idle:
            if not waiter.done():
                waiter.set_result(None)
        self._idle.clear()
