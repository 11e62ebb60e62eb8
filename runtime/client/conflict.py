"""Trying again when somebody else was faster."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from runtime.wire.errors import AlreadyExistsError, ConflictError

T = TypeVar("T")


async def retry_on_conflict(attempt: Callable[[], Awaitable[T]], *, attempts: int = 5, pause: float = 0.01) -> T:
    """Call `attempt` until it does not end in a conflict.

    In a reconcile it is mostly better to return and to be called again with fresh state; this is for writers that have
    no queue behind them. `attempt` must read live state each time.

    Args:
        attempt: reads, changes and writes.
        attempts: calls in total.
        pause: seconds before the second call; doubled each time and jittered.

    Raises:
        ConflictError: the last attempt failed, too.
    """
    for number in range(attempts):
        try:
            return await attempt()
        except AlreadyExistsError:
            raise
        except ConflictError:
            if number == attempts - 1:
                raise
        await asyncio.sleep(pause * 2**number * random.uniform(0.5, 1.5))  # noqa: S311  jitter
    raise ValueError("attempts must be at least 1")
