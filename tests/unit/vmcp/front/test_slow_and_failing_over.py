"""Two gateways whose shared server is slow, or fails over to its replica behind the same address."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from redis.asyncio import Redis

from hack.redis_server import MISSING, RedisServer, find
from tests.support.eventually import eventually
from vmcp.core.seal import Sealer
from vmcp.front.settings import FrontSettings
from vmcp.sessions.redis import RedisStore
from vmcp.sessions.settings import RedisSettings

pytestmark = pytest.mark.skipif(find() is None, reason=MISSING)

TOOL = {"name": "echo", "inputSchema": {"type": "object"}}
ANN = {"authorization": "Bearer ann"}


class Address:
    """Where gateways find the server: leads to one of several, and takes its time.

    Attributes:
        target: TCP port of the server.
        delay: Seconds that each answer is late.
    """

    def __init__(self) -> None:
        self.target, self.delay = 0, 0.0
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        self._server.close()
        self.lead_to(0)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def lead_to(self, target: int) -> None:
        """Lead to another server; connections to the former one break."""
        self.target = target
        for writer in self._writers:
            writer.transport.abort()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.close()
            return
        self._writers |= {writer, back}
        try:
            await asyncio.gather(self._copy(reader, back, late=False), self._copy(there, writer, late=True))
        finally:
            self._writers -= {writer, back}

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, late: bool) -> None:
        try:
            while data := await reader.read(65536):
                if late and self.delay:
                    await asyncio.sleep(self.delay)
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


@pytest.fixture
def servers() -> Iterator[Callable[[], RedisServer]]:
    made: list[RedisServer] = []

    def start() -> RedisServer:
        made.append(RedisServer("--repl-diskless-sync-delay", "0"))
        made[-1].start()
        return made[-1]

    yield start
    for server in made:
        server.close()


@pytest.fixture
async def address() -> AsyncIterator[Address]:
    found = Address()
    found.port = await found.start()
    yield found
    await found.stop()


@pytest.fixture
def gateways(world, backend, address):
    async def make() -> list:
        made = []
        for _ in range(2):
            settings = RedisSettings(host="127.0.0.1", port=address.port, prefix="p:")
            store = RedisStore(settings, Sealer((b"shared by the replicas",)), idle=1800.0)
            made.append(world(backend("a", tools=[TOOL]), store=store, settings=FrontSettings(version="1")))
            made[-1].sessions.start()
        await eventually(lambda: not any(w.sessions.trouble for w in made))
        return made

    return make


async def ping(w) -> int:
    return (await w.legacy("ping", headers=ANN).answer()).status


async def test_a_server_that_takes_200_ms_for_each_answer_serves_all_the_same(servers, address, gateways):
    address.lead_to(servers().port)
    address.delay = 0.2
    one, other = await gateways()
    assert (await one.initialize(headers=ANN)).status == 200
    other.session_id = one.session_id
    assert [await ping(one), await ping(other)] == [200, 200]
    assert (await one.legacy("logging/setLevel", {"level": "error"}, headers=ANN).answer()).status == 200
    await eventually(lambda: other.sessions.all()[0].record.level == "error")
    assert [one.sessions.trouble, other.sessions.trouble] == ["", ""]


async def test_sessions_go_on_at_the_replica_that_takes_the_servers_place(servers, address, gateways):
    primary, standby = servers(), servers()
    address.lead_to(primary.port)
    admin, second = Redis(port=primary.port), Redis(port=standby.port)
    await second.replicaof("127.0.0.1", primary.port)
    await eventually(lambda: linked(second))
    one, other = await gateways()
    assert (await one.initialize(headers=ANN)).status == 200
    other.session_id = one.session_id
    assert await admin.wait(1, 5000) == 1
    primary.kill()
    address.lead_to(standby.port)
    await eventually(lambda: not (one.sessions.trouble or other.sessions.trouble), within=5.0)
    assert [await ping(one), await ping(other)] == [200, 200]
    assert (await other.initialize(headers=ANN)).status == 503, "it only reads yet"
    other.session_id = one.session_id
    await second.replicaof("NO", "ONE")
    fresh = other.session_id

    async def takes_sessions() -> bool:
        return (await other.initialize(headers=ANN)).status == 200

    await eventually(takes_sessions, within=5.0)
    other.session_id = fresh
    assert [await ping(one), await ping(other)] == [200, 200]
    await admin.aclose()
    await second.aclose()


async def linked(replica: Redis) -> bool:
    return (await replica.info("replication")).get("master_link_status") == "up"
