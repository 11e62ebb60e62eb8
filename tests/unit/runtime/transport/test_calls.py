"""Calls over connections of our own: used again, never mixed up, never left behind."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.manager.loop import OperatorLoop
from runtime.transport import Endpoint, Transport, TransportSettings
from runtime.transport.retry import NotSentError
from runtime.wire.errors import TransportError

Reply = Callable[[str, bytes, int], bytes | None]
"""Target, body, number of the request on its connection -> bytes to send; None: close without an answer."""


def answer(body: bytes, *headers: str) -> bytes:
    lines = "".join(f"{header}\r\n" for header in headers)
    return f"HTTP/1.1 200 OK\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body


def echo(target: str, body: bytes, _number: int) -> bytes | None:
    return answer(f"{target} ".encode() + body)


class Server:
    """A server of one's own words; counts connections, notes heads."""

    def __init__(self, reply: Reply = echo, *, pieces: int = 0) -> None:
        self.reply, self.pieces = reply, pieces
        self.connections = self.most = self.open = 0
        self.heads: list[str] = []
        self.heard = asyncio.Event()
        self.held = asyncio.Event()
        self.held.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections, self.open = self.connections + 1, self.open + 1
        self.most = max(self.most, self.open)
        number = 0
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                self.heads.append(head)
                self.heard.set()
                lengths = [line for line in head.split("\r\n") if line.startswith("Content-Length: ")]
                body = await reader.readexactly(int(lengths[0].split()[1])) if lengths else b""
                number += 1
                await self.held.wait()
                reply = self.reply(head.split(" ")[1], body, number)
                if reply is None:
                    return
                step = self.pieces or len(reply)
                for at in range(0, len(reply), step):
                    writer.write(reply[at : at + step])
                    await writer.drain()
                    if self.pieces:
                        await asyncio.sleep(0)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            writer.close()


@asynccontextmanager
async def talking(server: Server, *, size: int = 64, timeout: float = 20.0) -> AsyncIterator[Transport]:
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/prefix"
    transport = Transport(Endpoint(url=url), settings=TransportSettings(pool_size=size, call_timeout=timeout))
    try:
        yield transport
    finally:
        await transport.close()
        listening.close()


async def test_calls_one_after_the_other_share_a_connection():
    server = Server()
    async with talking(server) as transport:
        bodies = [(await transport.request("PATCH", "/a", body=b"%d" % n)).body for n in range(20)]
    assert bodies == [b"/prefix/a %d" % n for n in range(20)]
    assert server.connections == 1


@pytest.mark.parametrize("size", [1, 3])
async def test_calls_at_once_are_bounded_and_each_gets_its_own_answer(size: int):
    server = Server()
    async with talking(server, size=size) as transport:
        answers = await asyncio.gather(*(transport.request("POST", f"/{n}", body=b"x") for n in range(50)))
    assert [each.body for each in answers] == [b"/prefix/%d x" % n for n in range(50)]
    assert server.most <= size


@given(st.binary(max_size=400), st.integers(1, 60), st.booleans(), st.booleans())
@settings(max_examples=30, deadline=None)
def test_an_answer_does_not_depend_on_how_its_bytes_arrive(body: bytes, pieces: int, chunked: bool, packed: bool):
    sent = gzip.compress(body) if packed else body
    coding = ("Content-Encoding: gzip",) if packed else ()
    if chunked:
        chunks = [sent[at : at + 7] for at in range(0, len(sent), 7)]
        lines = "".join(f"{line}\r\n" for line in (*coding, "Transfer-Encoding: chunked"))
        framed = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
        reply = f"HTTP/1.1 200 OK\r\n{lines}\r\n".encode() + framed + b"0\r\n\r\n"
    else:
        reply = answer(sent, *coding)

    async def twice() -> None:
        server = Server(lambda *_: reply, pieces=pieces)
        async with talking(server) as transport:
            for _ in range(2):
                assert (await transport.request("GET", "/a")).body == body
        assert server.connections == 1

    with asyncio.Runner(loop_factory=OperatorLoop) as runner:
        runner.run(twice())


async def test_a_connection_that_the_server_closed_costs_a_read_nothing():
    server = Server(lambda target, body, number: echo(target, body, number) if number == 1 else None)
    async with talking(server) as transport:
        for _ in range(3):
            assert (await transport.request("GET", "/a", retry=False)).body == b"/prefix/a "


async def test_a_write_that_may_have_arrived_is_not_sent_again():
    server = Server(lambda target, body, number: echo(target, body, number) if number == 1 else None)
    async with talking(server) as transport:
        await transport.request("PATCH", "/a", body=b"1")
        with pytest.raises(TransportError) as raised:
            await transport.request("PATCH", "/a", body=b"2")
        assert not isinstance(raised.value, NotSentError)
        assert (await transport.request("PATCH", "/a", body=b"3")).body == b"/prefix/a 3"
    assert len(server.heads) == 3


async def test_nobody_listening_is_a_request_that_was_not_sent():
    server = Server()
    async with talking(server) as transport:
        url = transport.endpoint.url
    with pytest.raises(NotSentError):
        await Transport(Endpoint(url=url)).request("PATCH", "/a", body=b"1", retry=False)


async def test_a_call_that_is_given_up_leaves_neither_its_turn_nor_its_answer_to_the_next():
    server = Server()
    async with talking(server, size=1) as transport:
        server.held.clear()
        call = asyncio.create_task(transport.request("PATCH", "/given-up", body=b"1"))
        async with asyncio.timeout(20):
            await server.heard.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        server.held.set()
        assert (await transport.request("PATCH", "/next", body=b"2")).body == b"/prefix/next 2"


async def test_an_answer_that_does_not_come_ends_with_the_calls_limit():
    server = Server()
    async with talking(server, timeout=0.2) as transport:
        server.held.clear()
        with pytest.raises(TransportError, match="no answer within"):
            await transport.request("PATCH", "/a", body=b"1")
        server.held.set()
        assert (await transport.request("PATCH", "/a", body=b"2", timeout=20)).status == 200


@pytest.mark.parametrize(
    "reply",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000,
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nContent-Length: 3\r\n\r\nabc",
        answer(b"not packed", "Content-Encoding: gzip"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
    ],
)
async def test_what_is_no_answer_is_an_error_and_its_connection_is_not_used_again(reply: bytes):
    replies = [reply, None]
    server = Server(lambda target, body, number: replies.pop(0) if replies else echo(target, body, number))
    async with talking(server, timeout=2.0) as transport:
        with pytest.raises(TransportError):
            await transport.request("PATCH", "/a", body=b"1", retry=False)
        replies.clear()
        assert (await transport.request("PATCH", "/a", body=b"2")).body == b"/prefix/a 2"
    assert server.connections == 2


async def test_an_answer_behind_the_answer_is_nobodys():
    server = Server(lambda target, body, number: answer(b"first") + answer(b"second") if number == 1 else b"")
    async with talking(server) as transport:
        assert (await transport.request("PATCH", "/a", body=b"1")).body == b"first"
        server.reply = echo
        assert (await transport.request("PATCH", "/a", body=b"2")).body == b"/prefix/a 2"


async def test_the_request_is_written_as_http_wants_it():
    server = Server()
    async with talking(server) as transport:
        await transport.request("GET", "/roles/system:a b%", query={"labelSelector": "a in (b, c),d=é", "limit": "5"})
        line, *headers = server.heads[0].split("\r\n")
        assert line == (
            "GET /prefix/roles/system:a%20b%25?labelSelector=a%20in%20%28b%2C%20c%29%2Cd%3D%C3%A9&limit=5 HTTP/1.1"
        )
        assert f"Host: {transport.endpoint.url.split('/')[2]}" in headers
        with pytest.raises(ValueError, match="line break"):
            await transport.request("GET", "/a", accept="x\r\nEvil: 1")


async def test_warnings_and_interim_answers_are_understood():
    said = answer(b"{}", 'Warning: 299 - "old kind"', 'warning: 299 - "and \\"more\\""')
    server = Server(lambda *_: b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + said)
    async with talking(server) as transport:
        answered = await transport.request("PATCH", "/a", body=b"1")
    assert answered.status == 200
    assert answered.warnings == ("old kind", 'and "more"')
