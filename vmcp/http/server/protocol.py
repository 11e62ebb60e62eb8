"""The HTTP/1.1 side of a client's connection: httptools, one cycle per request, and bounds on size and time.

httptools reads heads of any size and waits for ever. Here a head beyond its limit is answered with 431, and a sweep
(`vmcp.http.server.sweep`) closes connections that take too long to say what they want (slowloris) with 408, those that
say nothing for long without a word, and those that do not take what they asked for. uvicorn makes these objects, one
per connection, and ends them.

Answers keep the order of their requests, refusals included.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any, Final, cast

import httptools
from uvicorn.config import Config
from uvicorn.server import ServerState

from vmcp.http.server.cycle import Cycle
from vmcp.http.server.door import Door, address_of
from vmcp.http.server.parser import parser_behind, parser_for, split_target

MAX_HEAD: Final = 64 * 1024
"""Bytes of the request line and all headers."""
MAX_FIELDS: Final = 256
"""Headers of one request: 64 KiB hold 16,000 of them, and each costs time."""
HEAD_SECONDS: Final = 10.0
"""From the first byte of a request (or the connection's begin) to the end of its head."""
BODY_SECONDS: Final = 60.0
"""From the end of the head to the end of the body."""
LINGER_SECONDS: Final = 2.0
"""How long what a refused client still sends is taken and dropped."""
WRITE_SECONDS: Final = 30.0
"""How long a client may leave an answer untouched that waits for it."""
WRITE_RATE: Final = 1024
"""Bytes per second that it has to take of one."""
MAX_WAITING: Final = 16
"""Requests of one connection that wait for the answer to the one before (pipelining); more stay unread."""
PIECE: Final = 4096
"""Bytes that are parsed at once where they can hold many requests: one read can bring thousands of them."""
_BODY_PIECE: Final = 64 * 1024

_TOO_LARGE = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"the headers are too large"}}'
_TOO_SLOW = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"the request took too long to arrive"}}'
_TOO_MANY = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"too many connections"}}'
_NO_TUNNEL = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"this server is not a proxy"}}'
_INVALID = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"the request is not valid HTTP"}}'
_METHODS = {method.encode(): method for method in ("POST", "GET", "DELETE", "OPTIONS", "HEAD")}
_ASGI = {"version": "3.0", "spec_version": "2.3"}


class GuardedProtocol(asyncio.Protocol):
    """One connection.

    Attributes:
        transport: Towards the client.
        due: `time.monotonic()` after which the connection is closed; None = a request is being answered.
        head_bytes: Of the head that arrives now.
    """

    __slots__ = (
        "_address",
        "_app",
        "_called",
        "_client",
        "_connections",
        "_cycle",
        "_door",
        "_drained",
        "_headers",
        "_idle",
        "_in_head",
        "_incoming",
        "_keep_alive",
        "_loop",
        "_parser",
        "_parsing",
        "_reading",
        "_refusal",
        "_refused",
        "_server",
        "_stalled",
        "_tasks",
        "_unread",
        "_upgrading",
        "_url",
        "_waiting",
        "_worker",
        "due",
        "head_bytes",
        "transport",
    )

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],  # noqa: ARG002  uvicorn's signature
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        door: Door | None = None,
    ) -> None:
        """Take uvicorn's settings, the sets in which it looks for connections and tasks to end, and who may come in."""
        if not config.loaded:
            config.load()
        self._app = config.loaded_app
        self._keep_alive = config.timeout_keep_alive
        self._loop = _loop or asyncio.get_running_loop()
        self._connections = server_state.connections
        self._tasks = server_state.tasks
        self._door = door
        self._address: str | None = None
        self._parser: httptools.HttpRequestParser | None = parser_for(self)
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # until the connection is made
        self._server: tuple[str, int] | None = None
        self._client: tuple[str, int] | None = None
        self._cycle: Cycle | None = None
        self._incoming: Cycle | None = None
        self._waiting: list[Cycle] = []
        self._worker: asyncio.Task[None] | None = None
        self._called: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._reading = True
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._in_head = True
        self._idle = False
        self._refused = False
        self._refusal = b""
        self._upgrading = False
        self._parsing = False
        self._unread: memoryview | None = None
        self._stalled: tuple[float, int] | None = None
        self.due: float | None = None
        self.head_bytes = 0

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the clock: a connection that never says anything is slow, too."""
        self.transport = cast("asyncio.Transport", transport)
        self._connections.add(self)  # type: ignore[arg-type]  # all that uvicorn asks of one is here
        self._server = address_of(transport.get_extra_info("sockname"))
        self._client = address_of(transport.get_extra_info("peername"))
        self.due = monotonic() + HEAD_SECONDS
        if self._door is not None:
            address = self._client[0] if self._client is not None else ""
            if self._door.enter(address):
                self._address = address
            else:
                self._turn_away()

    def data_received(self, data: bytes) -> None:
        """Parse. What can hold many requests is parsed bit by bit, and no further while enough of them wait."""
        if self._refused or self._parser is None:
            return
        if self._unread is not None:
            # Reading is paused, but what was on its way may still come.
            self._unread = memoryview(bytes(self._unread) + data)
        else:
            parsed = self._parse(data) if len(data) <= PIECE else 0
            if parsed < len(data):
                self._unread = memoryview(data)[parsed:]
                self._parse_unread()

    def _parse_unread(self) -> None:
        if self._parsing:
            return
        self._parsing = True
        try:
            while (left := self._unread) is not None and not self._refused and self._parser is not None:
                if len(self._waiting) >= MAX_WAITING:
                    self.may_read(more=False)
                    return
                size = PIECE if self._in_head or self._waiting else _BODY_PIECE
                parsed = self._parse(left[:size])
                self._unread = left[parsed:] if len(left) > parsed and not self._refused else None
        finally:
            self._parsing = False

    def _parse(self, data: bytes | memoryview) -> int:
        """Feed the parser and return how much it took: less than all behind a request that asks for an upgrade.

        What belongs to a head is counted even before the parser has seen its end.
        """
        parsed = len(data)
        if self._in_head:
            self.head_bytes += len(data)
            if self.due is None or self._idle:
                self._idle = False
                self.due = monotonic() + HEAD_SECONDS
        try:
            self._parser.feed_data(data)  # type: ignore[union-attr]  # the caller looked
        except httptools.HttpParserUpgrade as upgrade:
            parsed = upgrade.args[0]
            self._go_on()
        except httptools.HttpParserError:
            self._refuse(b"400 Bad Request", _INVALID)
        if self._in_head and (self.head_bytes > MAX_HEAD or len(self._headers) > MAX_FIELDS):
            self._refuse(b"431 Request Header Fields Too Large", _TOO_LARGE)
        return parsed

    def _go_on(self) -> None:
        """Read on behind the head of a request that asks for an upgrade: its body is a body like any other."""
        old, self._upgrading = self._parser, False
        if self._refused or old is None:
            return
        if old.get_method() == b"CONNECT":
            self._refuse(b"405 Method Not Allowed", _NO_TUNNEL)
            return
        try:
            self._parser = parser_behind(old, self._headers, self)
        except httptools.HttpParserError:  # what frames the body is judged only where there is no upgrade
            self._refuse(b"400 Bad Request", _INVALID)

    def eof_received(self) -> None:
        """Let the transport close."""

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  gone is gone
        """Tell who still answers."""
        self._connections.discard(self)
        if self._door is not None and self._address is not None:
            self._door.leave(self._address)
            self._address = None
        self._unread = None
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
        self._stalled = None
        if drained is not None and not drained.done():
            drained.set_result(None)

    def shutdown(self) -> None:
        """Close, after the answer that is under way."""
        if self._cycle is None or self._cycle.complete:
            self.transport.close()
        else:
            self._cycle.keep_alive = False

    @property
    def held_up(self) -> bool:
        """An answer waits for the client."""
        return self._drained is not None or self.transport.is_closing()

    # --- for cycles ---

    def may_write(self) -> asyncio.Future[None] | None:
        """See `vmcp.http.server.cycle.ServerConnection`."""
        return None if self._drained is None else asyncio.shield(self._drained)

    def may_read(self, *, more: bool) -> None:
        """See `vmcp.http.server.cycle.ServerConnection`."""
        if more is self._reading or self.transport.is_closing():
            return
        if more and (self._waiting or self._unread is not None):
            return
        self._reading = more
        if more:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    def answered(self) -> None:
        """See `vmcp.http.server.cycle.ServerConnection`."""
        if self.transport.is_closing():
            return
        if self._waiting:
            self._begin(self._waiting.pop(0))
        elif self._refusal:
            self._end(self._refusal)
            return
        elif self._in_head and self.due is None:
            self._idle = True
            self.due = monotonic() + self._keep_alive
        if self._unread is not None:
            self._parse_unread()
        self.may_read(more=True)

    # --- httptools ---

    def on_message_begin(self) -> None:
        """Make room for a head."""
        self._url = b""
        self._headers = []

    def on_url(self, url: bytes) -> None:
        """Take a part of the target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header. Trailers are dropped: who read the headers before them read others (RFC 9110, 6.5.1)."""
        if self._in_head:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is whole: the body has its own time."""
        self._in_head = False
        self.due = monotonic() + BODY_SECONDS
        # The count may include the begin of a body that came along; only then is the head itself measured.
        large = self.head_bytes > MAX_HEAD and self._head_size() > MAX_HEAD
        if self._refused or large or len(self._headers) > MAX_FIELDS:
            self._refuse(b"431 Request Header Fields Too Large", _TOO_LARGE)
            return
        parser = self._parser
        assert parser is not None
        self._upgrading = parser.should_upgrade()
        if self._upgrading and parser.get_method() == b"CONNECT":
            return  # its target is no path; see `_go_on`
        version = parser.get_http_version()
        path, raw_path, query = split_target(self._url)
        scope = {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "server": self._server,
            "client": self._client,
            "scheme": "http",
            "method": _METHODS.get(method := parser.get_method()) or method.decode("ascii"),
            "root_path": "",
            "path": path,
            "raw_path": raw_path,
            "query_string": query,
            "headers": self._headers,
        }
        before = self._cycle
        keep_alive = version != "1.0" and parser.should_keep_alive()
        cycle = self._incoming = Cycle(self, scope, keep_alive=keep_alive)
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
                else:
                    # The next one was waiting already (pipelining): others come first.
                    await asyncio.sleep(0)
        finally:
            self._tasks.discard(task)
            if self.transport.is_closing():
                self._cycle = None  # it knows its connection: the two would wait for a collection of garbage

    def _head_size(self) -> int:
        return len(self._url) + sum(len(name) + len(value) + 4 for name, value in self._headers)

    def on_body(self, body: bytes) -> None:
        """Take a part of the body, unless nobody wants it."""
        if not self._refused:
            self._incoming.feed(body)  # type: ignore[union-attr]  # set since the end of the head

    def on_message_complete(self) -> None:
        """The request is whole: no clock runs until the next one begins."""
        if self._refused or self._upgrading:
            return
        cycle, self._incoming = self._incoming, None
        assert cycle is not None
        cycle.end()
        self._in_head = True
        self.head_bytes = 0
        self.due = None
        if cycle.complete:
            self.answered()

    # --- refusals ---

    def _refuse(self, status: bytes, body: bytes) -> None:
        """Answer and end, after the answers to the requests before. Nothing more is read of this client."""
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        self.due = None
        self._unread = None
        refusal = _refusal(status, body)
        cut, self._incoming = self._incoming, None
        if cut is not None:
            cut.lost()
            if cut in self._waiting:
                self._waiting.remove(cut)
        if self._waiting or (self._cycle is not None and self._cycle is not cut and not self._cycle.complete):
            self._refusal = refusal
        elif cut is not None and cut.started:
            self.transport.abort()  # what was answered cannot be answered again
        else:
            self._end(refusal)

    def _turn_away(self) -> None:
        """Say that there are too many connections, and keep nothing of this one."""
        self._refused = True
        self.due = None
        self.transport.write(_refusal(b"503 Service Unavailable", _TOO_MANY))
        self.transport.close()

    def _end(self, refusal: bytes) -> None:
        """Say why and close. What still arrives is dropped for a moment: closing at once would take the answer away."""
        self._refusal = b""
        self.transport.write(refusal)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._loop.call_later(LINGER_SECONDS, self.transport.close)

    # --- the clock ---

    def overdue(self) -> None:
        """Close: what was promised did not come, or nothing was said for long."""
        self.due = None
        if self._idle or (self._cycle is not None and self._cycle.started and not self._cycle.complete):
            self.transport.close()
        else:
            self._refuse(b"408 Request Timeout", _TOO_SLOW)

    def stalled(self, now: float) -> bool:
        """Whether the client lets an answer wait, or the end of the connection, and does not even take it slowly."""
        if not self.held_up:
            return False
        left = self.transport.get_write_buffer_size()
        if self._stalled is None:
            self._stalled = (now, left)
            return False
        since, before = self._stalled
        if now - since < WRITE_SECONDS:
            return False
        # Nothing is added while a client is slow, so what is missing was taken.
        self._stalled = (now, left)
        return before - left < WRITE_RATE * WRITE_SECONDS


def _refusal(status: bytes, body: bytes) -> bytes:
    head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
    return head % (status, len(body)) + body
