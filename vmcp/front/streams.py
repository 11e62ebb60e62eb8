"""Event streams of a legacy session that can be taken up again.

Every event has an id that names its stream and its place there. What was sent is kept, within bounds, so that a client
whose connection broke can ask for what it missed (`Last-Event-ID`), on the stream where it missed it.
"""

from __future__ import annotations

import asyncio
from typing import Final

from vmcp.budget import MemoryBudget
from vmcp.front.exchange import SseWriter
from vmcp.wire.sse import encode

KEPT_EVENTS: Final = 128
KEPT_BYTES: Final = 128 * 1024
"""Bounds of what one stream keeps."""
KEPT_STREAMS: Final = 4
"""Streams of ended requests that one session keeps."""
KEPT: Final = MemoryBudget(64 * 1024 * 1024)
"""For what the streams of all sessions keep. When it is used up, a stream that has something new keeps less."""
RETRY: Final = 1.0
"""Seconds after which a client should reconnect."""


class EventStream:
    """One stream: that of a POST, or the session's own (GET).

    Attributes:
        name: Unique in the session.
        done: Nothing comes any more.
    """

    __slots__ = ("_bytes", "_events", "_next", "_over", "_sent", "_writer", "done", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.done = False
        self._events: list[tuple[int, bytes]] = []  # few, or none: an empty deque takes as much as a hundred places
        self._bytes = 0
        self._next = 1
        self._sent = 0
        self._writer: SseWriter | None = None
        self._over: asyncio.Future[None] | None = None

    def prime(self) -> bytes:
        """Return the first event of a connection: an id to come back with, and when (2025-11-25 and later)."""
        return encode(b"", id=self._id(self._next - 1), retry=RETRY)

    def frame(self, message: bytes) -> bytes:
        """Keep a message and return its event."""
        event = encode(message, id=self._id(self._next))
        self._events.append((self._next, event))
        self._bytes += len(event)
        KEPT.left -= len(event)
        self._next += 1
        while len(self._events) > KEPT_EVENTS or (self._bytes > KEPT_BYTES and len(self._events) > 1):
            self._drop_oldest()
        while KEPT.left < 0 and self._events:
            self._drop_oldest()
        return event

    def _drop_oldest(self) -> None:
        size = len(self._events.pop(0)[1])
        self._bytes -= size
        KEPT.left += size

    def __del__(self) -> None:
        """Give back what was kept: a stream ends with its session, or makes room for a newer one."""
        KEPT.left += self._bytes

    def relay(self, message: bytes) -> bytes:
        """Keep a message, pass its event to who took the stream up again, and return it for who opened it."""
        event = self.frame(message)
        if self._writer is not None:
            self._sent = self._next - 1
            self._writer.write(event)
        return event

    @property
    def attached(self) -> bool:
        """Whether somebody reads the stream now."""
        return self._writer is not None and not self._writer.gone

    def emit(self, message: bytes, *, droppable: bool = True) -> None:
        """Send a message to who is connected, and keep it for who will be."""
        event = self.frame(message)
        if self._writer is not None and not self._writer.gone:
            self._sent = self._next - 1
            self._writer.write(event, droppable=droppable)

    def attach(self, writer: SseWriter, after: int | None) -> asyncio.Future[None]:
        """Continue on `writer` with what came after event number `after`; None = after what was ever sent.

        Returns:
            A future that is done when this connection should end: nothing more comes, or a newer one took over.
        """
        self._release()
        self._writer = writer
        start = self._sent if after is None else after
        for number, event in self._events:
            if number > start:
                writer.write(event)
        self._sent = self._next - 1
        self._over = asyncio.get_running_loop().create_future()
        over = self._over
        if self.done:
            self._release()
        return over

    def detach(self, writer: SseWriter) -> None:
        """The connection of `writer` ended."""
        if self._writer is writer:
            self._writer = None

    def interrupt(self) -> None:
        """End the connection, not the stream."""
        self._release()

    def finish(self) -> None:
        """Nothing comes any more."""
        self.done = True
        self._release()

    def _release(self) -> None:
        if self._over is not None and not self._over.done():
            self._over.set_result(None)
        self._over = None

    def _id(self, number: int) -> str:
        return f"{self.name}-{number}"


class Streams:
    """All streams of a session."""

    def __init__(self, mark: str = "") -> None:
        """Begin with the session's own stream; `mark` tells its event ids from those of other processes."""
        self.own = EventStream(f"get{mark}")
        self._mark = mark
        self._posts: dict[str, EventStream] = {}
        self._count = 0

    def for_post(self) -> EventStream:
        """Make the stream of a request."""
        self._count += 1
        stream = EventStream(f"post{self._count}{self._mark}")
        self._posts[stream.name] = stream
        if len(self._posts) > KEPT_STREAMS:
            ended = next((name for name, kept in self._posts.items() if kept.done), None)
            if ended is not None:
                del self._posts[ended]
        return stream

    def find(self, event_id: str) -> tuple[EventStream, int] | None:
        """Return the stream and the place that an event id names; None when they are not known (any more)."""
        name, _, number = event_id.rpartition("-")
        stream = self.own if name == self.own.name else self._posts.get(name)
        if stream is None or not (number.isascii() and number.isdigit()) or len(number) > 18:
            return None
        return stream, int(number)

    def lost(self, event_id: str) -> bool:
        """Say whether an event id is one of a request that another process served, whose events are not here."""
        return bool(self._mark) and event_id.startswith("post") and self._mark not in event_id

    def interrupt(self) -> None:
        """End the connections; whoever may still hear of the session comes back."""
        for stream in (self.own, *self._posts.values()):
            stream.interrupt()

    def finish(self) -> None:
        """Nothing comes any more, on any of them."""
        for stream in (self.own, *self._posts.values()):
            stream.finish()
