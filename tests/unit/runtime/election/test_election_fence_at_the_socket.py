"""The fence is asked when bytes go out, not only when a request is begun."""

from __future__ import annotations

import asyncio

import pytest

from runtime.transport.config import Endpoint
from runtime.transport.session import Transport, WriteFencedError
from runtime.wire.errors import TransportError


class Server:
    """Counts the bytes that arrive; answers each request with an empty object."""

    def __init__(self) -> None:
        self.received = b""

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            self.received += data
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()


async def test_a_lease_lost_while_waiting_for_a_connection_sends_not_one_byte():
    answers = [True, False]
    server = Server()
    async with server as url:
        transport = Transport(Endpoint(url=url), may_write=lambda: answers.pop(0))
        with pytest.raises(TransportError):
            await transport.request("PATCH", "/x", body=b'{"a":1}', content_type="application/merge-patch+json")
        await transport.close()
    assert answers == []
    assert server.received == b""


async def test_an_open_fence_lets_head_and_body_through_unchanged():
    server = Server()
    async with server as url:
        transport = Transport(Endpoint(url=url), may_write=lambda: True)
        await transport.request("PATCH", "/x", body=b'{"a":1}', content_type="application/merge-patch+json")
        await transport.close()
    head, _, body = server.received.partition(b"\r\n\r\n")
    assert body == b'{"a":1}'
    assert head.lower().count(b"content-type:") == 1
    assert b"Content-Type: application/merge-patch+json" in head


async def test_a_closed_fence_refuses_writes_at_once_and_lets_reads_pass():
    server = Server()
    async with server as url:
        transport = Transport(Endpoint(url=url), may_write=lambda: False)
        with pytest.raises(WriteFencedError):
            await transport.request("DELETE", "/x")
        assert (await transport.request("GET", "/x")).status == 200
        await transport.close()
