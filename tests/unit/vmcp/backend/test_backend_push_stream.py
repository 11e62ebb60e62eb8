"""A GET stream that cannot be established: the backend is degraded, not down, and lists are fetched meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.eventually import eventually
from tests.support.hurried_time import HOUR
from vmcp.backend.interface import Circuit, Health


class Stream:
    """The server's answer to GET, as a test wants it."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.hang_up = asyncio.Event()

    async def __call__(self, request) -> None:
        if self.status != 200:
            await request.peer.json({}, self.status)
            return
        await request.peer.stream()
        await self.hang_up.wait()
        await request.peer.end()


def tool(name: str) -> dict:
    return {"name": name, "inputSchema": {"type": "object"}}


def names(backend) -> list[str]:
    return [item.key for item in backend.catalogue.tools]


@pytest.mark.parametrize("status", [500, 502, 503, 429])
@pytest.mark.parametrize("announced", [True, False])
async def test_a_stream_that_cannot_be_established_is_degraded_and_lists_are_fetched_with_each_probe(
    server, backend_of, status: int, announced: bool
) -> None:
    server.on["GET"] = stream = Stream(status)
    server.capabilities = {"tools": {"listChanged": announced}}
    backend = backend_of(server.url, fast=True, health_interval=30.0)
    await backend.start()
    await eventually(lambda: backend.state.health is Health.DEGRADED and names(backend) == ["echo"], within=HOUR)
    assert backend.state.failures == 0
    assert backend.state.circuit is Circuit.CLOSED
    server.tools = [tool("silently")]
    await eventually(lambda: names(backend) == ["silently"], within=HOUR)
    assert backend.state.health is Health.DEGRADED
    stream.status = 200
    await eventually(lambda: backend.state.health is Health.HEALTHY, within=HOUR)


@pytest.mark.parametrize("status", [405, 501, 404])
async def test_a_server_that_offers_no_stream_is_healthy(server, backend_of, status: int) -> None:
    server.on["GET"] = Stream(status)
    server.capabilities = {"tools": {"listChanged": True}}
    backend = backend_of(server.url, fast=True, health_interval=30.0)
    await backend.start()
    await eventually(lambda: server.verbs("GET") and backend.state.health is Health.HEALTHY, within=HOUR)
    await eventually(lambda: len(server.posts("ping")) >= 3, within=HOUR)
    assert backend.state.health is Health.HEALTHY


async def test_what_changed_while_the_stream_was_away_is_fetched_when_it_is_back(server, backend_of) -> None:
    """The stream ends and comes back without event ids: nobody can say what was missed."""
    server.on["GET"] = stream = Stream(200)
    server.capabilities = {"tools": {"listChanged": True}}
    backend = backend_of(server.url, fast=True, health_interval=None)
    await backend.start()
    await eventually(lambda: server.verbs("GET") and names(backend) == ["echo"], within=HOUR)
    server.tools = [tool("changed")]
    stream.hang_up.set()
    await eventually(lambda: names(backend) == ["changed"], within=HOUR)
