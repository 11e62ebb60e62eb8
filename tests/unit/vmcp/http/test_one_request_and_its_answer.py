"""The cycle of one request: what is written when, and what an application must not say."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from vmcp.http.server.asgi import JSON
from vmcp.http.server.cycle import AnswerError, Cycle
from vmcp.turns import PIECE

LENGTH = (b"content-length", b"2")
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n"


class Recorder(asyncio.Transport):
    """Counts what reaches the system."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self.writes.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


class Connection:
    def __init__(self) -> None:
        self.transport = Recorder()
        self.reading: list[bool] = []
        self.answers = 0
        self.drained: asyncio.Future[None] | None = None

    def may_write(self) -> asyncio.Future[None] | None:
        return self.drained

    def may_read(self, *, more: bool) -> None:
        self.reading.append(more)

    def answered(self) -> None:
        self.answers += 1


def cycle(method: str = "POST", **options: Any) -> tuple[Cycle, Connection]:
    connection = Connection()
    scope = {"type": "http", "method": method, "headers": []}
    return Cycle(connection, scope, **{"keep_alive": True, **options}), connection


def start(*headers: tuple[bytes, bytes], status: int = 200) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": headers}


def body(data: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def test_head_and_body_leave_together() -> None:
    made, connection = cycle()
    await made.send(start(JSON, LENGTH))
    assert connection.transport.writes == []
    await made.send(body(b"{}"))
    assert connection.transport.writes == [HEAD + b"{}"]
    assert (made.complete, connection.answers, connection.transport.closed) == (True, 1, False)


async def test_the_head_of_a_stream_does_not_wait_for_an_event() -> None:
    made, connection = cycle()
    await made.send(start((b"content-type", b"text/event-stream")))
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    assert connection.transport.writes == [head]
    await made.send(body(b"data: x\n\n", more=True))
    await made.send(body(b""))
    assert connection.transport.writes[1:] == [b"9\r\ndata: x\n\n\r\n", b"0\r\n\r\n"]


async def test_head_requests_get_a_head_only() -> None:
    made, connection = cycle("HEAD")
    await made.send(start(JSON, LENGTH))
    await made.send(body(b""))
    assert connection.transport.writes == [HEAD]
    assert made.complete


@pytest.mark.parametrize(("options", "headers"), [({"keep_alive": False}, ()), ({}, ((b"connection", b"close"),))])
async def test_the_last_answer_of_a_connection_says_so_once_and_closes_it(options, headers) -> None:
    made, connection = cycle(**options)
    await made.send(start(JSON, LENGTH, *headers))
    await made.send(body(b"{}"))
    assert connection.transport.writes[0].count(b"connection: close\r\n") == 1
    assert connection.transport.closed


@pytest.mark.parametrize("value", [b"a\r\nset-cookie: b", b"a\nb", b"a\0"])
async def test_a_header_cannot_begin_another_line(value) -> None:
    made, connection = cycle()
    with pytest.raises(AnswerError):
        await made.send(start(LENGTH, (b"x-said", value)))
    assert connection.transport.writes == []


async def test_a_second_answer_is_refused() -> None:
    made, connection = cycle()
    await made.send(start(JSON, LENGTH))
    with pytest.raises(AnswerError):
        await made.send(start(JSON, LENGTH))
    await made.send(body(b"{}"))
    with pytest.raises(AnswerError):
        await made.send(body(b"{}"))
    assert connection.transport.writes == [HEAD + b"{}"]


@pytest.mark.parametrize("data", [b"", b"x", b"xxx"])
async def test_a_body_is_as_long_as_its_head_says(data) -> None:
    made, connection = cycle()
    await made.send(start(JSON, LENGTH))
    with pytest.raises(AnswerError):
        await made.send(body(data))
    assert connection.transport.writes == []


async def test_a_body_comes_in_parts_and_a_large_one_makes_the_sender_wait() -> None:
    made, connection = cycle()
    made.feed(b"a")
    made.feed(b"b" * 70_000)
    assert connection.reading == [False]
    assert await made.receive() == {"type": "http.request", "body": b"a" + b"b" * 70_000, "more_body": True}
    assert connection.reading == [False, True]
    waiting = asyncio.create_task(made.receive())
    await asyncio.sleep(0)
    made.end()
    assert await waiting == {"type": "http.request", "body": b"", "more_body": False}


async def test_who_waits_learns_that_the_client_is_gone_and_nothing_more_is_written() -> None:
    made, connection = cycle()
    made.end()
    await made.receive()
    waiting = asyncio.create_task(made.receive())
    await asyncio.sleep(0)
    made.lost()
    assert (await waiting)["type"] == "http.disconnect"
    await made.send(start(JSON, LENGTH))
    assert connection.transport.writes == []


async def test_a_client_that_asks_before_it_sends_is_told_to_go_on_when_its_body_is_wanted() -> None:
    made, connection = cycle()
    made.scope["headers"] = [(b"expect", b"100-Continue")]
    waiting = asyncio.create_task(made.receive())
    await asyncio.sleep(0)
    assert connection.transport.writes == [b"HTTP/1.1 100 Continue\r\n\r\n"]
    made.feed(b"x")
    made.end()
    assert (await waiting)["body"] == b"x"


async def test_a_writer_waits_for_a_slow_reader() -> None:
    made, connection = cycle()
    connection.drained = asyncio.get_running_loop().create_future()
    sending = asyncio.create_task(made.send(start((b"x-a", b"b"))))
    await asyncio.sleep(0)
    assert connection.transport.writes == []
    connection.drained.set_result(None)
    await sending
    assert connection.transport.writes


async def test_an_application_that_fails_is_500_and_one_that_says_half_is_cut_off() -> None:
    async def fails(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("a bug")

    async def stops(scope: Any, receive: Any, send: Any) -> None:
        await send(start((b"x-a", b"b")))

    async def silent(scope: Any, receive: Any, send: Any) -> None:
        pass

    for app in (fails, silent):
        made, connection = cycle()
        await made.run(app)
        assert connection.transport.writes[0].startswith(b"HTTP/1.1 500 ")
        assert b"a bug" not in connection.transport.writes[0]
        assert connection.transport.closed
    made, connection = cycle()
    await made.run(stops)
    assert connection.transport.closed
    assert not made.complete


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_long_answer_is_written_in_turns_with_others(chunked: bool) -> None:
    made, connection = cycle()
    text = bytes(range(256)) * (8 * PIECE // 256) + b"end"
    await made.send(start(*(() if chunked else ((b"content-length", b"%d" % len(text)),))))
    sending = asyncio.ensure_future(made.send(body(text)))
    seen = []
    while not sending.done():
        await asyncio.sleep(0)
        seen.append(len(connection.transport.writes))
    await sending
    assert max(map(len, connection.transport.writes)) <= PIECE + 16
    assert len(set(seen)) >= 8
    assert made.complete
    written = b"".join(connection.transport.writes).partition(b"\r\n\r\n")[2]
    assert (_unchunked(written) if chunked else written) == text


async def test_nothing_more_of_a_long_answer_is_written_to_a_client_that_is_gone() -> None:
    made, connection = cycle()
    await made.send(start((b"content-length", b"%d" % (8 * PIECE))))
    sending = asyncio.ensure_future(made.send(body(b"x" * (8 * PIECE))))
    await asyncio.sleep(0)
    made.lost()
    await sending
    assert len(b"".join(connection.transport.writes)) < 2 * PIECE


def _unchunked(data: bytes) -> bytes:
    parts = []
    while data:
        size, _, data = data.partition(b"\r\n")
        parts.append(data[: int(size, 16)])
        data = data[int(size, 16) + 2 :]
    return b"".join(parts)
