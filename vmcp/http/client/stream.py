"""The body of a streaming answer, with backpressure and deadlines."""

from __future__ import annotations

import asyncio
from typing import Protocol

from vmcp.http.client.coding import Decoder
from vmcp.http.client.errors import HttpError, HttpTimeout
from vmcp.turns import PIECE, turn


class StreamFeed(Protocol):
    """What a stream needs of the connection that feeds it."""

    def pause_reading(self) -> None:
        """Let the sender wait."""
        ...

    def resume_reading(self) -> None:
        """Take bytes again."""
        ...

    def stay(self) -> None:
        """Count no longer as a call's."""
        ...

    def abort(self) -> None:
        """Close at once."""
        ...


class BodyStream:
    """Chunks of a body as they arrive. One reader at a time."""

    __slots__ = (
        "_buffered",
        "_chunks",
        "_connection",
        "_deadline",
        "_decoder",
        "_discarding",
        "_done",
        "_error",
        "_given",
        "_high",
        "_loop",
        "_paused",
        "_timer",
        "_waiter",
    )

    def __init__(
        self,
        connection: StreamFeed,
        loop: asyncio.AbstractEventLoop,
        high_water: int,
        decoder: Decoder | None = None,
    ) -> None:
        """Wait for `connection` to feed it.

        Args:
            connection: Where the bytes come from.
            loop: The running one.
            high_water: Bytes, as they arrived, that may wait for the reader.
            decoder: Undoes the content coding as the reader takes; None = there is none.
        """
        self._connection: StreamFeed | None = connection
        self._loop = loop
        self._high = high_water
        self._chunks: list[bytes] = []
        self._buffered = 0
        self._paused = False
        self._discarding = False
        self._done = False
        # Never raised itself: it would know the frames of its readers, and these know us.
        self._error: HttpError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._decoder = decoder
        self._given = 0
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def chunk(self, *, idle: float | None = None) -> bytes | None:
        """Return the next bytes, None at the end.

        Args:
            idle: Seconds to wait for them at most; None = until `deadline`.

        Raises:
            HttpTimeout: They did not come in time. The connection is closed.
            ConnectionLost, BadResponse: The body ended too early, or is garbage.
        """
        if self._decoder is not None:
            return await self._decoded(self._decoder, idle)
        if not self._chunks and not self._done:
            await self._wait(idle)
        if self._chunks:
            return self._take()
        if self._error is not None:
            raise self._error.unraised()
        return None

    async def _decoded(self, decoder: Decoder, idle: float | None) -> bytes | None:
        """Decode no more than the reader asks for: what it does not take stays as small as it arrived."""
        try:
            while True:
                piece = decoder.take()
                if piece:
                    self._given += len(piece)
                    if self._given >= PIECE:
                        self._given = 0
                        await turn()
                    return piece
                if not self._chunks and not self._done:
                    await self._wait(idle)
                if self._chunks:
                    decoder.feed(self._take())
                elif self._error is not None:
                    raise self._error.unraised()
                elif self._done:
                    decoder.finish()
                    return None
        except HttpError:
            self.close()
            raise

    def _take(self) -> bytes:
        chunk = self._chunks.pop() if len(self._chunks) == 1 else self._take_all()
        self._buffered -= len(chunk)
        if self._paused and self._connection is not None:
            self._paused = False
            self._connection.resume_reading()
        return chunk

    def _take_all(self) -> bytes:
        joined = b"".join(self._chunks)
        self._chunks.clear()
        return joined

    @property
    def deadline(self) -> float | None:
        """Event loop time after which `chunk` raises; None = no end. May be moved while somebody waits.

        A stream without an end, such as a call's whose client is being asked, no longer counts as a call's connection.
        """
        return self._deadline

    @deadline.setter
    def deadline(self, value: float | None) -> None:
        self._deadline = value
        if value is None and self._connection is not None:
            self._connection.stay()
        if self._waiter is not None:
            self._arm(value)

    def _arm(self, end: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if end is None else self._loop.call_at(end, self._expire)

    async def _wait(self, idle: float | None) -> None:
        end = self._deadline
        if idle is not None:
            silent = self._loop.time() + idle
            end = silent if end is None else min(end, silent)
        self._waiter = waiter = self._loop.create_future()
        self._arm(end)
        try:
            await waiter
        finally:
            self._waiter = None
            self._arm(None)

    def _expire(self) -> None:
        self._finish(HttpTimeout("the stream was silent for too long", sent=True))
        self._abort()

    def discard(self, linger: float) -> None:
        """Read no more, but let the body end by itself within `linger` seconds, so that the connection can be kept."""
        self._chunks.clear()
        if self._done or self._connection is None:
            return
        self._discarding = True
        if self._paused:
            self._paused = False
            self._connection.resume_reading()
        self._loop.call_later(linger, self.close)

    def close(self) -> None:
        """Stop reading. Closes the connection unless the body is complete already."""
        self._chunks.clear()
        if not self._done:
            self._done = True
            self._abort()
        self._connection = None

    def _abort(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()

    # --- called by the connection ---

    def feed(self, data: bytes) -> None:
        """Take bytes from the socket; pauses it when the reader is behind."""
        if self._done or self._discarding:
            return
        self._chunks.append(data)
        self._buffered += len(data)
        if self._buffered > self._high and not self._paused and self._connection is not None:
            self._paused = True
            self._connection.pause_reading()
        self._wake()

    def _finish(self, error: HttpError | None) -> None:
        if not self._done:
            self._done = True
            self._error = error
            self._wake()

    def end(self, error: HttpError | None) -> None:
        """Take the end of the body; `error` None = it is complete."""
        self._connection = None
        self._finish(error)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
