"""Waits between attempts: exponential, bounded, jittered; a server's `retry:` overrides one of them."""

from __future__ import annotations

import random


class RetryBackoff:
    """1 s, 2 s, 4 s ... up to the limit, each with jitter."""

    def __init__(self, *, first: float = 1.0, limit: float = 30.0, seed: int | None = None) -> None:
        """Start with the first wait, and grow to the longest, seconds; `seed` makes the jitter repeatable."""
        self._first = first
        self._limit = limit
        self._attempt = 0
        self._random = random.Random(seed)  # noqa: S311  spreads load, keeps no secret

    def reset(self) -> None:
        """Start over: it worked."""
        self._attempt = 0

    def next(self, override: float | None = None) -> float:
        """Return the seconds to wait now: between the half and the whole of the step, never below the first wait.

        Args:
            override: What the server asked for (`retry:`); used once, never below the first wait either (`retry: 0`
                would be a request after the other), bounded by the limit of 1 hour.
        """
        step = min(self._limit, self._first * 2.0 ** min(self._attempt, 30))
        self._attempt += 1
        if override is not None:
            return min(max(self._first, override), 3600.0)
        return max(self._first, step * self._random.uniform(0.5, 1.0))
