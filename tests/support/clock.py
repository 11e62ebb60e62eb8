"""A clock that only a test moves, for what is given one; code that takes time from the loop: `virtual_time.py`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Clock:
    """Seconds, at `now` until the test says otherwise."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now
