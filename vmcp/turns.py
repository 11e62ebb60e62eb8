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

PIECE: Final = 256 * 1024
"""Bytes of a large message that are handed to a socket at once."""


class _Queue:
    """Those who wait in one loop. It keeps no reference to the loop, by which it is found."""

    __slots__ = ("_coming", "_waiting")

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._coming = False

    def join(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        turn = loop.create_future()
        self._waiting.append(turn)
        if not self._coming:
            self._coming = True
            loop.call_soon(self._next, loop)
        return turn

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                loop.call_soon(self._next, loop)
                return
        self._coming = False


_queues: WeakKeyDictionary[asyncio.AbstractEventLoop, _Queue] = WeakKeyDictionary()


async def turn() -> None:
    """Wait until it is one's turn. The next one comes with the loop's next round at the earliest."""
    loop = asyncio.get_running_loop()
    queue = _queues.get(loop)
    if queue is None:
        queue = _queues[loop] = _Queue()
    await queue.join(loop)
