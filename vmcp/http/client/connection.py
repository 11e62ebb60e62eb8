"""One HTTP/1.1 connection: writes a request, parses the answer with httptools, knows whether it may be used again.

A protocol class instead of streams: an answer that fits one read costs one callback chain and wakes its waiter once.
"""

from __future__ import annotations

import asyncio
import enum
import select
from collections.abc import Callable
from typing import cast

import httptools

from vmcp.http.client.coding import Decoder
from vmcp.http.client.decoding import decoded
from vmcp.http.client.errors import BadResponse, ConnectionLost, HttpError, HttpTimeout, ResponseTooLarge
from vmcp.http.client.stream import BodyStream
from vmcp.http.client.types import ClientLimits, Response
from vmcp.http.client.under_way import Held
from vmcp.turns import LARGE, PIECE, turn

_NO_BODY = frozenset({204, 304})
_MAX_HEADERS = 256
_NAMES = {
    spelled.encode(): low
    for low in ("content-type", "content-length", "date", "server", "connection", "keep-alive", "transfer-encoding")
    for spelled in (low, low.title())
}
"""Names that nearly every answer holds, as they are mostly spelled."""
_TICK = 0.002
"""Loops keep time in milliseconds and may be early by one."""


class _State(enum.IntEnum):
    IDLE = 0
    HEAD = 1
    """A request was written, the answer's head is not complete."""
    BODY = 2
    STREAM = 3
    CLOSED = 4


class ClientConnection(asyncio.Protocol):
    """A connection that serves one request at a time.

    Attributes:
        idle_since: `time.monotonic()` of the last release; decides expiry and whether reuse needs a look at the socket.
        keep_for: Seconds it may stay idle.
        served: Answers so far.
    """

    __slots__ = (
        "_body",
        "_deadline",
        "_decoder",
        "_eof_body",
        "_head_bytes",
        "_headers",
        "_held",
        "_limits",
        "_loop",
        "_on_close",
        "_on_free",
        "_on_stay",
        "_parser",
        "_paused",
        "_poll",
        "_sending",
        "_size",
        "_state",
        "_status",
        "_stream",
        "_timer",
        "_timer_at",
        "_touched",
        "_transport",
        "_waiter",
        "idle_since",
        "keep_for",
        "served",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        limits: ClientLimits,
        on_free: Callable[[ClientConnection], None],
        on_close: Callable[[ClientConnection], None],
        on_stay: Callable[[ClientConnection], None],
    ) -> None:
        self._loop = loop
        self._limits = limits
        self._on_free = on_free
        self._on_close = on_close
        self._on_stay = on_stay
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._state = _State.IDLE
        self._waiter: asyncio.Future[Response] | None = None
        self._stream: BodyStream | None = None
        self._touched = False
        self._paused = False
        self._sending = False
        self._poll: select.poll | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._deadline = 0.0
        self.idle_since = 0.0
        self.keep_for = limits.idle_timeout
        self.served = 0
        self._reset_answer()

    def _reset_answer(self) -> None:
        self._status = 0
        self._headers: dict[str, str] = {}
        self._head_bytes = 0
        self._body: list[bytes] = []
        self._size = 0
        self._eof_body = False
        self._decoder: Decoder | None = None
        self._held: Held | None = None

    # --- for the pool ---

    @property
    def usable(self) -> bool:
        """Idle and, as far as we know, open."""
        return self._state is _State.IDLE and self._transport is not None and not self._transport.is_closing()

    @property
    def closed(self) -> bool:
        """Gone for good."""
        return self._state is _State.CLOSED

    def looks_stale(self) -> bool:
        """Look at the socket itself: readable while idle means that the server closed it or talks out of turn."""
        if self._poll is None:
            sock = self._transport.get_extra_info("socket") if self._transport is not None else None
            if sock is None or sock.fileno() < 0:
                return True
            # Kept for as long as the connection is open, and so is its number: a closed one is not asked (`usable`).
            self._poll = select.poll()
            self._poll.register(sock.fileno(), select.POLLIN | select.POLLHUP | select.POLLERR)
        return bool(self._poll.poll(0))

    async def request(self, data: bytes, deadline: float, body: bytes = b"") -> Response:
        """Write a request and return the answer.

        Args:
            data: The request, or the head of one whose body is long.
            deadline: Loop time until which the answer must be complete; of a stream only its head.
            body: A long one, written piece by piece; b"" = it is part of `data`.

        Raises:
            HttpError: See its subclasses. The connection is closed then.
        """
        assert self._transport is not None
        self._state = _State.HEAD
        self._touched = False
        self._reset_answer()
        waiter: asyncio.Future[Response] = self._loop.create_future()
        self._waiter = waiter
        self._deadline = deadline
        if self._timer is None or deadline < self._timer_at:
            self._arm(deadline)
        try:
            self._transport.write(data)
            if body:
                await self._write(body, waiter)
            del data, body  # it may be long, and so may the wait
            response = await waiter
        except asyncio.CancelledError:
            # Once the answer is complete the connection may already serve somebody else: leave that one alone.
            if self._waiter is waiter and self._state is not _State.IDLE:
                self.abort()
            raise
        finally:
            del waiter  # it keeps its error, and that this frame: the two would wait for a collection of garbage
        return response if response.decoder is None else await self._decoded(response, deadline)

    async def _decoded(self, response: Response, deadline: float) -> Response:
        """Undo the content coding of an answer; meanwhile the connection may serve others."""
        served = self.served
        try:
            return await decoded(response, self._limits, deadline)
        except HttpError:
            if self.usable and self.served == served:
                self.close()  # nothing more is wanted of who says such things, where it costs nobody else
            raise

    async def _write(self, body: bytes, waiter: asyncio.Future[Response]) -> None:
        """Write a long body piece by piece, as long as nobody has answered it."""
        transport, left = self._transport, memoryview(body)
        assert transport is not None
        try:
            while left and not waiter.done():
                transport.write(left[:PIECE])
                left = left[PIECE:]
                self._sending = len(left) > 0
                if left:
                    await turn()
            if left and self._state is _State.STREAM:
                transport.write(left)  # its answer has begun and may want the rest
        finally:
            self._sending = False

    @property
    def answered(self) -> bool:
        """At least one byte came after the last request was written."""
        return self._touched

    def abort(self) -> None:
        """Close at once."""
        self._close()
        self._drop_answer()
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Close; for TLS with a goodbye."""
        self._close()
        if self._transport is not None:
            self._transport.close()

    def pause_reading(self) -> None:
        """Let the kernel's buffer, and so the sender, wait."""
        if self._transport is not None and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def stay(self) -> None:
        """Its answer is a stream that may last: see `Pool.acquire`."""
        self._on_stay(self)

    def resume_reading(self) -> None:
        """Take bytes again."""
        if self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Parse; whatever cannot be parsed ends the connection."""
        if self._state is _State.IDLE or self._state is _State.CLOSED:
            self.abort()
            return
        self._touched = True
        if self._state is _State.HEAD:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)  # type: ignore[union-attr]  # there until the connection is lost
        except httptools.HttpParserUpgrade:
            self._fail(BadResponse("the server switched protocols without being asked", status=self._status))
        except httptools.HttpParserCallbackError as err:
            cause = err.__context__
            # Without this frame, which knows the error: the two would keep the answer until a collection of garbage.
            self._fail(
                cause.with_traceback(None) if isinstance(cause, HttpError) else BadResponse("the answer cannot be read")
            )
        except httptools.HttpParserError:
            self._fail(BadResponse("the answer is not HTTP/1.1", status=self._status))
        if self._state is _State.HEAD and self._head_bytes > 2 * self._limits.max_head:
            self._fail(ResponseTooLarge(f"the head of the answer is longer than {self._limits.max_head} bytes"))

    def eof_received(self) -> bool:
        """Let the transport close; `connection_lost` decides what that means."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """End a body that lasts until the end of the connection; fail anything else that is under way."""
        self._lost(exc)
        self._parser = None  # it knows its connection: the two would wait for a collection of garbage

    def _lost(self, exc: Exception | None) -> None:
        if self._eof_body and exc is None and self._state in {_State.BODY, _State.STREAM}:
            try:
                self._finish(reusable=False)
            except HttpError as err:
                self._fail(err)
            return
        self._fail(ConnectionLost("the server closed the connection before the answer was complete", sent=True))

    # --- httptools ---

    def on_message_begin(self) -> None:
        """Refuse an answer that begins behind a complete one: the next request must not be answered with it."""
        if self._state is not _State.HEAD:
            raise BadResponse("an answer without a request")

    def on_status(self, _reason: bytes) -> None:
        """Nothing to keep; the number is read with the head's end."""

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header, within the limits. Trailers are dropped."""
        if self._state is not _State.HEAD:
            return
        key = _NAMES.get(name) or name.decode("latin-1").lower()
        text = value.decode("latin-1").strip(" \t")
        self._size += len(key) + len(text)
        if self._size > self._limits.max_head or len(self._headers) >= _MAX_HEADERS:
            raise ResponseTooLarge(f"the head of the answer is longer than {self._limits.max_head} bytes")
        known = self._headers.get(key)
        self._headers[key] = text if known is None else f"{known}, {text}"

    def on_headers_complete(self) -> None:
        """Decide how the body is read."""
        self._status = status = self._parser.get_status_code()  # type: ignore[union-attr]  # it calls this
        if not 100 <= status <= 599:
            raise BadResponse("the answer has an invalid HTTP status", status=status)
        if status < 200:
            return
        headers = self._headers
        if "content-encoding" in headers:
            self._decoder = _decoder(headers.pop("content-encoding"))
        length = headers.get("content-length")
        self._eof_body = length is None and "transfer-encoding" not in headers and status not in _NO_BODY
        self._size = 0
        streams = 200 <= status < 300 and status not in _NO_BODY
        if streams and headers.get("content-type", "").lower().startswith("text/event-stream"):
            self._state = _State.STREAM
            self._stream = BodyStream(self, self._loop, self._limits.stream_buffer, self._decoder)
            self._resolve(Response(status, headers, b"", self._stream))
            return
        self._state = _State.BODY
        announced = int(length) if length is not None and length.isdigit() else 0
        if announced > self._limits.max_body:
            raise ResponseTooLarge(f"the answer announces more than {self._limits.max_body} bytes")
        if announced > LARGE and status not in _NO_BODY:
            self._held = self._limits.answers.hold(announced)

    def on_body(self, data: bytes) -> None:
        """Collect or pass on a piece of the body."""
        if self._stream is not None:
            self._stream.feed(data)
            return
        self._size += len(data)
        if self._size > self._limits.max_body:
            raise ResponseTooLarge(f"the answer is longer than {self._limits.max_body} bytes")
        if self._size > LARGE:
            if self._held is None:
                self._held = self._limits.answers.hold(self._size)
            else:
                self._held.reach(self._size)
        if self._decoder is None:
            self._body.append(data)
        else:
            self._decoder.feed(data)  # it may become a hundred times as long: that takes turns

    def on_message_complete(self) -> None:
        """End the answer; interim answers only make room for the next."""
        if self._state is _State.HEAD and 100 <= self._status < 200 and self._status != 101:
            self._reset_answer()
            return
        if self._state in {_State.BODY, _State.STREAM}:
            self._finish(reusable=self._parser.should_keep_alive())  # type: ignore[union-attr]  # it calls this

    # --- endings ---

    def _finish(self, *, reusable: bool) -> None:
        stream, self._stream = self._stream, None
        # What the reader has not taken yet is complete, too: the next answer must not wait for it.
        self.resume_reading()
        self.served += 1
        reusable = reusable and not self._sending  # the rest would be read as the next request
        if reusable:
            self._state = _State.IDLE
            self.keep_for = self._keep_alive()
        else:
            self._close()
        if stream is not None:
            stream.end(None)
        else:
            body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
            self._body = []
            held, self._held = self._held, None
            self._resolve(Response(self._status, self._headers, body, held=held, decoder=self._decoder))
            self._waiter = self._decoder = None  # an idle connection keeps no answer
        if reusable:
            self._on_free(self)
        elif self._transport is not None:
            self._transport.close()

    def _keep_alive(self) -> float:
        """Return how long the server says it waits, a second less, never more than our own limits."""
        said = self._headers.get("keep-alive")
        if said is None:
            return min(self._limits.idle_timeout, self._limits.silent_idle_timeout)
        for part in said.split(","):
            name, _, value = part.partition("=")
            if name.strip().lower() == "timeout" and value.isascii() and value.strip().isdigit():
                return min(self._limits.idle_timeout, max(0.0, int(value.strip()[:6]) - 1.0))
        return min(self._limits.idle_timeout, self._limits.silent_idle_timeout)

    def _resolve(self, response: Response) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(response)

    def _arm(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = when
        self._timer = self._loop.call_at(when, self._look)

    def _look(self) -> None:
        """See whether the request that is under way now is overdue: one timer serves many requests in turn."""
        self._timer = None
        if self._state not in {_State.HEAD, _State.BODY}:
            return
        if self._loop.time() < self._deadline - _TICK:
            self._arm(self._deadline)
        else:
            self._fail(HttpTimeout("the server did not answer in time", sent=True))

    def _fail(self, error: HttpError) -> None:
        stream, self._stream = self._stream, None
        waiter, self._waiter = self._waiter, None
        was_closed = self._state is _State.CLOSED
        self._close()
        self._drop_answer()
        if self._transport is not None and not was_closed:
            self._transport.abort()
        if stream is not None:
            stream.end(error)
        elif waiter is not None and not waiter.done():
            waiter.set_exception(error)

    def _drop_answer(self) -> None:
        """Give back what came of an answer that nobody gets: who is told of its end may know of us for long."""
        self._body = []
        self._decoder = self._held = None

    def _close(self) -> None:
        if self._state is not _State.CLOSED:
            self._state = _State.CLOSED
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._on_close(self)


def _decoder(coding: str) -> Decoder | None:
    return None if coding.strip().lower() in {"", "identity"} else Decoder(coding)
