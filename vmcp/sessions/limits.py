"""Token buckets that replicas share: one script decides on a call and takes its tokens, at the server, by its clock.

A bucket is one number: the moment at which it will be full again (the "theoretical arrival time" of the generic cell
rate algorithm, ITU-T I.371). Each token that is taken moves it on by `period / tokens`; where that would leave it more
than `period` ahead, the bucket is empty. Its key lives until that moment: a full bucket needs none.

While the server does not answer, each replica counts by itself, from full buckets; or, where the configuration prefers
that, nothing passes.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import structlog

from vmcp.auth.interface import Principal
from vmcp.core.state import TTL
from vmcp.limits.bucket import Rate, RateLimits, TokenBuckets
from vmcp.observe.seldom import SeldomLog
from vmcp.sessions.store import StoreUnavailable

if TYPE_CHECKING:
    from redis.commands.core import AsyncScript

    from vmcp.sessions.link import RedisLink

log = structlog.get_logger(__name__)

_TAKE: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local full_at, wait = {}, 0
for i, key in ipairs(KEYS) do
  local tokens, period = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
  local at = tonumber(redis.call('GET', key) or now)
  at = math.min(math.max(at, now), now + period) + period / tokens
  full_at[i] = at
  -- Rounding must not turn "a token is due" into "almost": a microsecond is less than anybody waits for.
  wait = math.max(wait, at - now - period - 1)
end
if wait > 0 then return math.ceil(wait) end
for i, key in ipairs(KEYS) do
  redis.call('SET', key, string.format('%.3f', full_at[i]), 'PX', math.ceil((full_at[i] - now) / 1000))
end
return 0
"""
MICROSECONDS: Final = 1_000_000


class SharedRateLimiter:
    """`RateLimiter` of replicas that share a server."""

    def __init__(
        self, limits: RateLimits, link: Callable[[], RedisLink | None], uncounted: Callable[[], None] = lambda: None
    ) -> None:
        """Ask nothing yet.

        Args:
            limits: What is allowed, by all replicas together.
            link: Returns the way to the server; None = there is none now.
            uncounted: Called for each call that could not be counted together with those of other replicas.
        """
        self._limits = limits
        self._link = link
        self._uncounted = uncounted
        self._own = TokenBuckets(limits)
        self._seldom = SeldomLog(log)
        self._script: tuple[RedisLink, AsyncScript] | None = None

    async def take(self, principal: Principal, tool: str) -> float | None:
        """See `RateLimiter.take`."""
        link = self._link()
        keys: list[Any] = []
        arguments: list[Any] = []
        for (of_tool, who), rate in self._limits.matching(principal, tool):
            keys.append("" if link is None else _key(link.prefix, of_tool, who))
            arguments += _rate(rate)
        if not keys:
            return None
        try:
            if link is None:
                raise StoreUnavailable("there is no store")
            wait = await link.run(self._take(link), keys, arguments)
        except StoreUnavailable as err:
            self._missed(err)
            return err.retry_after if self._limits.fail_closed else self._own.take(principal, tool)
        return None if not wait else int(wait) / MICROSECONDS

    async def continues(self, nonce: str) -> bool:
        """See `RateLimiter.continues`."""
        link = self._link()
        try:
            if link is None:
                raise StoreUnavailable("there is no store")
            key = _key(link.prefix, "", nonce, kind="used")
            return bool(await link.ask(lambda: link.redis.set(key, b"", nx=True, px=int(TTL * 1000))))
        except StoreUnavailable as err:
            self._missed(err)
            return not self._limits.fail_closed

    def _take(self, link: RedisLink) -> AsyncScript:
        if self._script is None or self._script[0] is not link:
            self._script = (link, link.script(_TAKE))
        return self._script[1]

    def _missed(self, err: StoreUnavailable) -> None:
        self._uncounted()
        then = "calls are refused" if self._limits.fail_closed else "each replica counts by itself"
        self._seldom.warning("rate limits cannot be shared", reason=str(err), then=then)


def _key(prefix: str, tool: str, who: str, *, kind: str = "limit") -> str:
    """Return a key that names neither a tool nor a caller."""
    digest = hashlib.sha256(f"{len(tool)}\0{tool}\0{who}".encode()).digest()
    return f"{prefix}{kind}:{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def _rate(rate: Rate) -> tuple[int, int]:
    return rate.tokens, max(1, int(rate.period * MICROSECONDS))
