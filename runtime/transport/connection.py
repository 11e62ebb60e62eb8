"""One HTTP/1.1 connection to the API server that serves whole answers, one at a time.

A protocol class on httptools instead of an HTTP library: what an operator does thousands of times is one small request
with one small answer, and of those a library's sessions, URLs, streams and contexts take three quarters of the time
(docs/design/014-bursts.md). Watches, which are few and live long, stay with aiohttp.
"""

from __future__ import annotations

import asyncio
import ssl
import zlib
from collections.abc import Callable
from typing import cast

import httptools

from runtime.wire.errors import TransportError

MAX_HEAD = 64 * 1024
"""Bytes of headers; the API server sends less than one KiB."""

_WANTED = frozenset({b"retry-after", b"content-encoding"})


class ConnectionLostError(TransportError):
    """The connection ended before the answer was complete."""


class RawAnswer:
    """One answer, success or refusal, read to its end."""

    __slots__ = ("body", "headers", "pieces", "status", "warnings")

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, str] = {}
        """The few that matter, by name in lower case."""
        self.warnings: list[str] = []
        self.pieces: list[bytes] = []
        self.body = b""


class Connection(asyncio.Protocol):
    """A connection that serves one request at a time.

    Args:
        context: the TLS context that it was made with, None for plain text.
        on_lost: called once when it ends.

    Attributes:
        idle_since: loop time of the last release.
        answers: complete answers so far.
    """

    __slots__ = (
        "_answer",
        "_head",
        "_loop",
        "_on_lost",
        "_parser",
        "_transport",
        "_waiter",
        "answers",
        "context",
        "headed_at",
        "idle_since",
        "usable",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        context: ssl.SSLContext | None,
        on_lost: Callable[[Connection], None],
    ) -> None:
        self.context = context
        self.idle_since = 0.0
        self.answers = 0
        self.usable = True
        """Open and between two requests, as far as anybody knows."""
        self.headed_at = 0.0
        """Loop time at which the head of the last answer was complete."""
        self._loop = loop
        self._on_lost = on_lost
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[RawAnswer] | None = None
        self._answer = RawAnswer()
        self._head = 0

    async def exchange(self, request: bytes) -> RawAnswer:
        """Write a whole request and return its answer.

        Raises:
            TransportError: no usable answer; the connection is closed then.
        """
        assert self._transport is not None
        self.usable = False
        self.headed_at = 0.0
        self._answer = RawAnswer()
        self._head = 0
        waiter: asyncio.Future[RawAnswer] = self._loop.create_future()
        self._waiter = waiter
        self._transport.write(request)
        try:
            return await waiter
        except BaseException:
            # Also when the answer is there and nobody waits for it any more: nobody would give the connection back.
            self.abort()
            raise
        finally:
            self._waiter = None

    @property
    def touched(self) -> bool:
        """Whether any byte came after the last request was written."""
        return self._head > 0

    def abort(self) -> None:
        """Close at once."""
        self.usable = False
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Parse; what cannot be parsed, or was not asked for, ends the connection."""
        if self._waiter is None or self._waiter.done():
            self.abort()
            return
        self._head += 0 if self.headed_at else len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, zlib.error) as error:
            self._fail(TransportError(f"the answer is not HTTP/1.1 ({type(error).__name__})"))
        if not self.headed_at and self._head > MAX_HEAD:
            self._fail(TransportError(f"the head of the answer is longer than {MAX_HEAD} bytes"))

    def eof_received(self) -> bool:
        """Let the transport close; `connection_lost` decides what that means."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail what is under way."""
        self.usable = False
        reason = f": {type(exc).__name__}" if exc is not None else ""
        self._fail(ConnectionLostError(f"the server closed the connection before its answer was complete{reason}"))
        self._on_lost(self)

    # --- httptools ---

    def on_message_begin(self) -> None:
        """Refuse an answer behind a complete one: nobody asked for it, and the next request must not get it."""
        if self._waiter is None or self._waiter.done():
            raise ValueError("an answer without a request")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep the few headers that matter."""
        name = name.lower()
        if name == b"warning":
            self._answer.warnings.append(value.decode("latin-1"))
        elif name in _WANTED:
            self._answer.headers[name] = value.decode("latin-1").strip()

    def on_headers_complete(self) -> None:
        """Note status and time."""
        self._answer.status = self._parser.get_status_code()
        if self._answer.status >= 200:
            self.headed_at = self._loop.time()

    def on_body(self, data: bytes) -> None:
        """Collect the body."""
        self._answer.pieces.append(data)

    def on_message_complete(self) -> None:
        """Hand over the answer; an interim one only makes room for the next."""
        answer, waiter = self._answer, self._waiter
        if answer.status < 200:
            self._answer = RawAnswer()
            return
        body = answer.pieces[0] if len(answer.pieces) == 1 else b"".join(answer.pieces)
        coding = answer.headers.get(b"content-encoding")
        answer.body = body if coding is None else _unpacked(coding, body)
        self.answers += 1
        self.usable = self._parser.should_keep_alive()
        if waiter is not None and not waiter.done():
            waiter.set_result(answer)

    def _fail(self, error: TransportError) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)
        self.abort()


def _unpacked(coding: str, body: bytes) -> bytes:
    # Only gzip is ever asked for.
    return zlib.decompress(body, 31) if coding.lower() == "gzip" else body
