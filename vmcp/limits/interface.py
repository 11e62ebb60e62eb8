"""Rate limits: the question asked once per `tools/call`, after authorization."""

from __future__ import annotations

from typing import Protocol

from vmcp.auth.interface import Principal

RATE_LIMITED_CODE = 429
"""JSON-RPC error code (modern era) and `structuredContent.code` (legacy era) of a call that came too early."""


class RateLimiter(Protocol):
    """Token buckets; safe for use in one event loop. May do IO, where the buckets are shared by replicas.

    A limit protects backends from too much and decides nothing about who may do what, so a limiter whose store does not
    answer counts by itself, unless it is told to let nothing pass, and says so in its log and metrics.
    """

    async def take(self, principal: Principal, tool: str) -> float | None:
        """Take one token from every bucket that matches, or none from any.

        Args:
            principal: Who calls.
            tool: The advertised name, from the request's body.

        Returns:
            None = go on; else the seconds after which a retry may succeed (> 0). Never raises.
        """
        ...

    async def continues(self, nonce: str) -> bool:
        """Say whether a request goes on with a call that was counted already; each nonce does so once.

        Args:
            nonce: Of the call's sealed state, which was not used in this process before.

        Returns:
            False = it was used at another replica, so the request counts. Never raises.
        """
        ...
