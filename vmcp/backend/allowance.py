"""What one backend may make the gateway do unasked: read its notifications and questions, split its line ends.

All streams of a backend draw on one bucket. When it is empty their readers wait, the sockets fill up, and TCP tells
the backend to slow down: its flood costs its own callers, and a bounded share of the core that everybody shares.
Answers to calls cost nothing here; their number is the callers' doing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import structlog

log = structlog.get_logger(__name__)

MESSAGES_PER_SECOND: Final = 2000.0
"""Sustained, per backend. One message costs the core a few dozen microseconds, so this is a few percent of it."""
BURST: Final = 4000.0
"""Messages that may come at once after a quiet time."""
LINE: Final = 1 / 50
"""What a line of an event stream costs, in messages: lines are cheap, and a long answer may have many."""
TELL_EVERY: Final = 60.0
"""Seconds between two log lines about one backend."""


class Allowance:
    """A token bucket for one backend."""

    def __init__(self, backend: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the backend's name, for the log, and a steady clock in seconds."""
        self._backend = backend
        self._clock = clock
        self._left = BURST
        self._at = clock()
        self._told_at: float | None = None

    def spend(self, messages: float) -> float:
        """Take the cost of so many messages; return the seconds to wait before reading on, usually 0."""
        now = self._clock()
        self._left = min(BURST, self._left + (now - self._at) * MESSAGES_PER_SECOND) - messages
        self._at = now
        if self._left >= 0:
            return 0.0
        if self._told_at is None or now - self._told_at >= TELL_EVERY:
            self._told_at = now
            log.warning(
                "a backend sends too much on its streams and is read more slowly",
                backend=self._backend,
                messages_per_second=MESSAGES_PER_SECOND,
            )
        return -self._left / MESSAGES_PER_SECOND
