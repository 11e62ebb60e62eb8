"""uvicorn's HTTP protocol with the bounds that it does not have: size of the head, time for head and body.

httptools reads heads of any size and waits for ever. Here a head beyond its limit is answered with 431, and `sweep`,
called now and then, closes connections that take too long to say what they want (slowloris) with 408. The hot path pays
an addition and two assignments.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from vmcp.http.cork import CorkedTransport

MAX_HEAD: Final = 64 * 1024
"""Bytes of the request line and all headers."""
HEAD_SECONDS: Final = 10.0
"""From the first byte of a request (or the connection's begin) to the end of its head."""
BODY_SECONDS: Final = 60.0
"""From the end of the head to the end of the body."""
LINGER_SECONDS: Final = 2.0
"""How long what a refused client still sends is taken and dropped."""

_TOO_LARGE = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"the headers are too large"}}'
_TOO_SLOW = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"the request took too long to arrive"}}'
_INVALID = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"the request is not valid HTTP"}}'


class GuardedProtocol(HttpToolsProtocol):
    """One connection."""

    head_bytes = 0
    due: float | None = None
    _in_head = True
    _refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock: a connection that never says anything is slow, too."""
        super().connection_made(CorkedTransport(transport, self.loop))  # type: ignore[arg-type]  # all that is used of one
        self.due = time.monotonic() + HEAD_SECONDS

    def data_received(self, data: bytes) -> None:
        """Count what belongs to a head, even before the parser has seen its end."""
        if self._refused:
            return
        if self._in_head:
            self.head_bytes += len(data)
            if self.due is None:
                self.due = time.monotonic() + HEAD_SECONDS
        super().data_received(data)
        if self._in_head and self.head_bytes > MAX_HEAD:
            self._refuse(b"431 Request Header Fields Too Large", _TOO_LARGE)

    def on_headers_complete(self) -> None:
        """The head is whole: the body has its own time."""
        self._in_head = False
        self.due = time.monotonic() + BODY_SECONDS
        # The count may include the begin of a body that came along; only then is the head itself measured.
        if self._refused or (self.head_bytes > MAX_HEAD and self._head_size() > MAX_HEAD):
            self._refuse(b"431 Request Header Fields Too Large", _TOO_LARGE)
            return
        super().on_headers_complete()

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def on_body(self, body: bytes) -> None:
        """Take a part of the body, unless nobody wants it."""
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole: no clock runs until the next one begins."""
        if self._refused:
            return
        super().on_message_complete()
        self.due = None
        self._in_head = True
        self.head_bytes = 0

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  the base class's words are not for our clients
        """Refuse what is not HTTP."""
        self._refuse(b"400 Bad Request", _INVALID)

    def _refuse(self, status: bytes, body: bytes) -> None:
        """Answer and end. What still arrives is dropped for a moment: closing at once would take the answer away."""
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        self.due = None
        head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.transport.write(head % (status, len(body)) + body)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(LINGER_SECONDS, self.transport.close)

    def too_slow(self) -> None:
        """Close: what was promised did not come."""
        if self.cycle is not None and self.cycle.response_started:
            self.transport.close()
        else:
            self._refuse(b"408 Request Timeout", _TOO_SLOW)


def sweep(connections: Iterable[Any]) -> int:
    """Close the connections that are overdue; return how many."""
    now = time.monotonic()
    overdue = [c for c in connections if isinstance(c, GuardedProtocol) and c.due is not None and c.due < now]
    for connection in overdue:
        connection.due = None
        connection.too_slow()
    return len(overdue)
