"""Warnings about what may happen thousands of times in a second: written once, then counted."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

EVERY: Final = 60.0
"""Seconds between two lines that say the same."""
MAX_KINDS: Final = 64
"""Different lines that are told apart; what comes beyond that is left out until one of them is due again."""


class SeldomLog:
    """A logger's warnings, each at once when it is new and at most every `EVERY` seconds after that.

    The next line of its kind has a field `repeated`: how often it was left out in between.
    """

    def __init__(self, log: Any, *, every: float = EVERY, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the logger.

        Args:
            log: A structlog logger.
            every: Seconds between two lines that say the same.
            clock: Monotonic seconds.
        """
        self._log = log
        self._every = every
        self._clock = clock
        self._said: dict[tuple[str, tuple[tuple[str, str], ...]], tuple[float, int]] = {}

    def warning(self, event: str, **details: str) -> None:
        """Write a warning, or count it."""
        now = self._clock()
        key = (event, tuple(sorted(details.items())))
        said = self._said.get(key)
        if said is not None and now - said[0] < self._every:
            self._said[key] = (said[0], said[1] + 1)
            return
        if said is None and len(self._said) >= MAX_KINDS:
            self._said = {kind: last for kind, last in self._said.items() if now - last[0] < self._every}
            if len(self._said) >= MAX_KINDS:
                return
        self._said[key] = (now, 0)
        repeated = {"repeated": said[1]} if said is not None and said[1] else {}
        self._log.warning(event, **details, **repeated)
