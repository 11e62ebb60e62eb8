"""Rate limits and the store that they and the sessions are kept in."""

from __future__ import annotations

from typing import Annotated, Literal

from api.common.markers import CelRule, ListType, ValueBounds, rules
from api.common.model import Int32, Struct
from api.common.references import NonEmpty, SecretKeyRef


@rules(CelRule("self.provider != 'redis' || has(self.address)", "address is required"))
class SessionStorageConfig(Struct):
    """Where sessions are kept."""

    provider: Literal["memory", "redis"]
    """memory: lost with the process and not shared between replicas; redis: shared."""
    address: NonEmpty | None = None
    """Address of the Redis server, host:port; needed for redis."""
    db: Annotated[Int32, ValueBounds(minimum=0)] = 0
    """Number of the Redis database."""
    key_prefix: str | None = None
    """Prefix of every key, for stores that are shared with others."""
    password_ref: SecretKeyRef | None = None
    """Password of the Redis server."""


class RateLimitBucket(Struct):
    """A token bucket: a request takes one token and is refused when there is none."""

    max_tokens: Annotated[Int32, ValueBounds(minimum=1)]
    """Size of the bucket, the largest burst."""
    refill_period: str
    """Time in which an empty bucket fills again, a Go duration such as 1m."""


@rules(CelRule("has(self.shared) || has(self.perUser)", "at least one of shared or perUser must be configured"))
class ToolRateLimitConfig(Struct):
    """Limits of one tool, on top of those of the server."""

    name: NonEmpty
    """Name of the tool."""
    shared: RateLimitBucket | None = None
    """One bucket for all users together."""
    per_user: RateLimitBucket | None = None
    """One bucket for each authenticated user."""


@rules(
    CelRule(
        "has(self.shared) || has(self.perUser) || (has(self.tools) && size(self.tools) > 0)",
        "at least one of shared, perUser, or tools must be configured",
    )
)
class RateLimitConfig(Struct):
    """Limits of a server."""

    shared: RateLimitBucket | None = None
    """One bucket for all users together."""
    per_user: RateLimitBucket | None = None
    """One bucket for each authenticated user."""
    tools: Annotated[tuple[ToolRateLimitConfig, ...], ListType("map", ("name",))] = ()
    """Limits of single tools."""
