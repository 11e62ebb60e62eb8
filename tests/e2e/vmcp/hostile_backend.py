"""An MCP server of either era, in the test's own process, that does what no server should.

What it does to lists and handshakes is its character (`Hostile("name", character="loop")`); what it does to a call is
the call's argument `how`, so that one server shows every fault, and a good answer in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from typing import Any, Self

from tests.e2e.vmcp.kit import Named

MODERN = "2026-07-28"
ELSEWHERE = "http://127.0.0.1:{port}/latest/meta-data"


class Line:
    """One connection, and the request that is on it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.message: dict[str, Any] = {}
        self.headers: dict[str, str] = {}
        self.verb = ""

    async def next(self) -> None:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip().split("\r\n")
        self.verb = first.split(" ")[0]
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await self.reader.readexactly(int(self.headers.get("content-length", "0")))
        self.message = json.loads(body) if body else {}

    async def raw(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, value: Any, status: int = 200, kind: str = "application/json", **headers: str) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        extra = "".join(f"{name.replace('_', '-')}: {text}\r\n" for name, text in headers.items())
        head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n{extra}\r\n"
        await self.raw(head.encode() + body)

    async def result(self, result: Any, **headers: str) -> None:
        await self.answer({"jsonrpc": "2.0", "id": self.message.get("id"), "result": result}, **headers)

    async def error(self, code: int, status: int, data: Any = None) -> None:
        error = {"code": code, "message": "no", **({} if data is None else {"data": data})}
        await self.answer({"jsonrpc": "2.0", "id": self.message.get("id"), "error": error}, status)

    async def stream(self) -> None:
        await self.raw(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")

    async def chunk(self, data: bytes) -> None:
        await self.raw(b"%x\r\n%b\r\n" % (len(data), data))

    async def gone(self) -> None:
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass


async def never(line: Line) -> None:
    await line.gone()


async def garbage(line: Line) -> None:
    await line.raw(b"\x00\xff\xfe garbage\r\n\r\n")
    line.writer.close()


async def no_json(line: Line) -> None:
    await line.answer(b"<html>welcome</html>", kind="text/html")


async def broken_json(line: Line) -> None:
    await line.answer(b'{"jsonrpc":"2.0","id":1,"result":{"content":[')


async def deep_json(line: Line) -> None:
    await line.answer(b'{"jsonrpc":"2.0","id":1,"result":' + b"[" * 200_000)


async def another_answer(line: Line) -> None:
    line.message = {**line.message, "id": line.message["id"] + 1000}
    await line.result({"content": [{"type": "text", "text": "somebody else's"}]})


async def twice(line: Line) -> None:
    """A good answer with a second one behind it, which the next call on the connection would get."""
    body = json.dumps({"jsonrpc": "2.0", "id": line.message["id"], "result": good(line)}).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    await line.raw((head + body) * 2)


async def closes(line: Line) -> None:
    line.writer.close()


async def closes_in_a_body(line: Line) -> None:
    await line.raw(b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 999\r\n\r\n{"jsonrpc"')
    line.writer.close()


async def closes_in_a_stream(line: Line) -> None:
    await line.stream()
    await line.chunk(b'data: {"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info"}}\n\n')
    line.writer.close()


async def endless_stream(line: Line) -> None:
    await line.stream()
    while True:
        await line.chunk(b'data: {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":9}}\n\n')
        await asyncio.sleep(0.001)


async def endless_event(line: Line) -> None:
    await line.stream()
    while True:
        await line.chunk(b"data: " + b"x" * 65536 + b"\n")
        await asyncio.sleep(0)


async def endless_body(line: Line) -> None:
    await line.raw(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
    while True:
        await line.raw(b" " * 65536)
        await asyncio.sleep(0)


async def endless_head(line: Line) -> None:
    await line.raw(b"HTTP/1.1 200 OK\r\n")
    while True:
        await line.raw(b"x-more: " + b"a" * 8192 + b"\r\n")
        await asyncio.sleep(0)


async def splits_the_answer(line: Line) -> None:
    """A session id that would be two headers, if it were copied."""
    await line.raw(b"HTTP/1.1 200 OK\r\nmcp-session-id: a\rX-Evil: 1\r\ncontent-length: 0\r\n\r\n")
    line.writer.close()


Fault = Callable[[Line], Awaitable[None]]

FAULTS: dict[str, Fault] = {
    fault.__name__: fault
    for fault in (
        never,
        garbage,
        no_json,
        broken_json,
        deep_json,
        another_answer,
        closes,
        closes_in_a_body,
        closes_in_a_stream,
        endless_stream,
        endless_event,
        endless_body,
        endless_head,
        splits_the_answer,
    )
}


def good(line: Line) -> dict[str, Any]:
    """Return the right result of a call: the question's own nonce."""
    nonce = line.message["params"]["arguments"].get("nonce")
    content = [{"type": "text", "text": json.dumps({"nonce": nonce})}]
    return {"content": content} | ({"resultType": "complete"} if MODERN in str(line.message) else {})


class Hostile(Named):
    """`async with Hostile("name") as backend`.

    Characters: `plain` (only calls misbehave), `loop` (a cursor comes again), `endless` (cursors never end), `gigantic`
    (a list beyond every bound), `silent` (never says a word), `closes` (hangs up at once), `babbles` (says nonsense),
    `liar` (claims the modern era and speaks none), `flips` (another era at each request).
    """

    def __init__(self, name: str, *, modern: bool = False, character: str = "plain", elsewhere: int = 0) -> None:
        self.name, self.modern, self.character, self.elsewhere = name, modern, character, elsewhere
        self.posts: list[str] = []
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._tasks.add(task)
        line = Line(reader, writer)
        try:
            while not writer.is_closing():
                await line.next()
                self.posts.append(line.message.get("method", line.verb))
                await self._serve(line)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _serve(self, line: Line) -> None:
        match self.character:
            case "silent":
                await never(line)
            case "closes":
                await closes(line)
            case "babbles":
                await garbage(line)
            case "liar" if line.message.get("method") == "server/discover":
                await self._discovered(line)
            case "liar":
                await line.error(-32000, 400)
            case "flips":
                self.modern = not self.modern
                await self._speak(line)
            case _:
                await self._speak(line)

    async def _speak(self, line: Line) -> None:
        method = line.message.get("method")
        if line.verb != "POST":
            await line.answer(b"", 405)
        elif self.modern and line.headers.get("mcp-protocol-version") != MODERN:
            await line.error(-32022, 400, {"supported": [MODERN], "requested": "2025-11-25"})
        elif not self.modern and method == "server/discover":
            await line.error(-32601, 404)
        elif "id" not in line.message:
            await line.answer(b"", 202)
        elif method == "server/discover":
            await self._discovered(line)
        elif method == "initialize":
            info = {"name": self.name, "version": "1"}
            result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": info}
            await line.result(result, mcp_session_id="s")
        elif method == "tools/list":
            await line.result(self._page(line.message.get("params", {})))
        elif method == "tools/call":
            await self._called(line)
        else:
            await line.result({"resultType": "complete"} if self.modern else {})

    async def _discovered(self, line: Line) -> None:
        await line.result({"resultType": "complete", "supportedVersions": [MODERN], "capabilities": {"tools": {}}})

    def _page(self, params: dict[str, Any]) -> dict[str, Any]:
        page: dict[str, Any] = {"resultType": "complete"} if self.modern else {}
        schema = {"type": "object"}
        match self.character:
            case "loop":
                return page | {"tools": [{"name": f"t{len(self.posts)}", "inputSchema": schema}], "nextCursor": "again"}
            case "endless":
                tools = [{"name": f"t{len(self.posts)}", "inputSchema": schema}]
                return page | {
                    "tools": tools,
                    "nextCursor": f"{params.get('cursor', '')}x"[-20:] + str(len(self.posts)),
                }
            case "gigantic":
                return page | {"tools": [{"name": f"t{number}", "inputSchema": schema} for number in range(60_000)]}
        return page | {"tools": [{"name": "call", "inputSchema": schema}]}

    async def _called(self, line: Line) -> None:
        how = line.message["params"]["arguments"].get("how", "good")
        if how == "redirects":
            await line.answer({}, 307, location=ELSEWHERE.format(port=self.elsewhere))
        elif how == "twice":
            await twice(line)
        elif how == "good":
            await line.result(good(line))
        else:
            await FAULTS[how](line)
