"""What is done now and then: end connections that are overdue, and those of clients that do not read."""

from __future__ import annotations

from collections.abc import Iterable
from time import monotonic
from typing import Any, Final

import structlog

from vmcp.http.server.protocol import GuardedProtocol

log = structlog.get_logger(__name__)

WRITE_BUDGET: Final = 64 * 1024 * 1024
"""Bytes that wait for all clients together; beyond, those go that let the most wait."""


def sweep(connections: Iterable[Any], budget: int = WRITE_BUDGET, *, now: float | None = None) -> int:
    """Close the connections that are overdue, and those of clients that do not read; return how many.

    Args:
        connections: Of a listener; what is not ours is left alone.
        budget: Bytes that may wait for all of them together.
        now: On `time.monotonic()`; None = that moment.
    """
    now = monotonic() if now is None else now
    ours = [c for c in connections if isinstance(c, GuardedProtocol)]
    overdue = [c for c in ours if c.due is not None and c.due < now]
    for connection in overdue:
        connection.overdue()
    stalled = [c for c in ours if c.stalled(now)]
    for connection in stalled:
        connection.transport.abort()
    return len(overdue) + len(stalled) + _shed(ours, budget)


def _shed(connections: Iterable[GuardedProtocol], budget: int) -> int:
    """Abort those that let the most wait, until the rest is within the budget; return how many."""
    waiting = [(size, c) for c in connections if (size := c.transport.get_write_buffer_size())]
    left = sum(size for size, _ in waiting)
    shed = 0
    for size, connection in sorted(waiting, key=lambda pair: pair[0], reverse=True):
        if left <= budget:
            break
        connection.transport.abort()
        left -= size
        shed += 1
    if shed:
        log.warning("dropped clients that do not read their responses", count=shed, budget_bytes=budget)
    return shed
