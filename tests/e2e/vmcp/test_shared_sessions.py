"""Replicas that share sessions, as programs: clients meet any of them at any request, and one of them dies."""

from __future__ import annotations

import asyncio
import base64
import os
import random
import signal
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from hack.redis_server import MISSING, RedisServer, find
from tests.e2e.vmcp.kit import Client, EchoBackend, Gateway, Reply, config
from tests.support.eventually import eventually

pytestmark = [pytest.mark.asyncio, pytest.mark.skipif(find() is None, reason=MISSING)]

PASSWORD = "sesame-of-the-store"
CLIENTS, CALLS = 6, 12


@pytest_asyncio.fixture
async def replicas(tmp_path) -> AsyncIterator[list[Gateway]]:
    """Three replicas behind which one backend counts the calls of each session."""
    server = RedisServer("--requirepass", PASSWORD)
    server.start()
    backend = await EchoBackend("counts").start()
    secret = base64.b64encode(os.urandom(32)).decode()
    environ = {"VMCP_SESSION_HMAC_SECRET": secret, "THV_SESSION_REDIS_PASSWORD": PASSWORD}
    storage = {"provider": "redis", "address": f"127.0.0.1:{server.port}"}
    found = []
    for number in range(3):
        directory = tmp_path / str(number)
        directory.mkdir()
        document = config(backend.entry, sessionStorage=storage)
        found.append(Gateway(document, directory, backend.resolve, environ=environ))
    try:
        await asyncio.gather(*(gateway.start() for gateway in found))
        await asyncio.gather(*(eventually(lambda one=one: one.knows("counts")) for one in found))
        yield found
    finally:
        await asyncio.gather(*(gateway.stop() for gateway in found))
        await backend.stop()
        server.close()
    for gateway in found:
        gateway.clean()
        assert PASSWORD not in gateway.text()
        assert secret not in gateway.text()


async def call_at(client: Client, gateway: Gateway, nonce: str) -> Reply:
    client.url = gateway.url + "/mcp"
    return await client.call("counts_count", nonce=nonce)


async def test_sessions_go_on_at_any_replica_and_survive_the_end_of_others(replicas) -> None:
    order = random.Random(7)
    alive = list(replicas)
    halfway = asyncio.Barrier(CLIENTS + 1)

    async def use(number: int) -> set[str]:
        sessions = set()
        async with Client(alive[number % 3].url) as client:
            for count in range(1, CALLS + 1):
                if count == CALLS // 2:
                    await halfway.wait()  # nothing is under way
                    await halfway.wait()  # one of them is gone
                nonce = f"{number}-{count}"
                told = (await call_at(client, order.choice(alive), nonce)).told
                assert (told["nonce"], told["count"]) == (nonce, count), "one session with the backend, wherever"
                sessions.add(told["session"])
        return sessions

    async def kill_one() -> None:
        await halfway.wait()
        await alive.pop(0).stop(signal.SIGKILL)
        await halfway.wait()

    *used, _ = await asyncio.gather(*(use(number) for number in range(CLIENTS)), kill_one())
    assert [len(sessions) for sessions in used] == [1] * CLIENTS
    assert len(set.union(*used)) == CLIENTS, "nobody shares a session with another"

    one, two = alive
    async with Client(one.url) as client:
        assert (await call_at(client, one, "a")).told["count"] == 1
        assert await one.stop() == 0
        assert (await call_at(client, two, "b")).told["count"] == 2, "a replica that ends in good order leaves sessions"
        assert (await client.post(b"", client.headers(), "DELETE")).status == 200
        assert (await call_at(client, two, "c")).status == 404
    assert (await two.status())["session_store"] == "available"
    assert (await two.get("/readyz"))[0] == 200
