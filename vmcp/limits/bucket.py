"""Token buckets in memory.

A bucket of `maxTokens` fills evenly, from empty to full in `refillPeriod` (ToolHive's meaning of the two). A call is
measured against every bucket that matches it (all callers, this caller, this tool, this tool for this caller) and
takes one token from each, or, if one of them is empty, from none: a refused call costs nobody anything.

Buckets per user live in one bounded table; a full bucket that is forgotten loses nothing, so those go first.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from vmcp.auth.interface import Principal

MAX_BUCKETS = 100_000
"""Per-user buckets kept. Beyond, the one that was used least recently starts anew, full."""


@dataclass(frozen=True, slots=True)
class Rate:
    """How many calls: `tokens` at once, `tokens` per `period` seconds in the long run."""

    tokens: int
    period: float


@dataclass(frozen=True, slots=True)
class ToolRates:
    """RateLimits of one tool."""

    shared: Rate | None = None
    per_user: Rate | None = None


@dataclass(frozen=True, slots=True)
class RateLimits:
    """What `rateLimiting` says. Tool names are advertised names.

    Attributes:
        fail_closed: While replicas that share their buckets cannot reach them, nothing passes; else each counts by
            itself.
    """

    shared: Rate | None = None
    per_user: Rate | None = None
    tools: Mapping[str, ToolRates] = field(default_factory=dict)
    fail_closed: bool = False

    def matching(self, principal: Principal, tool: str) -> Iterator[tuple[tuple[str, str], Rate]]:
        """Yield each bucket that a call is measured against: (tool, caller), "" = of all of them; and its rate."""
        if self.shared is not None:
            yield ("", ""), self.shared
        if self.per_user is not None:
            yield ("", principal.key), self.per_user
        of_tool = self.tools.get(tool)
        if of_tool is not None:
            if of_tool.shared is not None:
                yield (tool, ""), of_tool.shared
            if of_tool.per_user is not None:
                yield (tool, principal.key), of_tool.per_user


class TokenBucket:
    """One token bucket; times are monotonic seconds."""

    __slots__ = ("_filled_at", "_rate", "_tokens")

    def __init__(self, rate: Rate, now: float) -> None:
        """Start full."""
        self._rate = rate
        self._tokens = float(rate.tokens)
        self._filled_at = now

    def wait(self, now: float) -> float:
        """Return the seconds until a token is there; 0 = now."""
        self._fill(now)
        return 0.0 if self._tokens >= 1.0 else (1.0 - self._tokens) * self._rate.period / self._rate.tokens

    def take(self) -> None:
        """Take a token; only after `wait` said 0."""
        self._tokens -= 1.0

    def _fill(self, now: float) -> None:
        gained = (now - self._filled_at) * self._rate.tokens / self._rate.period
        # Rounding must not turn "a token is due" into "almost": a nanotoken is a token.
        self._tokens = min(float(self._rate.tokens), self._tokens + gained + 1e-9)
        self._filled_at = now


class TokenBuckets:
    """All buckets of a gateway. Pure but for the clock."""

    def __init__(
        self, limits: RateLimits, *, clock: Callable[[], float] = time.monotonic, max_buckets: int = MAX_BUCKETS
    ) -> None:
        """Start with full buckets.

        Args:
            limits: What is allowed.
            clock: Monotonic seconds.
            max_buckets: How many are kept; the one that was not used for longest goes first.
        """
        self._limits = limits
        self._max_buckets = max_buckets
        self._clock = clock
        self._buckets: OrderedDict[tuple[str, str], TokenBucket] = OrderedDict()

    def take(self, principal: Principal, tool: str) -> float | None:
        """Take a token from every bucket that matches, or none from any; see `RateLimiter.take`."""
        now = self._clock()
        matching = [self._bucket(key, rate, now) for key, rate in self._limits.matching(principal, tool)]
        wait = max((bucket.wait(now) for bucket in matching), default=0.0)
        if wait > 0.0:
            return wait
        for bucket in matching:
            bucket.take()
        return None

    def _bucket(self, key: tuple[str, str], rate: Rate, now: float) -> TokenBucket:
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = TokenBucket(rate, now)
            if len(self._buckets) > self._max_buckets:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        return bucket


class MemoryRateLimiter:
    """`RateLimiter` of one process. Replicas count for themselves; a shared limit needs a shared store."""

    def __init__(self, limits: RateLimits) -> None:
        """Start with full buckets."""
        self._buckets = TokenBuckets(limits)

    async def take(self, principal: Principal, tool: str) -> float | None:
        """See `RateLimiter.take`. Waits for nobody."""
        return self._buckets.take(principal, tool)

    async def continues(self, nonce: str) -> bool:  # noqa: ARG002  the core knows what was used in this process
        """See `RateLimiter.continues`."""
        return True
