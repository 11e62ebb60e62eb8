"""When a gateway is decided about while its group changes.

A decision looks at every member, and publishing one costs a write of everything and a report. A group that fills up
with thousands must not be decided about for each of them, and one new member not twice: before its verdict and after.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from runtime import Key, Result

SHARE = 4.0
"""A gateway rests this many times as long as its last decision computed, so that decisions about it take at most a
fifth of the process."""
LONGEST_REST = 1.0
"""Seconds of rest after a decision at most."""
PATIENCE = 2.0
"""Seconds that a group that fills up may keep a gateway waiting, and that one that was never written waits for members
without a verdict. Whoever applies everything at once would otherwise get pods for the members judged so far, and again
for all."""
MOMENT = 0.1
"""Seconds that a gateway waits for the verdicts of a few members: they take some milliseconds."""
MANY = 8
"""Members without a verdict from which on a group is filling up: their verdicts do not wake the gateway one by one."""
LOOK = 0.1
"""Seconds between two looks at a group that fills up: at the number of members without a verdict, not at them."""


class DecisionPace:
    """Remembers for each gateway when it was decided about and since when it waits.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._rest: dict[Key, float] = {}
        self._waiting: dict[Key, float] = {}

    def rest(self, key: Key) -> Result | None:
        """Return when to come again after the last decision; None: now."""
        left = self._rest.get(key, 0.0) - self._clock()
        return Result(requeue_after=left, hold=True) if left > 0 else None

    def wait(self, key: Key, *, written: bool, awaiting: int) -> Result | None:
        """Return when to look again because verdicts are to come; None: decide now.

        Args:
            key: the gateway.
            written: whether it has a configuration already.
            awaiting: members that were never judged, or not since they were changed.
        """
        if not awaiting:
            self._waiting.pop(key, None)
            return None
        now = self._clock()
        limit = PATIENCE if awaiting >= MANY or not written else MOMENT
        left = self._waiting.setdefault(key, now) + limit - now
        if left <= 0:
            return None
        # Of a few members, the verdict itself ends the wait.
        return Result(requeue_after=min(left, LOOK), hold=True) if awaiting >= MANY else Result(requeue_after=left)

    def decided(self, key: Key, took: float) -> None:
        """Note that a decision was made and written, which took so many seconds to compute."""
        self._waiting.pop(key, None)
        self._rest[key] = self._clock() + min(took * SHARE, LONGEST_REST)

    def forget(self, key: Key) -> None:
        """The gateway is gone."""
        self._rest.pop(key, None)
        self._waiting.pop(key, None)
