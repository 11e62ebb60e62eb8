"""The gateway on a real listener: bounds of connections, a reload under load, and an end in good order."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

import vmcp.http.server.protocol as guarded
from api.contract.errors import ConfigError
from vmcp.auth.outgoing.unauthenticated import UnauthenticatedSettings
from vmcp.backend.interface import Reply
from vmcp.backend.settings import BackendSettings
from vmcp.config.settings import LeftOut, Settings
from vmcp.core.rules import AggregationRules, ConflictPolicy
from vmcp.ending import Ending
from vmcp.front.settings import FrontSettings
from vmcp.http.server.sweep import sweep
from vmcp.server import Server
from vmcp.serving import serve

TOOL = {"name": "echo", "inputSchema": {"type": "object"}}
BASE = {"content-type": "application/json", "accept": "application/json, text/event-stream", "host": "localhost"}
HALF_A_BODY = (
    b"POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\naccept: */*\r\n"
    b"content-length: 100\r\n\r\n{"
)


def settings(*urls: str, name: str = "gateway") -> Settings:
    backends = tuple(BackendSettings(name=f"b{n}", url=url) for n, url in enumerate(urls))
    rules = AggregationRules(strategy=ConflictPolicy.PRIORITY, priority=("b0",))
    outgoing = {backend.name: UnauthenticatedSettings() for backend in backends}
    return Settings(name=name, group="g", backends=backends, outgoing=outgoing, aggregation=rules)


class Running:
    """A gateway that serves on `port` until `stop` is set."""

    def __init__(self, make_backend: Callable[..., Any]) -> None:
        self.backends: list[Any] = []
        self.refused: dict[str, Exception] = {}

        def make(made: BackendSettings, auth: Any, resolve: Any) -> Any:
            if made.name in self.refused:
                raise self.refused[made.name]
            backend = make_backend(made.name, tools=[TOOL])
            backend.url = made.url
            self.backends.append(backend)
            return backend

        self.server = Server(settings("http://one.test/mcp"), make_backend=make, front=FrontSettings(keep_alive=5.0))
        self.stop = asyncio.Event()
        self.port = 0
        self._listening = asyncio.Event()

    async def start(self, *, drain: float = 0.0) -> None:
        ending = Ending(drain, grace=5)
        coming = serve(self.server, host="127.0.0.1", port=0, stop=self.stop, listening=self._on, ending=ending)
        self.task = asyncio.create_task(coming)
        await asyncio.wait_for(self._listening.wait(), 10)

    def _on(self, port: int) -> None:
        self.port = port
        self._listening.set()


@pytest.fixture
async def running(backend) -> AsyncIterator[Running]:
    made = Running(backend)
    await made.start()
    yield made
    made.stop.set()
    await asyncio.wait_for(made.task, 20)


class Connection:
    """A client's connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> Connection:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def post(self, body: Any, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        merged = {**BASE, **(headers or {}), "content-length": str(len(data))}
        lines = "".join(f"{name}: {value}\r\n" for name, value in merged.items())
        self.send(f"POST /mcp HTTP/1.1\r\n{lines}\r\n".encode() + data)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        async with asyncio.timeout(10):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            pairs = (line.split(": ", 1) for line in head[1:] if line)
            headers = {name.lower(): value for name, value in pairs}
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return int(head[0].split()[1]), headers, body

    async def closed(self) -> bool:
        async with asyncio.timeout(10):
            return await self.reader.read(1) == b""


def request(method: str, params: dict[str, Any] | None = None, number: int = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params or {}}


async def initialize(connection: Connection) -> dict[str, str]:
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    connection.post(request("initialize", params))
    status, headers, _ = await connection.answer()
    assert status == 200
    return {"mcp-session-id": headers["mcp-session-id"]}


async def test_a_head_beyond_the_limit_is_431(running):
    for filler in (b"x-a: " + b"a" * 70_000 + b"\r\n", b"".join(b"x-%d: aaaaaaaaaa\r\n" % n for n in range(5000))):
        connection = await Connection.open(running.port)
        connection.send(b"POST /mcp HTTP/1.1\r\nhost: localhost\r\n" + filler + b"content-length: 0\r\n\r\n")
        status, _, body = await connection.answer()
        assert (status, json.loads(body)["error"]["code"]) == (431, -32600)
        assert await connection.closed()


async def test_a_body_beyond_the_limit_is_413_and_the_client_can_read_that(running):
    connection = await Connection.open(running.port)
    connection.post(request("tools/call", {"name": "echo", "arguments": {"x": "x" * 6_000_000}}))
    status, _, body = await connection.answer()
    assert (status, json.loads(body)["error"]["code"]) == (413, -32600)
    assert await connection.closed()


async def test_what_is_not_http_is_400_as_json(running):
    connection = await Connection.open(running.port)
    connection.send(b"NONSENSE\r\n\r\n")
    status, headers, body = await connection.answer()
    assert (status, headers["content-type"]) == (400, "application/json")
    assert json.loads(body)["error"]["code"] == -32600


@pytest.mark.parametrize(
    ("begin", "status"),
    [
        (b"", 408),
        (b"POST /mcp HT", 408),
        (b"POST /mcp HTTP/1.1\r\nhost: localhost\r\nx: ", 408),
        (HALF_A_BODY, 408),
    ],
    ids=["silence", "half a request line", "half a head", "half a body"],
)
async def test_a_request_that_does_not_arrive_in_time_is_ended(running, monkeypatch, begin, status):
    monkeypatch.setattr(guarded, "HEAD_SECONDS", 0.0)
    monkeypatch.setattr(guarded, "BODY_SECONDS", 0.0)
    connection = await Connection.open(running.port)
    connection.send(begin)
    found, _, _ = await connection.answer()
    assert found == status
    assert await connection.closed()


async def test_an_idle_connection_between_requests_is_not_slow(running, monkeypatch):
    connection = await Connection.open(running.port)
    session = await initialize(connection)
    monkeypatch.setattr(guarded, "HEAD_SECONDS", 0.0)
    assert sweep(list(running.server._connections)) == 0  # noqa: SLF001  what the process holds shows nowhere else
    connection.post(request("ping"), session)
    assert (await connection.answer())[0] == 200


async def test_a_connection_that_says_nothing_for_long_is_closed_without_a_word(running):
    connection = await Connection.open(running.port)
    await initialize(connection)
    (ours,) = running.server._connections  # noqa: SLF001  what the process holds shows nowhere else
    ours.due = 0.0
    assert sweep(list(running.server._connections)) == 1  # noqa: SLF001  what the process holds shows nowhere else
    assert await connection.closed()


async def test_requests_that_were_sent_at_once_are_answered_in_order(running):
    connection = await Connection.open(running.port)
    session = await initialize(connection)
    for number in range(20):
        connection.post(request("tools/call", {"name": "echo", "arguments": {"n": number}}, number), session)
    for number in range(20):
        _, _, body = await connection.answer()
        answer = json.loads(body)
        assert answer["id"] == number
        assert json.loads(answer["result"]["content"][0]["text"])["params"]["arguments"] == {"n": number}


async def test_reloads_under_load_drop_no_call_and_no_session(running, scale):
    stop = asyncio.Event()
    answered = 0

    async def client() -> None:
        nonlocal answered
        connection = await Connection.open(running.port)
        session = await initialize(connection)
        number = 0
        while not stop.is_set():
            number += 1
            arguments = {"nonce": f"{id(connection)}-{number}"}
            connection.post(request("tools/call", {"name": "echo", "arguments": arguments}, number), session)
            status, _, body = await connection.answer()
            answer = json.loads(body)
            assert status == 200, body
            assert json.loads(answer["result"]["content"][0]["text"])["params"]["arguments"] == arguments
            answered += 1
        connection.writer.close()

    clients = [asyncio.create_task(client()) for _ in range(8)]
    for number in range(scale(20, 100)):
        seen = answered
        # The first backend changes its address with every reload, another one comes and goes.
        more = ["http://two.test/mcp"] if number % 2 else []
        await running.server.apply(settings(f"http://one.test/{number}", *more, name=f"gateway-{number}"))
        async with asyncio.timeout(10):
            while answered < seen + 8:
                await asyncio.sleep(0)
                for task in clients:
                    if task.done():
                        task.result()
    stop.set()
    await asyncio.gather(*clients)
    assert len(running.server._sessions) == 8  # noqa: SLF001  what the process holds shows nowhere else
    assert running.server.gateway.plan.name.startswith("gateway-")


async def test_equal_parts_of_a_reload_keep_running(running):
    first = running.server.gateway.plan
    await running.server.apply(settings("http://one.test/mcp", "http://two.test/mcp", name="other"))
    second = running.server.gateway.plan
    assert second.backends["b0"] is first.backends["b0"]
    assert second.authenticator is first.authenticator
    assert second.authorizer is first.authorizer
    assert len(running.backends) == 2


@pytest.mark.parametrize("missing", [True, False])
async def test_a_backend_whose_variable_is_not_there_yet_stays_as_it_stood_and_a_broken_one_goes(running, missing):
    before = running.server.gateway.plan.backends["b0"]
    error = ConfigError("backends[0]", "environment variable X is not set", (0,), missing=missing)
    wanted = replace(settings("http://other.test/mcp"), backends=(), outgoing={}, left_out=(LeftOut("b0", (error,)),))
    standing = await running.server.apply(wanted)
    assert standing == ({"b0"} if missing else frozenset())
    assert running.server.gateway.plan.backends == ({"b0": before} if missing else {})
    assert len(running.backends) == 1


async def test_a_backend_that_cannot_be_made_costs_itself_only(running):
    running.refused["b1"] = ValueError("not an http(s) URL")
    await running.server.apply(settings("http://one.test/mcp", "http://two.test/mcp", "http://three.test/mcp"))
    assert list(running.server.gateway.plan.backends) == ["b0", "b2"]


async def test_a_reload_that_fails_changes_nothing(running):
    before = running.server.gateway.plan
    running.refused["b0"] = OSError("no such file")
    with pytest.raises(OSError, match="no such file"):
        await running.server.apply(settings("http://other.test/mcp"))
    assert running.server.gateway.plan is before


async def test_the_end_is_readiness_first_then_calls_then_streams(backend):
    running = Running(backend)
    await running.start(drain=0.3)
    caller, stream, prober = [await Connection.open(running.port) for _ in range(3)]
    session = await initialize(caller)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(call: Any) -> Reply:
        begun.set()
        await go_on.wait()
        return Reply(result=b'{"content":[]}')

    running.backends[0].answer = slow
    caller.post(request("tools/call", {"name": "echo"}), session)
    await asyncio.wait_for(begun.wait(), 5)
    lines = f"mcp-session-id: {session['mcp-session-id']}\r\naccept: text/event-stream\r\nhost: localhost\r\n"
    stream.send(f"GET /mcp HTTP/1.1\r\n{lines}\r\n".encode())
    await asyncio.wait_for(stream.reader.readuntil(b"retry"), 5)

    running.stop.set()
    while True:
        prober.send(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n")
        if (await prober.answer())[0] == 503:
            break
    assert not running.task.done()
    async with asyncio.timeout(5):
        await stream.reader.read()  # the stream ends although nobody closed it
    go_on.set()
    status, _, body = await caller.answer()
    assert (status, json.loads(body)["result"]) == (200, {"content": []})
    await asyncio.wait_for(running.task, 10)
    assert running.backends[0].sessions[0].closed
