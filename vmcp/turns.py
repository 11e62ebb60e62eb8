"""Turns of the event loop for work on what is large.

Work on some MiB takes a millisecond here and three there, and nobody else is served meanwhile. Whoever has such work
cuts it into parts and takes a turn before each: between two turns, whoever's they are, the loop does all that waits for
it. So others wait for one part, however many large messages there are.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final
from weakref import WeakKeyDictionary

LARGE: Final = 64 * 1024
"""Bytes of a message beyond which work on it takes turns: less takes no longer than an ordinary request."""


class _Queue:
    __slots__ = ("_coming", "_loop", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._coming = False

    def join(self) -> asyncio.Future[None]:
        turn = self._loop.create_future()
        self._waiting.append(turn)
        if not self._coming:
            self._coming = True
            self._loop.call_soon(self._next)
        return turn

    def _next(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                self._loop.call_soon(self._next)
                return
        self._coming = False


_queues: WeakKeyDictionary[asyncio.AbstractEventLoop, _Queue] = WeakKeyDictionary()


async def turn() -> None:
    """Wait until it is one's turn. The next one comes with the loop's next round at the earliest."""
    loop = asyncio.get_running_loop()
    queue = _queues.get(loop)
    if queue is None:
        queue = _queues[loop] = _Queue(loop)
    await queue.join()
