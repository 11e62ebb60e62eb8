"""An event loop's clock that skips what nobody works in: for tests over real sockets, where virtual time cannot run.

In virtual time (`virtual_time.py`) the clock jumps as soon as no task can run, but then an answer may be on its way.
Here the loop first waits for sockets, a few real milliseconds; when nothing comes, both ends (which live in this loop)
wait for a timer, and the clock jumps to it. A back-off of a minute takes milliseconds, and how long it was is known.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

IDLE = 0.025
"""Real seconds without any event of a socket that count as idleness: `eventually` looks twice in this time."""
SHORT = 0.05
"""Timers up to so many seconds ahead, such as those of `eventually`, are waited for, not jumped to."""
HOUR = 3600.0
"""For `eventually(within=...)`, whose deadline counts the loop's seconds."""


class HurriedTime:
    """The clock of the running loop, from now on.

    Attributes:
        waits: Seconds from the last event of a socket to the timer, of each jump.
    """

    def __init__(self, *, jumps: bool = True) -> None:
        """Take over the clock; without `jumps` only `advance` moves it."""
        loop: Any = asyncio.get_running_loop()
        self.waits: list[float] = []
        self._loop = loop
        self._ahead = 0.0
        self._idle_since = self.time()
        self._select = loop._selector.select  # noqa: SLF001  asyncio has no public way to ask a loop what it waits for
        loop.time = self.time
        if jumps:
            loop._selector.select = self._wait  # noqa: SLF001  asyncio has no public way to ask a loop what it waits for

    def time(self) -> float:
        """Return the loop's seconds."""
        return time.monotonic() + self._ahead

    def advance(self, seconds: float) -> None:
        """Let time pass; timers that became due meanwhile run next."""
        self._ahead += seconds

    def _wait(self, timeout: float | None = None) -> Any:
        if timeout is not None and timeout <= 0:
            return self._select(0)
        events = self._select(IDLE if timeout is None else min(IDLE, timeout))
        now = self.time()
        if events:
            self._idle_since = now
        elif now - self._idle_since >= IDLE:
            timers = (timer.when() for timer in self._loop._scheduled if not timer.cancelled())  # noqa: SLF001  asyncio has no public way to ask a loop what it waits for
            if (due := min((when for when in timers if when > now + SHORT), default=None)) is not None:
                self.waits.append(due - self._idle_since)
                self._ahead += due - now
                self._idle_since = due
        return events
