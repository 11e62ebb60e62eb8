"""What one replica hears of the others: a message that cannot be processed costs that message."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis.asyncio import Redis

from hack.redis_server import MISSING, RedisServer, find
from tests.support.eventually import eventually
from vmcp.sessions.link import RedisLink
from vmcp.sessions.settings import RedisSettings

pytestmark = pytest.mark.skipif(find() is None, reason=MISSING)


@pytest.fixture
def server() -> Iterator[RedisServer]:
    made = RedisServer()
    made.start()
    yield made
    made.close()


async def test_a_message_that_cannot_be_processed_costs_neither_the_next_one_nor_the_connection(server, capsys):
    heard: list[bytes] = []
    connections: list[None] = []

    def hear(data: bytes) -> None:
        heard.append(data)
        if data == b"bad":
            raise RuntimeError("a fault of ours")

    link = RedisLink(RedisSettings(host="127.0.0.1", port=server.port, prefix="p:"))
    link.ears["p:notes"] = hear
    link.connected = lambda: connections.append(None)
    link.start()
    client = Redis(port=server.port)
    try:
        await eventually(lambda: not link.trouble)
        for message in (b"good", b"bad", b"good"):
            assert await client.publish("p:notes", message) == 1
        await eventually(lambda: len(heard) == 3)
        assert heard == [b"good", b"bad", b"good"]
        assert (link.trouble, len(connections)) == ("", 1)
        assert "could not be processed" in capsys.readouterr().out
    finally:
        await client.aclose()
        await link.close()
