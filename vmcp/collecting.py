"""When Python looks for garbage: often and little while somebody is served, everything only in a quiet moment.

A collection looks at every object of a generation in one go, and nobody is served meanwhile. With Python's defaults,
and with any thresholds that only count, what one client makes the gateway keep decides how long that is: 2,000 open
streams are 200,000 objects, and a look at them takes a tenth of a second. So the two young generations are kept small,
and the old one is looked at where nobody waits, or when it has not been for long.

What a request leaves behind is freed when the last reference goes; the collector is for the few cycles.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from typing import Final

from vmcp.allocator import give_back

YOUNG: Final = 10_000
"""Objects after which the youngest generation is looked at, which takes 1 to 3 ms. 256 calls under way at once hold
some thousands, so that with 2,000 every wave of calls was looked at several times: a tenth of the time."""
MIDDLE: Final = 0
"""0 = every second look is at the middle generation, too, which holds what survived the look before. At every third one
it held twice as much where 2,000 calls wait."""
NEVER: Final = 1_000_000_000
LOOK: Final = 1.0
"""Seconds between two looks whether it is quiet."""
QUIET: Final = 0.05
"""Part of the time that a process works at most that serves few: it gives free memory back, which takes a moment."""
IDLE: Final = 0.005
"""The same of one that serves nobody: whoever calls once in a while should not wait for a look at everything."""
LATE: Final = 0.05
"""Seconds by which a look comes too late where others have the core: then to have worked little says nothing."""
WORK: Final = 0.5
"""Seconds of work after which there may be free memory to give back."""
MANY: Final = 100
"""Looks at the middle generation after which the old one may hold so much that it does not wait for quiet any more."""
OFTEN: Final = 30.0
"""Seconds between two such looks without quiet."""


class Collector:
    """Decides when everything is looked at."""

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, work: Callable[[], float] = time.process_time
    ) -> None:
        """Take clocks for the time, and for the seconds that this process has worked."""
        self._clock = clock
        self._work = work
        self._looked, self._worked = clock(), work()
        self._collected = self._looked
        self._trimmed = self._worked

    def begin(self) -> None:
        """Leave what is there now alone from now on, which lives until the end, and keep the young generations small.

        A call leaves next to nothing that only a collection frees, and a look every 700 objects took 2 to 3 %.
        """
        gc.collect()
        gc.freeze()
        gc.set_threshold(YOUNG, MIDDLE, NEVER)

    def look(self) -> bool:
        """Look at everything if nobody is served, or if that is overdue; return whether it was done.

        In quiet moments free memory goes back to the system: large messages leave some, and nothing to collect.
        """
        now, worked = self._clock(), self._work()
        passed, did = now - self._looked, worked - self._worked
        in_time = passed < LOOK + LATE
        quiet, idle = in_time and did < QUIET * passed, in_time and did < IDLE * passed
        self._looked, self._worked = now, worked
        if quiet and worked - self._trimmed >= WORK:
            give_back()
            self._trimmed = worked
        since = gc.get_count()[2]
        if not since or not (idle or (since >= MANY and now - self._collected >= OFTEN)):
            return False
        gc.collect()
        self._collected, self._worked = now, self._work()
        return True

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(LOOK)
            self.look()
