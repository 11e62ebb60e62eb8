"""The cache as a runnable, and as a source of metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from runtime.cache import Cache, InformerStats
from runtime.observe.metrics import CacheSample


class CacheNotSyncedError(Exception):
    """The first lists did not arrive in time; the message says of which kinds and why."""


class CacheRunnable:
    """Runs all informers; ready when each has its first list."""

    name = "cache"

    def __init__(self, cache: Cache, sync_timeout: float) -> None:
        self._cache = cache
        self._sync_timeout = sync_timeout

    async def run(self, started: Callable[[], None], stop: asyncio.Event) -> None:
        """Follow the server until `stop`.

        Raises:
            CacheNotSyncedError: A kind is missing, may not be listed, or the server does not answer.
        """
        running = asyncio.create_task(self._cache.run(), name="cache")
        synced = asyncio.create_task(self._cache.wait_synced())
        stopping = asyncio.create_task(stop.wait())
        try:
            first: set[asyncio.Task[Any]] = {running, synced, stopping}
            await asyncio.wait(first, timeout=self._sync_timeout, return_when=asyncio.FIRST_COMPLETED)
            if synced.done():
                started()
                await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()
            elif not stop.is_set():
                raise CacheNotSyncedError("; ".join(self._cache.problems()) or "the first lists did not arrive in time")
        finally:
            for task in (running, synced, stopping):
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task


class CacheSamples:
    """What a scrape sees of a cache."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def samples(self) -> Iterable[CacheSample]:
        """One per informer."""
        return [_sample(stats) for stats in self._cache.stats()]


def _sample(stats: InformerStats) -> CacheSample:
    return CacheSample(
        resource=str(stats.resource),
        objects=stats.objects,
        bytes=stats.bytes,
        pending_writes=stats.pending_writes,
        silent_for=stats.silent_for,
        events=stats.events,
        lists=stats.lists,
        watches=stats.watches,
        skipped=stats.skipped,
    )
