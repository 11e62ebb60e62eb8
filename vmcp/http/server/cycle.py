"""One request of a connection and its answer, as the ASGI interface wants them, without what only others need.

uvicorn's own cycle costs a fifth of a proxied call: an event object per request, regular expressions over headers that
are always the same, a system call for the head and another one for the body, a timer of its own per answer. Here a head
with a length waits for its body and leaves together with it, headers that come again are encoded once, and connections
that idle are found by the sweep that looks for slow ones anyhow.
"""

from __future__ import annotations

import asyncio
import http
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final, Protocol

import structlog

from api.contract.headers import FIELD_VALUE, TOKEN
from vmcp.http.server.asgi import JSON, Scope
from vmcp.turns import PIECE, turn

log = structlog.get_logger(__name__)

App = Callable[[Scope, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]

HIGH_WATER: Final = 64 * 1024
"""Bytes of a body that may wait for the application before reading pauses."""
_COPIED: Final = 64 * 1024
"""Longer bodies are not copied behind their heads: the second system call costs less."""
_STATUS_LINE: Final = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in http.HTTPStatus}
_LINES: Final = {JSON: b"content-type: application/json\r\n"}
_NAME = re.compile(TOKEN.encode("ascii"))
_VALUE = re.compile(FIELD_VALUE.encode("ascii"))
_FAILED: Final = b"Internal Server Error"
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_NO_BODY = frozenset({204, 304})


class AnswerError(RuntimeError):
    """The application says something that is no answer, or a second one."""


class ServerConnection(Protocol):
    """What a cycle needs of its connection."""

    transport: asyncio.Transport

    def may_write(self) -> asyncio.Future[None] | None:
        """Return what to wait for before writing; None = nothing."""
        ...

    def may_read(self, *, more: bool) -> None:
        """Take more of the body from the socket, or no more for now."""
        ...

    def answered(self) -> None:
        """An answer is complete."""
        ...


class Cycle:
    """A request and its answer.

    Attributes:
        scope: Of ASGI.
        keep_alive: The connection serves further requests.
        started: The answer was begun.
        complete: The answer is complete.
        disconnected: The client is gone.
    """

    __slots__ = (
        "_body",
        "_chunked",
        "_connection",
        "_head",
        "_left",
        "_more",
        "_news",
        "_parts",
        "_size",
        "_told",
        "_waiter",
        "complete",
        "disconnected",
        "keep_alive",
        "scope",
        "started",
    )

    def __init__(self, connection: ServerConnection, scope: Scope, *, keep_alive: bool) -> None:
        """Take the request's head."""
        self._connection = connection
        self.scope = scope
        self.keep_alive = keep_alive
        self._body = b""
        self._parts: list[bytes] = []
        self._size = 0
        self._more = True
        self._news = False
        self._waiter: asyncio.Future[None] | None = None
        self._head = b""
        self._chunked = False
        self._left = 0
        self._told = False
        self.started = False
        self.complete = False
        self.disconnected = False

    # --- for the connection ---

    def feed(self, body: bytes) -> None:
        """Take a part of the body."""
        if self.complete:
            return
        if self._parts or self._body:
            self._parts.append(body)
            self._size += len(body)
        else:
            self._body = body
            self._size = len(body)
        if self._size > HIGH_WATER:
            self._connection.may_read(more=False)
        self._tell()

    def end(self) -> None:
        """The body is complete."""
        self._more = False
        self._tell()

    def lost(self) -> None:
        """The connection is gone."""
        if not self.complete:
            self.disconnected = True
        self._tell()

    def _tell(self) -> None:
        self._news = True
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    async def run(self, app: App) -> None:
        """Let the application answer."""
        try:
            await app(self.scope, self.receive, self.send)
        except asyncio.CancelledError:
            self._connection.transport.close()
            raise
        except Exception:
            log.exception("a request failed unexpectedly")
            if not self.started and not self.disconnected:
                await self._fail()
        if self.disconnected or self.complete:
            return
        if self.started:
            self._connection.transport.close()
        else:
            log.error("a request was not answered")
            await self._fail()

    async def _fail(self) -> None:
        length = b"%d" % len(_FAILED)
        headers = [(b"content-type", b"text/plain"), (b"content-length", length), (b"connection", b"close")]
        await self.send({"type": "http.response.start", "status": 500, "headers": headers})
        await self.send({"type": "http.response.body", "body": _FAILED})

    # --- ASGI ---

    async def receive(self) -> dict[str, Any]:
        """Return the next part of the body, or that the client is gone."""
        if not self.disconnected and not self.complete:
            self._connection.may_read(more=True)
            if not self._news:
                self._go_on()
                self._waiter = asyncio.get_running_loop().create_future()
                await self._waiter
            self._news = False
        if self.disconnected or self.complete:
            return {"type": "http.disconnect"}
        body, self._body = self._body, b""
        if self._parts:
            body = b"".join((body, *self._parts))
            self._parts = []
        return {"type": "http.request", "body": body, "more_body": self._more}

    def _go_on(self) -> None:
        """Say `100 Continue` to a client that waits for it: one whose body is here does not (RFC 9110, 10.1.1)."""
        if self.started or self._told or self._connection.transport.is_closing():
            return
        self._told = True
        if any(name == b"expect" and value.lower() == b"100-continue" for name, value in self.scope["headers"]):
            self._connection.transport.write(_CONTINUE)

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """Take a part of the answer.

        Raises:
            AnswerError: It does not follow what was said before.
        """
        drained = self._connection.may_write()
        if drained is not None and not self.disconnected:
            await drained
        if self.disconnected:
            return
        if message["type"] == "http.response.body" and self.started and not self.complete:
            body = message.get("body", b"")
            left = body if len(body) <= PIECE else await self._send_pieces(body)
            if left is not None:
                self._send_body(left, more=message.get("more_body", False))
        elif message["type"] == "http.response.start" and not self.started:
            self._start(message["status"], message["headers"])
        else:
            raise AnswerError(f"{message['type']} is out of place")

    async def _send_pieces(self, body: bytes) -> memoryview | None:
        """Write a long body in turns with the loop's other work; return its rest, or None: the client is gone.

        Behind a client that reads slowly the transport keeps the rest, which costs no time.
        """
        left = memoryview(body)
        while len(left) > PIECE and self._connection.may_write() is None:
            self._send_body(left[:PIECE], more=True)
            left = left[PIECE:]
            await turn()
            if self.disconnected:
                return None
        return left

    def _start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        parts = [_STATUS_LINE[status]]
        length: int | None = None
        for pair in headers:
            line = _LINES.get(pair)
            if line is None:
                name, value = pair
                if name == b"content-length":
                    length = int(value)
                    line = b"content-length: %d\r\n" % length
                elif name == b"connection" and value == b"close":
                    self.keep_alive = False
                    continue
                else:
                    line = _line(name, value)
            parts.append(line)
        if not self.keep_alive:
            parts.append(b"connection: close\r\n")
        bodiless = self.scope["method"] == "HEAD" or status in _NO_BODY
        if length is None and not bodiless:
            self._chunked = True
            parts.append(b"transfer-encoding: chunked\r\n")
        parts.append(b"\r\n")
        self.started = True
        self._left = 0 if bodiless or length is None else length
        self._head = b"".join(parts)
        if self._chunked:
            # A stream may say nothing for long: its client must not wait for the head until then.
            self._connection.transport.write(self._head)
            self._head = b""

    def _send_body(self, body: bytes | memoryview, *, more: bool) -> None:
        data: bytes | memoryview
        if self._chunked:
            data = b"".join((b"%x\r\n" % len(body), body, b"\r\n")) if body else b""
            if not more:
                data += b"0\r\n\r\n"
        elif self.scope["method"] == "HEAD":
            data = b""
        else:
            self._left -= len(body)
            if self._left < 0 or (self._left and not more):
                raise AnswerError("the body is not as long as its head said")
            data = body
        transport = self._connection.transport
        if self._head:
            if len(data) > _COPIED:
                transport.write(self._head)
            else:
                data = self._head + data
            self._head = b""
        if data:
            transport.write(data)
        if not more:
            self.complete = True
            self._tell()
            if not self.keep_alive:
                transport.close()
            self._connection.answered()


def _line(name: bytes, value: bytes) -> bytes:
    if _NAME.fullmatch(name) is None or _VALUE.fullmatch(value) is None:
        raise AnswerError(f"the header {name!r} cannot be sent")
    return b"%b: %b\r\n" % (name, value)
