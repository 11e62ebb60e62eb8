"""Per-item exponential back-off, the only rate limiter of the priority queue.

Numbers are client-go's: 5 ms doubling up to 1000 s. There is no overall bucket: with one, a burst of failures of some
objects delays all others, which is why controller-runtime dropped it together with the old queue.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


@dataclass(slots=True)
class ItemBackoff(Generic[T]):
    """Delay of the next try per item: `base * 2 ** failures`, at most `cap` seconds."""

    base: float = 0.005
    cap: float = 1000.0
    _failures: dict[T, int] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        if not 0 < self.base <= self.cap:
            raise ValueError(f"back-off needs 0 < base <= cap, got base {self.base} s, cap {self.cap} s")

    def next_delay(self, item: T) -> float:
        """Count one more failure of `item` and return the seconds until its next try."""
        failures = self._failures.get(item, 0)
        self._failures[item] = failures + 1
        # 2.0 ** 1024 raises OverflowError; 60 doublings exceed any sensible cap already.
        return min(self.cap, self.base * 2.0 ** min(failures, 60))

    def failures(self, item: T) -> int:
        """Failures in a row; 0 for an item that is doing fine."""
        return self._failures.get(item, 0)

    def forget(self, item: T) -> None:
        """`item` succeeded: its next failure starts at `base` again."""
        self._failures.pop(item, None)
