"""A long request is written in turns with the loop's other work, and an answer may come before its end."""

from __future__ import annotations

import asyncio

import pytest

from vmcp.http.client.connection import ClientConnection
from vmcp.http.client.errors import ConnectionLost
from vmcp.http.client.types import ClientLimits, Response
from vmcp.turns import PIECE

HEAD = b"POST /mcp HTTP/1.1\r\n\r\n"
BODY = bytes(range(256)) * (8 * PIECE // 256)
REQUEST = HEAD + BODY
ANSWER = b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 2\r\n\r\n{}"


class Wire(asyncio.Transport):
    """Counts what reaches the system."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.begun = asyncio.Event()
        self.closed = False

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self.writes.append(data)
        self.begun.set()

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def resume_reading(self) -> None:
        """Nothing was paused."""

    @property
    def written(self) -> bytes:
        return b"".join(self.writes)


def connected() -> tuple[ClientConnection, Wire, list[ClientConnection]]:
    free: list[ClientConnection] = []
    wire = Wire()
    loop = asyncio.get_running_loop()
    connection = ClientConnection(loop, ClientLimits(), free.append, lambda _: None, lambda _: None)
    connection.connection_made(wire)
    return connection, wire, free


def begin(connection: ClientConnection) -> asyncio.Task[Response]:
    return asyncio.create_task(connection.request(HEAD, asyncio.get_running_loop().time() + 60, BODY))


async def test_others_have_turns_between_the_pieces_of_a_request() -> None:
    connection, wire, free = connected()
    asked = begin(connection)
    seen = set()
    async with asyncio.timeout(10):
        while len(wire.written) < len(REQUEST):
            await asyncio.sleep(0)
            seen.add(len(wire.writes))
    # An answer that comes with the end of its request is one like any other.
    connection.data_received(ANSWER)
    assert wire.written == REQUEST
    assert max(map(len, wire.writes)) <= PIECE
    assert len(seen) >= 8
    assert (await asked).status == 413
    assert free == [connection]


async def test_a_connection_whose_request_was_answered_before_its_end_serves_no_other() -> None:
    connection, wire, free = connected()
    asked = begin(connection)
    await wire.begun.wait()
    connection.data_received(ANSWER)
    assert (await asked).status == 413
    assert (free, wire.closed, connection.usable) == ([], True, False)
    assert len(wire.written) < len(REQUEST)


async def test_a_stream_that_begins_early_gets_the_rest_of_its_request() -> None:
    connection, wire, _ = connected()
    asked = begin(connection)
    await wire.begun.wait()
    connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
    response = await asked
    assert response.stream is not None
    assert wire.written == REQUEST
    response.stream.close()


async def test_a_connection_that_is_lost_while_it_is_written_to_says_so() -> None:
    connection, wire, free = connected()
    asked = begin(connection)
    await wire.begun.wait()
    connection.connection_lost(None)
    with pytest.raises(ConnectionLost):
        await asked
    assert free == []
    assert len(wire.written) < len(REQUEST)
