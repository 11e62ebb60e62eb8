"""The answer to one POST: a JSON body, or an event stream as soon as something must be said before the answer.

The choice is made as late as possible. Most calls end without a notification, and then nothing of the machinery below
was started: no task, no queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any, Final

from vmcp.budget import MemoryBudget
from vmcp.http.server.asgi import JSON, Receive, Send
from vmcp.wire.sse import comment, encode

SSE_HEADERS: Final = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
)
MAX_QUEUED: Final = 16 * 1024 * 1024
"""Bytes that wait for a slow reader; beyond that notifications are dropped, answers never."""
QUEUED: Final = MemoryBudget(64 * 1024 * 1024)
"""For what waits for all readers of streams. When it is used up, those that are behind lose notifications, and their
stream with the next answer; a stream that keeps up is not touched."""
WATCH_AFTER: Final = 0.05
"""Seconds after which we begin to look whether the client is still there: quick calls need no watch."""
_LOOK_EVERY: Final = 0.025
WRITE_SECONDS: Final = 60.0
"""How long a reader may take nothing of a stream."""
_KEEP_ALIVE: Final = comment(b"keep-alive")


def bounded(seconds: float) -> float | None:
    """Return a time-out: None for what has no end, a day at most, and none in the past."""
    return None if seconds == float("inf") else min(max(seconds, 0.0), 86_400.0)


async def disconnected(receive: Receive) -> None:
    """Wait until the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


class SseWriter:
    """Writes an event stream; frames come from anywhere, one task sends them."""

    __slots__ = (
        "_closed",
        "_headers",
        "_keep_alive",
        "_patience",
        "_queue",
        "_send",
        "_size",
        "_task",
        "_wake",
        "gone",
    )

    def __init__(
        self,
        send: Send,
        *,
        keep_alive: float,
        headers: Iterable[tuple[bytes, bytes]] = (),
        patience: float = WRITE_SECONDS,
    ) -> None:
        """Take where to send, seconds between signs of life, extra response headers, and seconds for one write."""
        self._patience = patience
        self._send = send
        self._headers = (*SSE_HEADERS, *headers)
        self._keep_alive = keep_alive
        self._queue: list[bytes] = []
        self._size = 0
        self._wake = asyncio.Event()
        self._closed = False
        self.gone = False
        self._task = asyncio.create_task(self._run(), name="event stream")

    def write(self, frame: bytes, *, droppable: bool = False) -> None:
        """Queue a frame. Never blocks."""
        if self._closed or self.gone:
            return
        if self._size > MAX_QUEUED or (QUEUED.left < 0 and self._size):
            if droppable:
                return
            if QUEUED.left < 0:
                self.abandon()
                return
        self._queue.append(frame)
        self._size += len(frame)
        QUEUED.left -= len(frame)
        self._wake.set()

    async def finish(self) -> None:
        """Send what is queued, end the stream, and wait for that."""
        self._closed = True
        self._wake.set()
        await self._task

    async def stay_open(self, over: asyncio.Future[None], receive: Receive, seconds: float) -> None:
        """Wait until the stream is `over`, its reader is gone, or so many seconds have passed."""
        watch = asyncio.create_task(disconnected(receive), name="client watch")
        try:
            await asyncio.wait({over, watch}, timeout=bounded(seconds), return_when=asyncio.FIRST_COMPLETED)
        finally:
            if watch.done():
                self.abandon()
            watch.cancel()

    def abandon(self) -> None:
        """The reader is gone: drop what is queued."""
        self.gone = True
        self._forget()
        self._wake.set()

    def _forget(self) -> None:
        self._queue.clear()
        QUEUED.left += self._size
        self._size = 0

    async def _run(self) -> None:
        try:
            await self._work()
        finally:
            self._forget()

    async def _work(self) -> None:
        await self._send({"type": "http.response.start", "status": 200, "headers": list(self._headers)})
        while not self.gone:
            if self._queue:
                data = b"".join(self._queue)
                self._queue.clear()
                try:
                    await self._pass(data)
                finally:
                    if not self.gone:
                        self._size -= len(data)
                        QUEUED.left += len(data)
                continue
            if self._closed:
                break
            self._wake.clear()
            try:
                async with asyncio.timeout(self._keep_alive):
                    await self._wake.wait()
            except TimeoutError:
                self.write(_KEEP_ALIVE, droppable=True)
        if not self.gone:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _pass(self, data: bytes) -> None:
        """Send a chunk; a reader that takes nothing for too long counts as gone."""
        try:
            async with asyncio.timeout(self._patience):
                await self._send({"type": "http.response.body", "body": data, "more_body": True})
        except TimeoutError:
            self.abandon()


class Watches:
    """Looks after the exchanges of one front: one timer for all of them.

    Nearly all calls are over before anybody would look whether their client is still there, so that a timer for each
    would be made and thrown away for nothing.
    """

    __slots__ = ("_loop", "_running", "_young")

    def __init__(self) -> None:
        self._young: set[Exchange] = set()
        self._running = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def current_task(self) -> asyncio.Task[Any]:
        """Return the task that runs now. Finding the loop costs more than all the rest: it is looked for once."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        task = asyncio.current_task(self._loop)
        assert task is not None
        return task

    def add(self, exchange: Exchange) -> None:
        """Look at `exchange` when it is old enough."""
        self._young.add(exchange)
        if not self._running:
            self._running = True
            asyncio.get_running_loop().call_later(_LOOK_EVERY, self._look)

    def remove(self, exchange: Exchange) -> None:
        """It is over."""
        self._young.discard(exchange)

    def _look(self) -> None:
        if not self._young:
            self._running = False
            return
        old = monotonic() - WATCH_AFTER
        for exchange in [exchange for exchange in self._young if exchange.began <= old]:
            self._young.discard(exchange)
            exchange.watch()
        asyncio.get_running_loop().call_later(_LOOK_EVERY, self._look)


class Exchange:
    """One POST that is being answered.

    Attributes:
        gone: The client went away.
        began: `time.monotonic()` of its begin.
        cancels: Cancelled when that is noticed; None = nothing is.
        frame: Makes an event out of a message; legacy sessions put an id in.
        on_open: Called when the answer becomes a stream; may return its first event.
        json_only: The client takes no stream: what is only told is left out. A question opens one all the same.
    """

    __slots__ = (
        "_keep_alive",
        "_receive",
        "_send",
        "_timer",
        "_watch",
        "_watches",
        "_writer",
        "began",
        "cancels",
        "frame",
        "gone",
        "json_only",
        "on_open",
    )

    def __init__(
        self, receive: Receive, send: Send, watches: Watches, *, keep_alive: float, json_only: bool = False
    ) -> None:
        """Take the ASGI channels, who looks after it, and seconds of silence until a stream is opened to show life."""
        self._receive = receive
        self._send = send
        self._keep_alive = keep_alive
        self._writer: SseWriter | None = None
        self._watch: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.gone = False
        self.began = monotonic()
        self.cancels: asyncio.Task[Any] | None = None
        self.on_open: Callable[[], bytes | None] | None = None
        self.json_only = json_only
        self.frame: Callable[[bytes], bytes] = encode
        self._watches = watches
        watches.add(self)

    @property
    def streaming(self) -> bool:
        """The answer has become an event stream."""
        return self._writer is not None

    def emit(self, message: bytes, *, droppable: bool = True) -> None:
        """Send a message before the answer. Never blocks."""
        if self.json_only and droppable and self._writer is None:
            return
        self._open().write(self.frame(message), droppable=droppable)

    async def finish(self, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Send the answer: as the last event, or as a JSON body with `status` and extra headers."""
        self._end_watch()
        writer = self._writer
        if writer is not None:
            writer.write(self.frame(body))
            await writer.finish()
            return
        if not self.gone:
            start = [JSON, (b"content-length", b"%d" % len(body)), *headers]
            await self._send({"type": "http.response.start", "status": status, "headers": start})
            await self._send({"type": "http.response.body", "body": body})

    async def end(self) -> None:
        """End without an answer: close the stream, or say 202 where there is none."""
        self._end_watch()
        if self._writer is not None:
            await self._writer.finish()
        elif not self.gone:
            await self._send({"type": "http.response.start", "status": 202, "headers": [(b"content-length", b"0")]})
            await self._send({"type": "http.response.body", "body": b""})

    def discard(self) -> None:
        """Stop what runs beside the request; for requests that end without an answer."""
        self._end_watch()
        if self._writer is not None:
            self._writer.abandon()

    def _end_watch(self) -> None:
        self._watches.remove(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        watch, self._watch = self._watch, None  # which knows us: the two would wait for a collection of garbage
        if watch is not None:
            watch.cancel()

    def _open(self) -> SseWriter:
        if self._writer is None:
            self._writer = SseWriter(self._send, keep_alive=self._keep_alive)
            first = None if self.on_open is None else self.on_open()
            if first is not None:
                self._writer.write(first)
            if self.gone:
                self._writer.abandon()
        return self._writer

    def watch(self) -> None:
        """Begin to look whether the client is still there, and to show it signs of life."""
        loop = asyncio.get_running_loop()
        self._watch = loop.create_task(self._watching(), name="client watch")
        if not self.json_only:
            self._timer = loop.call_later(self._keep_alive, self._show_life)

    def _show_life(self) -> None:
        self._timer = None
        self._open().write(_KEEP_ALIVE)

    async def _watching(self) -> None:
        await disconnected(self._receive)
        self.gone = True
        if self._writer is not None:
            self._writer.abandon()
        if self.cancels is not None:
            self.cancels.cancel()
