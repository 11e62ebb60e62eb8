"""A proxy in front of a real API server that breaks things as a test scripts it.

The client speaks plain HTTP to the proxy; the proxy speaks to the server with the endpoint's TLS files, and with the
client's own Authorization header. Rules are asked in the order of their registration; the first that matches and is not
used up acts, without one the exchange is passed on unharmed.

```python
async with FaultProxy(endpoint) as proxy:
    proxy.on(watches("widgets"), stream(reset_inside_line(after=3)), times=1)
    transport = Transport(Endpoint(url=proxy.url))
```
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp import web

from runtime.transport.config import Endpoint
from runtime.transport.tls import ReloadingContext

_HOP_BY_HOP = frozenset(
    {"connection", "content-encoding", "content-length", "host", "keep-alive", "te", "transfer-encoding", "upgrade"}
)


@dataclass
class ProxiedExchange:
    """One request of the client, and what became of it."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    time: float
    """Loop time of its arrival."""
    status: int = 0
    """Of the answer; 0 while there is none, and for connections that were cut."""
    rule: FaultRule | None = None
    """What acted on it."""

    @property
    def watch(self) -> bool:
        """Whether it is a watch."""
        return self.query.get("watch") in ("1", "true")

    @property
    def streaming(self) -> bool:
        """Whether it asks for the initial objects as a stream."""
        return "sendInitialEvents" in self.query

    @property
    def plural(self) -> str:
        """The kind's name in the URL."""
        parts = self.path.strip("/").split("/")[2 if self.path.startswith("/api/") else 3 :]
        return parts[2] if parts[0] == "namespaces" and len(parts) > 2 else parts[0]

    @property
    def named(self) -> bool:
        """Whether it addresses one object."""
        parts = self.path.strip("/").split("/")
        return parts[-1] != self.plural


class ProxiedConnection:
    """The client's end of one exchange."""

    def __init__(self, request: web.Request) -> None:
        self._request = request

    def reset(self) -> None:
        """Cut the connection with a RST: no end of the chunked body, no FIN."""
        transport = self._request.transport
        if transport is None:
            return
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        transport.abort()


class Downstream(ProxiedConnection):
    """The answer to the client, line by line."""

    def __init__(self, request: web.Request, response: web.StreamResponse) -> None:
        super().__init__(request)
        self._response = response

    async def line(self, data: bytes) -> None:
        """Send a whole line."""
        await self._response.write(data + b"\n")

    async def part(self, data: bytes) -> None:
        """Send bytes as they are."""
        await self._response.write(data)


Script = Callable[[AsyncIterator[bytes], Downstream], Awaitable[None]]
"""Gets the server's lines and sends what it likes. Returning ends the answer in good order."""


@dataclass
class FaultPlan:
    """What to do with a matching exchange. Without any field set: pass it on."""

    answer: tuple[int, bytes, dict[str, str]] | None = None
    """Answer with this instead of asking the server."""
    cut: bool = False
    """Cut the connection instead of answering."""
    before: Callable[[], Awaitable[None]] | None = None
    """Awaited before the request is passed on."""
    after: Callable[[], Awaitable[None]] | None = None
    """Awaited when the server has answered, before the client hears of it."""
    body: Callable[[bytes], bytes] | None = None
    """Changes the body of an answer that is not a watch."""
    script: Script | None = None
    """Handles the lines of a watch."""


@dataclass
class FaultRule:
    """A plan, when it applies, and how often it has."""

    matches: Callable[[ProxiedExchange], bool]
    plan: FaultPlan
    times: int | None
    """How often it acts; None for always."""
    hits: int = 0

    def stop(self) -> None:
        """Act no more."""
        self.times = self.hits


@dataclass
class FaultProxy:
    """The proxy; an asynchronous context manager."""

    endpoint: Endpoint
    """The server behind."""
    exchanges: list[ProxiedExchange] = field(default_factory=list)
    """All that came, in order."""
    _rules: list[FaultRule] = field(default_factory=list)
    _watches: set[ProxiedConnection] = field(default_factory=set)
    _port: int = 0
    _runner: web.AppRunner | None = None
    _session: aiohttp.ClientSession | None = None

    @property
    def url(self) -> str:
        """Where the client should go."""
        return f"http://127.0.0.1:{self._port}"

    def on(self, matches: Callable[[ProxiedExchange], bool], plan: FaultPlan, *, times: int | None = None) -> FaultRule:
        """Add a rule.

        Args:
            matches: which exchanges it is for.
            plan: what happens to them.
            times: how often; None for always.
        """
        rule = FaultRule(matches, plan, times)
        self._rules.append(rule)
        return rule

    def clear(self) -> None:
        """Drop all rules; what goes on goes on."""
        self._rules.clear()

    def reset_streams(self) -> None:
        """Cut all watches that have arrived, those included that the server has not answered yet."""
        for connection in list(self._watches):
            connection.reset()

    def count(self, matches: Callable[[ProxiedExchange], bool]) -> int:
        """Return how many exchanges there were of a sort."""
        return sum(1 for exchange in self.exchanges if matches(exchange))

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self._port = self._runner.addresses[0][1]
        tls = ReloadingContext(self.endpoint.tls).current(0) if self.endpoint.url.startswith("https") else True
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=tls), auto_decompress=True, read_bufsize=2**20
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        exchange = ProxiedExchange(
            method=request.method,
            path=request.path,
            query=dict(request.query),
            headers=dict(request.headers),
            body=await request.read(),
            time=asyncio.get_running_loop().time(),
        )
        self.exchanges.append(exchange)
        plan = self._plan(exchange)
        connection = ProxiedConnection(request)
        if exchange.watch:
            self._watches.add(connection)
        try:
            return await self._follow_plan(request, exchange, plan)
        finally:
            self._watches.discard(connection)

    async def _follow_plan(
        self, request: web.Request, exchange: ProxiedExchange, plan: FaultPlan
    ) -> web.StreamResponse:
        if plan.before is not None:
            await plan.before()
        if plan.cut:
            return _cut(request)
        if plan.answer is not None:
            exchange.status, body, headers = plan.answer
            return web.Response(status=exchange.status, body=body, headers=headers)
        return await self._pass_on(request, exchange, plan)

    def _plan(self, exchange: ProxiedExchange) -> FaultPlan:
        for rule in self._rules:
            if (rule.times is None or rule.hits < rule.times) and rule.matches(exchange):
                rule.hits += 1
                exchange.rule = rule
                return rule.plan
        return FaultPlan()

    async def _pass_on(self, request: web.Request, exchange: ProxiedExchange, plan: FaultPlan) -> web.StreamResponse:
        headers = {name: value for name, value in exchange.headers.items() if name.lower() not in _HOP_BY_HOP}
        if "Authorization" not in headers and (own := await self.endpoint.credentials.header()) is not None:
            headers["Authorization"] = own
        assert self._session is not None
        try:
            async with self._session.request(
                exchange.method,
                self.endpoint.url + request.path_qs,
                data=exchange.body or None,
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
            ) as upstream:
                exchange.status = upstream.status
                if plan.after is not None:
                    await plan.after()
                kept = {name: value for name, value in upstream.headers.items() if name.lower() not in _HOP_BY_HOP}
                if exchange.watch and upstream.status == 200:
                    return await self._stream(request, upstream, kept, plan.script or unharmed)
                body = await upstream.read()
                return web.Response(
                    status=upstream.status, body=plan.body(body) if plan.body is not None else body, headers=kept
                )
        except aiohttp.ClientConnectionError:
            # The server is away: its client must see that, and not a well-formed 502.
            return _cut(request)

    async def _stream(
        self, request: web.Request, upstream: aiohttp.ClientResponse, headers: dict[str, str], script: Script
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=upstream.status, headers=headers)
        response.enable_chunked_encoding()
        await response.prepare(request)
        downstream = Downstream(request, response)
        try:
            await script(_lines(upstream), downstream)
        except aiohttp.ClientError:
            downstream.reset()
        if request.transport is not None and not request.transport.is_closing():
            await response.write_eof()
        return response


def _cut(request: web.Request) -> web.Response:
    """Cut the connection; the answer that is returned goes nowhere."""
    ProxiedConnection(request).reset()
    return web.Response()


async def _lines(upstream: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    rest = b""
    async for chunk in upstream.content.iter_any():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line


async def unharmed(lines: AsyncIterator[bytes], client: Downstream) -> None:
    """Pass every line on."""
    async for line in lines:
        await client.line(line)
