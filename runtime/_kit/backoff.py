"""Exponential back-off with jitter that forgets after a calm time."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field


@dataclass(frozen=True)
class BackoffSettings:
    """How long to wait after failures. The defaults are client-go's for a reflector."""

    base: float = 0.8
    """First delay, seconds."""
    cap: float = 30.0
    """Longest delay before jitter, seconds."""
    factor: float = 2.0
    """Growth from one failure to the next."""
    jitter: float = 1.0
    """A delay is stretched by up to this share, evenly distributed; 0 for none."""
    reset_after: float = 120.0
    """Seconds without a failure after which the delay starts from `base` again."""


@dataclass
class Backoff:
    """The delays of one thing that fails.

    Time is the running event loop's, so virtual time works; without a loop (`next` outside of one) it raises.
    """

    settings: BackoffSettings = field(default_factory=BackoffSettings)
    rng: random.Random = field(default_factory=random.Random)
    failures: int = 0
    """Failures in a row."""
    _last: float = float("-inf")

    def next(self) -> float:
        """Count a failure and return the seconds to wait."""
        now = asyncio.get_running_loop().time()
        if now - self._last > self.settings.reset_after:
            self.failures = 0
        # The exponent is bounded: 2.0**n overflows after a day of failures.
        plain = min(self.settings.cap, self.settings.base * self.settings.factor ** min(self.failures, 63))
        self.failures += 1
        delay = plain * (1 + self.rng.random() * self.settings.jitter)
        self._last = now + delay
        return delay

    def reset(self) -> None:
        """Forget all failures: the thing has proved that it works."""
        self.failures = 0
