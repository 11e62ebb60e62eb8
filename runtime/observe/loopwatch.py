"""Watches the event loop: the one worker that everything shares.

A callback that computes for a second stops every reconcile, watch and probe for that second; Go has no such failure,
and nothing but a look at the clock shows it. The same goes for the garbage collector's pauses.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import structlog

from runtime.observe.metrics import GC_PAUSE, LOOP_LAG

log = structlog.get_logger("loop")


class LoopWatch:
    """Measures how late the loop runs its timers, and how long collections stop it.

    Args:
        interval: Seconds between two looks.
        warn_after: Seconds of lag that are worth a log line.
        red_after: Seconds of lag, seen at least twice within `window`, that fail the health check: a single long
            callback passes, a loop that is overloaded does not.
        window: Seconds that the health check looks back.
    """

    name = "loop-watch"

    def __init__(
        self, *, interval: float = 0.5, warn_after: float = 0.1, red_after: float = 1.0, window: float = 15.0
    ) -> None:
        self._interval = interval
        self._warn_after = warn_after
        self._red_after = red_after
        self._window = window
        self._late: deque[float] = deque(maxlen=64)  # when the lag was beyond red_after

    async def run(self, started: Callable[[], None], stop: asyncio.Event) -> None:
        """Watch until `stop`."""
        pauses = _GcPauses()
        gc.callbacks.append(pauses)
        try:
            started()
            await self._watch(stop)
        finally:
            gc.callbacks.remove(pauses)

    def check(self) -> str | None:
        """A health check: red while the loop is late again and again."""
        since = asyncio.get_running_loop().time() - self._window
        late = sum(moment > since for moment in self._late)
        if late >= 2:
            return f"the event loop was over {self._red_after:g} s late {late} times within {self._window:g} s"
        return None

    async def _watch(self, stop: asyncio.Event) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            due = clock() + self._interval
            with suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await stop.wait()
                    return
            lag = max(0.0, clock() - due)
            LOOP_LAG.observe(lag)
            if lag > self._red_after:
                self._late.append(clock())
            if lag > self._warn_after:
                log.warning("the event loop was blocked", seconds=round(lag, 3))


class _GcPauses:
    """A gc callback that times collections."""

    def __init__(self) -> None:
        self._started = 0.0
        self._series = [GC_PAUSE.labels(str(generation)) for generation in range(3)]

    def __call__(self, phase: str, info: Mapping[str, Any]) -> None:
        if phase == "start":
            self._started = time.perf_counter()
        elif self._started:
            self._series[info["generation"]].observe(time.perf_counter() - self._started)
