"""A scripted MCP server over real sockets, and backends in front of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio

from tests.support.hurried_time import HurriedTime
from vmcp.backend.backend import McpBackend
from vmcp.backend.interface import BackendSettings

MODERN = "2026-07-28"


class Auth:
    """Outgoing auth that a test can steer."""

    def __init__(self, method: str = "unauthenticated", **headers: str) -> None:
        self.method = method
        self.pairs = tuple((name.replace("_", "-"), value) for name, value in headers.items())
        self.error: Exception | None = None
        self.probe_error: Exception | None = None
        self.dropped: list[Any] = []

    async def headers(self, principal: Any, *, deadline: float) -> tuple[tuple[str, str], ...]:
        if self.error is not None:
            raise self.error
        return tuple((name, value.replace("{sub}", principal.subject)) for name, value in self.pairs)

    async def probe_headers(self, *, deadline: float) -> tuple[tuple[str, str], ...]:
        if self.probe_error is not None:
            raise self.probe_error
        return self.pairs

    def rejected(self, principal: Any) -> bool:
        self.dropped.append(principal)
        return self.method == "token_exchange"

    async def close(self) -> None:
        pass


@dataclass
class Request:
    """One HTTP request as it came."""

    verb: str
    target: str
    headers: dict[str, str]
    raw_headers: list[tuple[str, str]]
    body: bytes
    peer: Peer = field(repr=False)

    @property
    def message(self) -> dict[str, Any]:
        return json.loads(self.body) if self.body else {}

    @property
    def method(self) -> str:
        return self.message.get("method", "")

    @property
    def id(self) -> Any:
        return self.message.get("id")


class Peer:
    """Writes answers on one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def raw(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def json(self, value: Any, status: int = 200, **headers: str) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        extra = "".join(f"{name.replace('_', '-')}: {text}\r\n" for name, text in headers.items())
        head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n{extra}\r\n"
        await self.raw(head.encode() + body)

    async def result(self, request: Request, result: Any, **headers: str) -> None:
        await self.json({"jsonrpc": "2.0", "id": request.id, "result": result}, **headers)

    async def error(
        self, request: Request, code: int, status: int = 200, message: str = "no", data: Any = None, **members: Any
    ) -> None:
        error = {"code": code, "message": message, **({} if data is None else {"data": data})}
        await self.json({"jsonrpc": "2.0", "id": request.id, "error": error, **members}, status)

    async def text(self, text: str, status: int, kind: str = "text/plain") -> None:
        head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(text.encode())}\r\n\r\n"
        await self.raw((head + text).encode())

    async def accept(self) -> None:
        await self.raw(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")

    async def stream(self) -> None:
        await self.raw(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")

    async def event(self, value: Any, **fields: str) -> None:
        data = value if isinstance(value, str) else json.dumps(value)
        frame = "".join(f"{name}: {text}\n" for name, text in fields.items()) + f"data: {data}\n\n"
        await self.raw(f"{len(frame.encode()):x}\r\n{frame}\r\n".encode())

    async def end(self) -> None:
        await self.raw(b"0\r\n\r\n")

    async def gone(self) -> None:
        """Wait until the other side closes."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass


Handler = Callable[[Request], Awaitable[None]]


class McpScript:
    """A legacy server by default; a test replaces what it wants to be different.

    Attributes:
        on: Handlers by JSON-RPC method, or by verb for GET and DELETE.
        seen: Every request.
        capabilities: What initialize announces.
        tools: What tools/list answers.
    """

    def __init__(self) -> None:
        self.on: dict[str, Handler] = {}
        self.seen: list[Request] = []
        self.capabilities: dict[str, Any] = {"tools": {}}
        self.tools: list[dict[str, Any]] = [{"name": "echo", "inputSchema": {"type": "object"}}]
        self.sessions = 0
        self.live: set[str] = set()
        self.failures: list[BaseException] = []
        self.port = 0
        self.url = ""
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    async def start(self, *, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", port, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/mcp"

    async def stop(self) -> None:
        """Close the listener and every connection, as a killed server would."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def posts(self, method: str) -> list[Request]:
        return [request for request in self.seen if request.verb == "POST" and request.method == method]

    def verbs(self, verb: str) -> list[Request]:
        return [request for request in self.seen if request.verb == verb]

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        peer = Peer(reader, writer)
        try:
            while True:
                await self.handle(await self._read(peer))
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        except BaseException as err:
            self.failures.append(err)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _read(self, peer: Peer) -> Request:
        head = (await peer.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip().split("\r\n")
        pairs = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        headers = dict(pairs)
        body = await peer.reader.readexactly(int(headers.get("content-length", "0")))
        verb, target, _ = first.split(" ")
        request = Request(verb, target, headers, pairs, body, peer)
        self.seen.append(request)
        return request

    async def handle(self, request: Request) -> None:
        key = request.method if request.verb == "POST" else request.verb
        handler = self.on.get(key) or (self.on.get("*") if request.verb == "POST" else None)
        if handler is not None:
            await handler(request)
        else:
            await self.default(request)

    async def default(self, request: Request) -> None:
        """Answer as a well-behaved legacy server does."""
        peer = request.peer
        if request.verb == "GET":
            await peer.json({}, 405)
        elif request.verb == "DELETE":
            self.live.discard(request.headers.get("mcp-session-id", ""))
            await peer.json({})
        elif request.headers.get("mcp-protocol-version") == MODERN:
            await peer.error(request, -32000, 400, "Bad Request: no valid session")
        elif request.method == "initialize":
            await self.initialize(request)
        elif request.headers.get("mcp-session-id") not in self.live:
            await peer.error(request, -32001, 404, "Session not found")
        elif request.id is None or not request.method:
            await peer.accept()
        else:
            await self.answer(request)

    async def initialize(self, request: Request) -> None:
        self.sessions += 1
        session = f"session-{self.sessions}"
        self.live.add(session)
        result = {
            "protocolVersion": "2025-11-25",
            "capabilities": self.capabilities,
            "serverInfo": {"name": "script", "version": "1"},
        }
        await request.peer.result(request, result, mcp_session_id=session)

    async def answer(self, request: Request) -> None:
        match request.method:
            case "ping":
                await request.peer.result(request, {})
            case "tools/list":
                await request.peer.result(request, {"tools": self.tools})
            case "tools/call":
                content = [{"type": "text", "text": json.dumps(request.message["params"].get("arguments"))}]
                await request.peer.result(request, {"content": content})
            case _:
                await request.peer.error(request, -32601)

    def be_dual(self) -> None:
        """Turn into a server of both eras."""
        self.be_modern()
        modern = self.on["*"]

        async def either(request: Request) -> None:
            is_modern = request.headers.get("mcp-protocol-version") == MODERN
            await (modern(request) if is_modern else self.default(request))

        self.on["*"] = either

    def be_modern(self, **capabilities: Any) -> None:
        """Turn into a modern server that offers `echo`."""
        self.capabilities = capabilities or {"tools": {}}

        async def everything(request: Request) -> None:
            meta = request.message.get("params", {}).get("_meta", {})
            if (
                request.headers.get("mcp-protocol-version") != MODERN
                or "io.modelcontextprotocol/protocolVersion" not in meta
            ):
                data = {"supported": [MODERN], "requested": "2025-11-25"}
                await request.peer.error(request, -32022, 400, "unsupported", data)
                return
            done = {"resultType": "complete", "ttlMs": 60000, "cacheScope": "public"}
            match request.method:
                case "server/discover":
                    result = {"supportedVersions": [MODERN], "capabilities": self.capabilities, **done}
                case "tools/list":
                    result = {"tools": self.tools, **done}
                case "tools/call":
                    content = [{"type": "text", "text": json.dumps(request.message["params"].get("arguments"))}]
                    result = {"content": content, "resultType": "complete"}
                case _:
                    await request.peer.error(request, -32601, 404)
                    return
            await request.peer.result(request, result)

        self.on["*"] = everything


def tool_of(name: Any, **members: Any) -> dict[str, Any]:
    """Return a tool with what the specification requires of one."""
    return {"name": name, "inputSchema": {"type": "object"}, **members}


class Harness:
    """Makes backends and closes them.

    Attributes:
        time: The clock, once a backend was made with `fast` (it skips idle time) or with `stepped` (the test moves it).
    """

    def __init__(self) -> None:
        self.made: list[McpBackend] = []
        self.time: HurriedTime

    def __call__(
        self, url: str, *, auth: Auth | None = None, fast: bool = False, stepped: bool = False, **settings: Any
    ) -> McpBackend:
        if fast or stepped:
            self.time = HurriedTime(jumps=fast)
        resolve = settings.pop("resolve", None)
        defaults: dict[str, Any] = {"name": "remote", "health_interval": None, "timeout": 5.0, "health_timeout": 2.0}
        backend = McpBackend(BackendSettings(url=url, **(defaults | settings)), auth or Auth(), resolve=resolve)
        self.made.append(backend)
        return backend


@pytest.fixture
def auth_of() -> type[Auth]:
    return Auth


@pytest_asyncio.fixture
async def server() -> AsyncIterator[McpScript]:
    script = McpScript()
    await script.start()
    yield script
    await script.stop()
    assert script.failures == []


@pytest_asyncio.fixture
async def backend_of(server: McpScript) -> AsyncIterator[Harness]:
    harness = Harness()
    yield harness
    for backend in harness.made:
        await backend.close()
        assert backend._client.pool.open == 0  # noqa: SLF001  a connection that is left open shows nowhere else
    left = [task for task in asyncio.all_tasks() if task.get_coro().__qualname__.split(".")[0] in OWN]  # type: ignore[union-attr]
    assert left == [], "tasks were left behind"


OWN = {
    "LegacySession",
    "GetStream",
    "Subscription",
    "Monitor",
    "Inbox",
    "SseChannel",
    "McpBackend",
    "PersonalCatalogues",
}
