"""The HTTP/1.1 side of a client's connection: httptools, one cycle per request, and bounds on size and time.

httptools reads heads of any size and waits for ever. Here a head beyond its limit is answered with 431, and `sweep`,
called now and then, closes connections that take too long to say what they want (slowloris) with 408, and those that
say nothing for long without a word. uvicorn makes these objects, one per connection, and ends them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from time import monotonic
from typing import Any, Final, cast
from urllib.parse import unquote

import httptools
from uvicorn.config import Config
from uvicorn.server import ServerState

from vmcp.http.server.cycle import Cycle

MAX_HEAD: Final = 64 * 1024
"""Bytes of the request line and all headers."""
HEAD_SECONDS: Final = 10.0
"""From the first byte of a request (or the connection's begin) to the end of its head."""
BODY_SECONDS: Final = 60.0
"""From the end of the head to the end of the body."""
LINGER_SECONDS: Final = 2.0
"""How long what a refused client still sends is taken and dropped."""
MAX_PATHS: Final = 256
"""Targets that are kept in the form in which the application wants them."""

_TOO_LARGE = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"the headers are too large"}}'
_TOO_SLOW = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"the request took too long to arrive"}}'
_INVALID = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"the request is not valid HTTP"}}'
_ASGI = {"version": "3.0", "spec_version": "2.3"}

_paths: dict[bytes, tuple[str, bytes, bytes]] = {}


class GuardedProtocol(asyncio.Protocol):
    """One connection.

    Attributes:
        transport: Towards the client.
        due: `time.monotonic()` after which the connection is closed; None = a request is being answered.
        head_bytes: Of the head that arrives now.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],  # noqa: ARG002  uvicorn's signature
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """Take uvicorn's settings and the sets in which it looks for connections and tasks to end."""
        if not config.loaded:
            config.load()
        self._app = config.loaded_app
        self._keep_alive = config.timeout_keep_alive
        self._loop = _loop or asyncio.get_running_loop()
        self._connections = server_state.connections
        self._tasks = server_state.tasks
        parser = httptools.HttpRequestParser(self)
        # A request that ends the connection is answered even when somebody sent more behind it.
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._parser: httptools.HttpRequestParser | None = parser
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # until the connection is made
        self._server: tuple[str, int] | None = None
        self._client: tuple[str, int] | None = None
        self._cycle: Cycle | None = None
        self._waiting: deque[Cycle] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._called: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._reading = True
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._expects = False
        self._in_head = True
        self._idle = False
        self._refused = False
        self.due: float | None = None
        self.head_bytes = 0

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the clock: a connection that never says anything is slow, too."""
        self.transport = cast("asyncio.Transport", transport)
        self._connections.add(self)  # type: ignore[arg-type]  # all that uvicorn asks of one is here
        self._server = _address(transport.get_extra_info("sockname"))
        self._client = _address(transport.get_extra_info("peername"))
        self.due = monotonic() + HEAD_SECONDS

    def data_received(self, data: bytes) -> None:
        """Parse. What belongs to a head is counted even before the parser has seen its end."""
        if self._refused or self._parser is None:
            return
        if self._in_head:
            self.head_bytes += len(data)
            if self.due is None or self._idle:
                self._idle = False
                self.due = monotonic() + HEAD_SECONDS
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # nothing to upgrade to: the request itself was read and is answered as any other
        except httptools.HttpParserError:
            self._refuse(b"400 Bad Request", _INVALID)
            return
        if self._in_head and self.head_bytes > MAX_HEAD:
            self._refuse(b"431 Request Header Fields Too Large", _TOO_LARGE)

    def eof_received(self) -> None:
        """Let the transport close."""

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  gone is gone
        """Tell who still answers."""
        self._connections.discard(self)
        for cycle in (self._cycle, *self._waiting):
            if cycle is not None:
                cycle.lost()
        self._waiting.clear()
        self.resume_writing()
        self.due = None
        self._parser = None
        if self._called is not None and not self._called.done():
            self._called.set_result(None)

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        if self._drained is None:
            self._drained = self._loop.create_future()

    def resume_writing(self) -> None:
        """It reads again, or is gone."""
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    def shutdown(self) -> None:
        """Close, after the answer that is under way."""
        if self._cycle is None or self._cycle.complete:
            self.transport.close()
        else:
            self._cycle.keep_alive = False

    # --- for cycles ---

    def may_write(self) -> asyncio.Future[None] | None:
        """See `vmcp.http.server.cycle.Connection`."""
        return None if self._drained is None else asyncio.shield(self._drained)

    def may_read(self, *, more: bool) -> None:
        """See `vmcp.http.server.cycle.Connection`."""
        if more is self._reading or self.transport.is_closing():
            return
        self._reading = more
        if more:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    def answered(self) -> None:
        """See `vmcp.http.server.cycle.Connection`."""
        if self.transport.is_closing():
            return
        if self._waiting:
            self._begin(self._waiting.popleft())
        elif self._in_head and self.due is None:
            self._idle = True
            self.due = monotonic() + self._keep_alive
        self.may_read(more=True)

    # --- httptools ---

    def on_message_begin(self) -> None:
        """Make room for a head."""
        self._url = b""
        self._headers = []
        self._expects = False

    def on_url(self, url: bytes) -> None:
        """Take a part of the target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self._expects = True
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is whole: the body has its own time."""
        self._in_head = False
        self.due = monotonic() + BODY_SECONDS
        # The count may include the begin of a body that came along; only then is the head itself measured.
        if self._refused or (self.head_bytes > MAX_HEAD and self._head_size() > MAX_HEAD):
            self._refuse(b"431 Request Header Fields Too Large", _TOO_LARGE)
            return
        parser = self._parser
        assert parser is not None
        version = parser.get_http_version()
        path, raw_path, query = _paths.get(self._url) or _split(self._url)
        scope = {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "server": self._server,
            "client": self._client,
            "scheme": "http",
            "method": parser.get_method().decode("ascii"),
            "root_path": "",
            "path": path,
            "raw_path": raw_path,
            "query_string": query,
            "headers": self._headers,
        }
        before = self._cycle
        keep_alive = version != "1.0" and parser.should_keep_alive()
        cycle = Cycle(self, scope, keep_alive=keep_alive, expects=self._expects)
        if before is None or (before.complete and not self._waiting):
            self._begin(cycle)
        else:
            # A request that came before the answer to the one before (pipelining) waits for it.
            self.may_read(more=False)
            self._waiting.append(cycle)

    def _begin(self, cycle: Cycle) -> None:
        self._cycle = cycle
        if self._worker is None or self._worker.done():
            self._worker = self._loop.create_task(self._work(), name="client")
        elif self._called is not None and not self._called.done():
            self._called.set_result(None)
        self._tasks.add(self._worker)

    async def _work(self) -> None:
        """Answer one request after the other: a task for each would cost more than some of their parts."""
        task = self._worker
        assert task is not None
        try:
            while True:
                cycle = self._cycle
                assert cycle is not None
                await cycle.run(self._app)
                if self.transport.is_closing():
                    return
                if cycle is self._cycle:
                    # uvicorn waits for tasks that are in its set: only while there is something to answer.
                    self._tasks.discard(task)
                    self._called = self._loop.create_future()
                    await self._called
                    if self._parser is None:
                        return
        finally:
            self._tasks.discard(task)

    def _head_size(self) -> int:
        return len(self._url) + sum(len(name) + len(value) + 4 for name, value in self._headers)

    def on_body(self, body: bytes) -> None:
        """Take a part of the body, unless nobody wants it."""
        if not self._refused:
            self._newest().feed(body)

    def on_message_complete(self) -> None:
        """The request is whole: no clock runs until the next one begins."""
        if self._refused:
            return
        cycle = self._newest()
        cycle.end()
        self._in_head = True
        self.head_bytes = 0
        self.due = None
        if cycle.complete:
            self.answered()

    def _newest(self) -> Cycle:
        cycle = self._waiting[-1] if self._waiting else self._cycle
        assert cycle is not None
        return cycle

    # --- refusals ---

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
        self._loop.call_later(LINGER_SECONDS, self.transport.close)

    def overdue(self) -> None:
        """Close: what was promised did not come, or nothing was said for long."""
        self.due = None
        if self._idle or (self._cycle is not None and self._cycle.started and not self._cycle.complete):
            self.transport.close()
        else:
            self._refuse(b"408 Request Timeout", _TOO_SLOW)


def sweep(connections: Iterable[Any]) -> int:
    """Close the connections that are overdue; return how many."""
    now = monotonic()
    overdue = [c for c in connections if isinstance(c, GuardedProtocol) and c.due is not None and c.due < now]
    for connection in overdue:
        connection.overdue()
    return len(overdue)


def _address(found: Any) -> tuple[str, int] | None:
    return (str(found[0]), int(found[1])) if isinstance(found, tuple | list) and len(found) >= 2 else None


def _split(url: bytes) -> tuple[str, bytes, bytes]:
    """Return path, raw path and query of a target.

    Raises:
        HttpParserInvalidURLError: It is none.
    """
    parsed = httptools.parse_url(url)
    raw = parsed.path or b"/"
    path = raw.decode("ascii")
    found = (unquote(path) if "%" in path else path, raw, parsed.query or b"")
    if len(url) <= 256:
        if len(_paths) >= MAX_PATHS:
            _paths.clear()
        _paths[url] = found
    return found
