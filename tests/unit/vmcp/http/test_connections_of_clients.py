"""The server's connections, over real sockets: upgrades, pipelining, refusals in order, clients that do not read."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import time
from collections.abc import AsyncIterator
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import pytest_asyncio
import uvicorn

import vmcp.http.server.protocol as guarded
from tests.support.eventually import eventually
from vmcp.http.server import asgi
from vmcp.http.server.asgi import Disconnected, answer, read_body, read_headers
from vmcp.http.server.cycle import Cycle
from vmcp.http.server.door import Door
from vmcp.http.server.protocol import GuardedProtocol
from vmcp.http.server.sweep import sweep

HOST = b"host: localhost\r\n"
SETTINGS = b"http2-settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n"
H2C = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\n" + SETTINGS


class Listener:
    """A server whose application says what it was asked: `METHOD path body`."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.names: set[bytes] = set()
        self.gate: asyncio.Event | None = None
        self.size = 0
        self.connections: set[Any] = set()
        self.trouble: list[dict[str, Any]] = []
        self.port = 0

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            body = await read_body(receive, read_headers(scope["headers"]), 1 << 20)
        except Disconnected:
            return
        except asgi.Refusal as refusal:
            await asgi.answer_error(send, refusal)
            return
        self.names.update(name for name, _ in scope["headers"])
        said = f"{scope['method']} {scope['path']} {body.decode()}"
        self.asked.append(said)
        if scope["path"] == "/slow" and self.gate is not None:
            await self.gate.wait()
        await answer(send, 200, said.encode() + b"x" * (self.size if scope["path"] == "/large" else 0))

    async def start(self, door: Door | None = None) -> None:
        config = uvicorn.Config(self.app, log_config=None, lifespan="off", interface="asgi3", timeout_keep_alive=75)
        config.load()
        state = uvicorn.server.ServerState()
        self.connections = state.connections
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self.trouble.append(context))
        made = partial(GuardedProtocol, config=config, server_state=state, app_state={}, door=door)
        self.server = await loop.create_server(made, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self.server.close()
        for connection in list(self.connections):
            connection.transport.abort()
        await eventually(lambda: not self.connections)
        assert self.trouble == []


@pytest_asyncio.fixture
async def listener() -> AsyncIterator[Listener]:
    made = Listener()
    yield made
    await made.stop()


class Talk:
    """A client's connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> Talk:
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 24))

    async def say(self, *parts: bytes) -> None:
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()

    async def answer(self) -> tuple[int, bytes]:
        async with asyncio.timeout(10):
            head = await self.reader.readuntil(b"\r\n\r\n")
            lines = head.lower().split(b"\r\n")
            length = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:"))
            return int(head.split(b" ")[1]), await self.reader.readexactly(length)

    async def rest(self) -> bytes:
        """Whatever still comes until the server ends the connection."""
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionError):
                return await self.reader.read(1 << 24)
        return b""


def framed(body: bytes, *, chunked: bool) -> bytes:
    if chunked:
        return b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    return b"content-length: %d\r\n\r\n%b" % (len(body), body)


def post(path: bytes, body: bytes, *, extra: bytes = b"", chunked: bool = False) -> bytes:
    return b"POST %b HTTP/1.1\r\n" % path + HOST + extra + framed(body, chunked=chunked)


def get(path: bytes, extra: bytes = b"") -> bytes:
    return b"GET %b HTTP/1.1\r\n" % path + HOST + extra + b"\r\n"


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("pieces", [1, 7, 100, 1 << 20])
async def test_an_upgrade_is_ignored_and_its_request_answered_body_and_all(listener, chunked, pieces) -> None:
    await listener.start()
    talk = await Talk.open(listener.port)
    sent = post(b"/a", b"hello", extra=H2C, chunked=chunked) + get(b"/b") + get(b"/c", H2C) + post(b"/d", b"x" * 9000)
    sent += b"".join(post(b"/e", b"%d" % number, extra=H2C) for number in range(20)) + get(b"/f")
    await talk.say(*(sent[start : start + pieces] for start in range(0, len(sent), pieces)))
    said = [(await talk.answer()) for _ in range(25)]
    expected = [b"POST /a hello", b"GET /b ", b"GET /c ", b"POST /d " + b"x" * 9000]
    expected += [b"POST /e %d" % number for number in range(20)] + [b"GET /f "]
    assert said == [(200, body) for body in expected]


async def test_bytes_behind_an_upgrade_are_not_lost_halfway(listener) -> None:
    await listener.start()
    talk = await Talk.open(listener.port)
    await talk.say(
        get(b"/a", b"connection: upgrade\r\nupgrade: h2c\r\n") + b"POST /b HTTP/1.1\r\n" + HOST + b"x-body: "
    )
    assert await talk.answer() == (200, b"GET /a ")
    await talk.say(b"GET /hidden HTTP/1.1\r\ncontent-length: 0\r\n\r\n")
    assert await talk.answer() == (200, b"POST /b ")
    assert listener.asked == ["GET /a ", "POST /b "]


@pytest.mark.parametrize("framing", [b"transfer-encoding: 1\r\n", b"transfer-encoding: chunked, x\r\n"])
async def test_an_upgrade_whose_body_cannot_be_framed_is_refused(listener, framing) -> None:
    await listener.start()
    talk = await Talk.open(listener.port)
    await talk.say(b"POST /a HTTP/1.1\r\n" + HOST + H2C + framing + b"\r\n3\r\nabc\r\n0\r\n\r\n")
    assert (await talk.answer())[0] == 400
    assert await talk.rest() == b""


async def test_a_tunnel_is_refused_and_what_is_sent_into_it_is_no_request(listener) -> None:
    await listener.start()
    talk = await Talk.open(listener.port)
    await talk.say(b"CONNECT x:1 HTTP/1.1\r\n" + HOST + b"content-length: 60\r\n\r\n", get(b"/hidden"))
    assert (await talk.answer())[0] == 405
    assert await talk.rest() == b""
    assert listener.asked == []


@pytest.mark.parametrize("bad", [b"NONSENSE\r\n\r\n", b"GET / HTTP/1.1\r\nx: " + b"a" * 70_000 + b"\r\n\r\n"])
async def test_a_refusal_waits_for_the_answers_to_the_requests_before(listener, bad) -> None:
    listener.gate = asyncio.Event()
    await listener.start()
    talk = await Talk.open(listener.port)
    await talk.say(get(b"/slow") + get(b"/next") + bad)
    await eventually(lambda: listener.asked == ["GET /slow "])
    listener.gate.set()
    assert await talk.answer() == (200, b"GET /slow ")
    assert await talk.answer() == (200, b"GET /next ")
    assert (await talk.answer())[0] in {400, 431}
    assert await talk.rest() == b""


async def test_a_body_that_breaks_off_is_refused_without_a_word_of_its_application(listener) -> None:
    await listener.start()
    talk = await Talk.open(listener.port)
    await talk.say(b"POST /a HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked\r\n\r\n5\r\nhel")
    await eventually(lambda: len(listener.connections) == 1)
    await talk.say(b"lo\r\nzz\r\n")
    assert (await talk.answer())[0] == 400
    assert await talk.rest() == b""
    assert listener.asked == [], "the application was told that the client is gone"


async def test_trailers_are_no_headers(listener) -> None:
    await listener.start()
    talk = await Talk.open(listener.port)
    body = b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nmcp-name: y\r\nauthorization: Bearer x\r\n\r\n"
    await talk.say(b"POST /a HTTP/1.1\r\n" + HOST + body, get(b"/b"))
    assert await talk.answer() == (200, b"POST /a {}")
    assert await talk.answer() == (200, b"GET /b ")
    assert listener.names == {b"host", b"transfer-encoding"}


async def test_thousands_of_requests_in_one_read_wait_unparsed_and_are_all_answered(listener) -> None:
    listener.gate = asyncio.Event()
    await listener.start()
    talk = await Talk.open(listener.port)
    await talk.say(get(b"/slow") + get(b"/x") * 3000)
    await eventually(lambda: listener.asked == ["GET /slow "])
    connection = next(iter(listener.connections))
    assert len(connection._waiting) <= guarded.MAX_WAITING + guarded.PIECE // len(get(b"/x")) + 1  # noqa: SLF001  what is held back shows nowhere else
    listener.gate.set()
    for number in range(3001):
        assert (await talk.answer())[0] == 200, number


@pytest.mark.parametrize("piece", [1 << 20, 1000])
async def test_a_request_has_so_many_headers_and_no_more(listener, piece) -> None:
    await listener.start()
    for number, status in ((guarded.MAX_FIELDS - 1, 200), (guarded.MAX_FIELDS, 431), (16_000, 431)):
        talk = await Talk.open(listener.port)
        request = get(b"/x", b"a:\r\n" * number)
        with contextlib.suppress(ConnectionError):
            await talk.say(*(request[start : start + piece] for start in range(0, len(request), piece)))
        assert (await talk.answer())[0] == status, number


async def test_requests_that_came_in_one_read_let_others_in_between(listener) -> None:
    await listener.start()
    talk = await Talk.open(listener.port)
    answered: list[int] = []

    async def look() -> None:
        while True:
            answered.append(len(listener.asked))
            await asyncio.sleep(0)

    looking = asyncio.create_task(look())
    await talk.say(get(b"/x") * 100)
    for _ in range(100):
        await talk.answer()
    looking.cancel()
    assert max(after - before for before, after in pairwise(answered)) == 1


async def test_a_connection_that_is_over_leaves_nothing_to_the_garbage_collector(listener) -> None:
    await listener.start()
    listener.gate = asyncio.Event()
    gc.collect()
    gc.disable()
    try:
        for path in (b"/x", b"/slow"):
            talk = await Talk.open(listener.port)
            await talk.say(post(path, b"{}"))
            await eventually(
                lambda path=path: listener.asked and listener.asked[-1].startswith(f"POST {path.decode()}")
            )
            talk.writer.close()
        listener.gate.set()
        await eventually(lambda: not listener.connections)
        await eventually(lambda: not any(isinstance(one, Cycle) for one in gc.get_objects()))
    finally:
        gc.enable()


def _silent_reader(port: int) -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", port))
    client.setblocking(False)
    return client


async def test_a_client_that_does_not_read_loses_its_connection(listener) -> None:
    listener.size = 8 << 20
    await listener.start()
    silent = _silent_reader(listener.port)
    silent.send(get(b"/large") * 2)
    slow = await Talk.open(listener.port)
    await eventually(lambda: len(listener.connections) == 2 and any(c.held_up for c in listener.connections))
    now = time.monotonic()
    assert sweep(listener.connections, now=now) == 0
    now += guarded.WRITE_SECONDS + 1
    for connection in listener.connections:
        connection.due = None
    assert sweep(listener.connections, now=now) == 1
    await eventually(lambda: len(listener.connections) == 1)
    await slow.say(get(b"/a"))
    assert await slow.answer() == (200, b"GET /a ")
    silent.close()


async def test_an_end_that_nobody_takes_does_not_last(listener) -> None:
    listener.size = 8 << 20
    await listener.start()
    silent = _silent_reader(listener.port)
    silent.send(get(b"/large", b"connection: close\r\n"))
    await eventually(lambda: any(c.transport.is_closing() for c in listener.connections))
    now = time.monotonic()
    sweep(listener.connections, now=now)
    now += guarded.WRITE_SECONDS + 1
    sweep(listener.connections, now=now)
    await eventually(lambda: not listener.connections)
    silent.close()


async def test_a_client_that_reads_slowly_keeps_its_connection(listener) -> None:
    listener.size = 8 << 20
    await listener.start()
    talk = await Talk.open(listener.port)
    talk.writer.transport.pause_reading()  # type: ignore[attr-defined]  # of every socket's transport
    await talk.say(get(b"/large"))
    await eventually(lambda: any(c.held_up for c in listener.connections))
    now = time.monotonic()
    connection = next(iter(listener.connections))
    connection.due = None
    assert sweep(listener.connections, now=now) == 0
    before = connection.transport.get_write_buffer_size()
    talk.writer.transport.resume_reading()  # type: ignore[attr-defined]
    await eventually(lambda: connection.transport.get_write_buffer_size() < before - guarded.WRITE_RATE * 31)
    now += guarded.WRITE_SECONDS + 1
    assert sweep(listener.connections, now=now) == 0
    assert len((await talk.answer())[1]) > 8 << 20


async def test_what_waits_for_all_clients_together_is_bounded(listener) -> None:
    listener.size = 4 << 20
    await listener.start()
    silent = [_silent_reader(listener.port) for _ in range(4)]
    for client in silent:
        client.send(get(b"/large"))
    await eventually(lambda: sum(c.held_up for c in listener.connections) == 4)
    waiting = [c.transport.get_write_buffer_size() for c in listener.connections]
    assert sweep(listener.connections, budget=sum(waiting)) == 0
    assert sweep(listener.connections, budget=sum(waiting) - min(waiting) - max(waiting)) == 2
    await eventually(lambda: len(listener.connections) == 2)
    for client in silent:
        client.close()


async def test_bodies_that_arrive_slowly_are_bounded_for_all_clients_together(listener, monkeypatch) -> None:
    monkeypatch.setattr(asgi.BODIES, "left", 500_000)
    await listener.start()
    half = b"POST /a HTTP/1.1\r\n" + HOST + b"content-length: 600000\r\n\r\n"
    first, second = [await Talk.open(listener.port) for _ in range(2)]
    await first.say(half, b"x" * 300_000)
    await eventually(lambda: asgi.BODIES.left <= 200_000)
    await second.say(half, b"x" * 300_000)
    assert (await second.answer())[0] == 503
    assert await second.rest() == b""
    await eventually(lambda: asgi.BODIES.left == 200_000)
    first.writer.close()
    await eventually(lambda: asgi.BODIES.left == 500_000)


async def test_connections_are_bounded_in_all_and_from_one_address(listener) -> None:
    door = Door(total=50, per_address=3)
    await listener.start(door)
    inside = [await Talk.open(listener.port) for _ in range(3)]
    for talk in inside:
        await talk.say(get(b"/a"))
        assert await talk.answer() == (200, b"GET /a ")
    outside = await Talk.open(listener.port)
    assert (await outside.answer())[0] == 503
    assert await outside.rest() == b""
    assert door.refused == 1
    inside[0].writer.close()
    await eventually(lambda: len(listener.connections) == 2)
    again = await Talk.open(listener.port)
    await again.say(get(b"/b"))
    assert await again.answer() == (200, b"GET /b ")


def test_an_address_that_uses_up_its_share_leaves_the_others_theirs() -> None:
    door = Door(total=5, per_address=3)
    assert [door.enter("a") for _ in range(4)] == [True, True, True, False]
    assert [door.enter("b") for _ in range(3)] == [True, True, False]
    door.leave("a")
    assert door.enter("c")
    assert not door.enter("b"), "there are five"


async def test_a_body_in_many_pieces_is_put_together_in_linear_time(listener) -> None:
    await listener.start()
    talk = await Talk.open(listener.port)
    count = 200_000
    await talk.say(b"POST /a HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked\r\n\r\n")
    await talk.say(b"1\r\nx\r\n" * count + b"0\r\n\r\n")
    assert await talk.answer() == (200, b"POST /a " + b"x" * count)
