"""Backends that do what no server should: who calls them gets a clean error in time, and everybody else notices
nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
import pytest_asyncio

from tests.e2e.vmcp.hostile_backend import FAULTS, Hostile
from tests.e2e.vmcp.kit import Client, EchoBackend, Gateway, Reply, config
from tests.support.eventually import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

CHARACTERS = ("loop", "endless", "gigantic", "silent", "closes", "babbles", "liar")
LONG = os.environ.get("TEST_LONG", "") not in ("", "0")
TIMEOUT = 2.0
MEBIBYTE = 1024 * 1024
CATEGORY = {
    "never": {"timeout"},
    "endless_stream": {"timeout"},
    "endless_event": {"timeout", "protocol"},
    "endless_body": {"timeout", "protocol"},
    "endless_head": {"timeout", "protocol"},
    "closes": {"unavailable"},
    "closes_in_a_body": {"unavailable"},
    "closes_in_a_stream": {"unavailable"},
}
"""What callers are told; everything else is `protocol`. What has no end meets a limit or the deadline first."""


UNTIL_THE_DEADLINE = {how for how, found in CATEGORY.items() if "timeout" in found}


@dataclass
class Inside:
    """A listener that nothing outside should reach through us."""

    port: int = 0
    visits: list[bytes] = field(default_factory=list)

    async def visited(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.visits.append(await reader.read(65536))
        writer.close()


@dataclass
class House:
    gateway: Gateway
    inside: Inside
    hostile: dict[str, Hostile]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory) -> AsyncIterator[House]:
    inside = Inside()
    server = await asyncio.start_server(inside.visited, "127.0.0.1", 0)
    inside.port = server.sockets[0].getsockname()[1]
    good = await EchoBackend("good").start()
    async with contextlib.AsyncExitStack() as stack:
        found = [Hostile("old", elsewhere=inside.port), Hostile("new", modern=True, elsewhere=inside.port)]
        found += [Hostile(name, character=name) for name in CHARACTERS]
        hostile = {one.name: await stack.enter_async_context(one) for one in found}
        document = config(
            good.entry,
            *(one.entry for one in found),
            operational={
                "timeouts": {"default": f"{TIMEOUT:.0f}s"},
                "failureHandling": {"healthCheckInterval": "2s", "healthCheckTimeout": "1s"},
            },
        )
        gateway = Gateway(
            document, tmp_path_factory.mktemp("gw"), good.resolve, *(one.resolve for one in hostile.values())
        )
        await gateway.start()
        try:
            await eventually(lambda: gateway.knows("good", "old", "new"), within=60)
            yield House(gateway, inside, hostile)
        finally:
            code = await gateway.stop()
            await good.stop()
            server.close()
        gateway.clean()
        assert code == 0
        assert inside.visits == []


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def neighbour(house, connect) -> AsyncIterator[None]:
    """Somebody else, whose calls of a healthy backend go on all the time, each within a second."""
    honest: Client = await connect(house.gateway.url)
    over = asyncio.Event()
    slowest = 0.0

    async def go_on() -> None:
        nonlocal slowest
        number = (await honest.call("good_count")).told["count"]
        while not over.is_set():
            started = time.monotonic()
            told = (await honest.call("good_count", nonce=str(number))).told
            slowest = max(slowest, time.monotonic() - started)
            number += 1
            assert (told["count"], told["nonce"]) == (number, str(number - 1))
            await asyncio.wait([asyncio.create_task(over.wait())], timeout=0.02)

    task = asyncio.create_task(go_on())
    yield
    over.set()
    await task
    assert slowest < TIMEOUT, "others waited for a backend that is not theirs"


async def fails(client: Client, tool: str, **arguments: str) -> Reply:
    started = time.monotonic()
    reply = await client.call(tool, **arguments)
    assert time.monotonic() - started < TIMEOUT + 5.0
    assert reply.status == 200
    assert "result" not in reply.message, reply.body
    assert reply.error["code"] == -32603
    return reply


@pytest.mark.parametrize(
    ("era", "backend", "how"),
    [
        (era, backend, how)
        for how in [*FAULTS, "redirects"]
        for era in ("legacy", "modern")
        for backend in ("old", "new")
        # What takes until the deadline is shown once per backend's era in the short run.
        if LONG or how not in UNTIL_THE_DEADLINE or (era == "legacy") == (backend == "new")
    ],
)
async def test_a_call_that_its_backend_mistreats_ends_in_a_clean_error_and_the_next_one_is_right(
    house, connect, era, backend, how
):
    client = await connect(house.gateway.url, era=era)
    before = house.gateway.rss()
    reply = await fails(client, f"{backend}_call", how=how, nonce="1")
    assert reply.error["data"]["backend"] == backend
    assert reply.error["data"]["category"] in CATEGORY.get(how, {"protocol"}), reply.body
    assert "127.0.0.1" not in reply.body
    assert "x-evil" not in {name.lower() for name in reply.headers}
    told = (await client.call(f"{backend}_call", nonce="2")).told
    assert told == {"nonce": "2"}
    assert house.inside.visits == []
    assert house.gateway.rss() - before < 256 * MEBIBYTE


@pytest.mark.parametrize("backend", ["old", "new"])
async def test_a_second_answer_behind_the_first_is_nobody_s(house, connect, backend):
    clients = [await connect(house.gateway.url, era=era) for era in ("legacy", "modern")]
    for number in range(10):
        for who, client in enumerate(clients):
            nonce = f"{number}-{who}"
            assert (await client.call(f"{backend}_call", how="twice", nonce=nonce)).told == {"nonce": nonce}
            assert (await client.call(f"{backend}_call", nonce=nonce + "+")).told == {"nonce": nonce + "+"}


@pytest.mark.parametrize("name", CHARACTERS)
async def test_a_backend_whose_lists_or_handshake_are_wrong_offers_what_is_certain_and_says_why(house, connect, name):
    for era in ("legacy", "modern"):
        client = await connect(house.gateway.url, era=era)
        tools = await client.tools()
        assert {"good_echo", "old_call", "new_call"} <= set(tools)
        offered = [tool for tool in tools if tool.startswith(f"{name}_")]
        assert not offered or name == "loop", "only of a list whose cursors repeat is anything certain"
        assert len((await client.call(f"{name}_call")).error["message"]) < 500

    async def told() -> bool:
        health = json.loads((await house.gateway.get("/api/backends/health"))[1])["backends"][name]
        why = health["LastErrorCategory"] or health.get("ListsFailing") or health.get("EntriesLeftOut")
        return (health["Status"] in ("unhealthy", "degraded") or name == "loop") and bool(why)

    async def ready() -> bool:
        return (await house.gateway.get("/readyz"))[0] == 200

    await eventually(told, within=30)
    await eventually(ready, within=30)


async def test_hostile_backends_are_not_stormed(house):
    before = {name: len(house.hostile[name].posts) for name in CHARACTERS}
    watched = time.monotonic()
    # Two more looks at one of them; by then everybody was looked at.
    await eventually(lambda: len(house.hostile["liar"].posts) >= before["liar"] + 4, within=30)
    seconds = time.monotonic() - watched
    for name in CHARACTERS:
        # A look every two seconds is at most a handshake and the pages of one list; an endless one has 1,000 pages.
        limit = 1_100 if name == "endless" else 20
        assert len(house.hostile[name].posts) - before[name] < limit * (2 + seconds / 2), name


async def test_a_backend_that_changes_its_era_at_every_request_is_served_or_fails_cleanly(house, connect, tmp_path):
    async with Hostile("flips", character="flips") as backend:
        gateway = Gateway(config(backend.entry), tmp_path, backend.resolve)
        await gateway.start()
        try:
            for era in ("legacy", "modern"):
                client = await connect(gateway.url, era=era)
                for number in range(20):
                    reply = await client.call("flips_call", nonce=str(number))
                    assert reply.status in (200, 400)
                    if "result" in reply.message:
                        assert reply.told == {"nonce": str(number)}
                    else:
                        assert reply.error["code"] < 0
            assert len(backend.posts) < 2000
        finally:
            assert await gateway.stop() == 0
        gateway.clean()
