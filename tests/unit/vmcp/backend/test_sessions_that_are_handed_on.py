"""Sessions with legacy backends that another process opened: gone on with by their ids, or opened anew."""

from __future__ import annotations

import pytest

from tests.support.eventually import eventually
from vmcp.backend.interface import BackendLink, Call, Reply, SessionSpec


def call(method: str = "tools/call", params: bytes = b'{"name":"echo","arguments":{"n":1}}') -> Call:
    return Call(method=method, params=params, timeout=5.0)


class Keeper:
    """What a client session knows of its sessions with backends, in one process or another."""

    def __init__(self) -> None:
        self.known: dict[str, BackendLink] = {}

    async def link(self, backend: str) -> BackendLink | None:
        return self.known.get(backend)

    def linked(self, backend: str, link: BackendLink) -> None:
        self.known[backend] = link


class Nobody:
    """Hears what belongs to no call."""

    def notification(self, backend: str, method: str, params: bytes) -> None:
        """Nothing is done with it."""

    async def request(self, backend: str, method: str, params: bytes) -> bytes:
        return b"{}"


@pytest.fixture
def keeper():
    return Keeper()


@pytest.fixture
async def one_and_other(server, backend_of, keeper):
    """Sessions of one client in two processes."""
    spec = SessionSpec(links=keeper)
    one, other = backend_of(server.url).open(spec), backend_of(server.url).open(spec)
    yield one, other
    await one.close()
    await other.close()


def sessions_of(server, method: str) -> list[str | None]:
    return [request.headers.get("mcp-session-id") for request in server.posts(method)]


async def test_the_other_process_goes_on_in_the_session_of_the_first(server, one_and_other, keeper) -> None:
    one, other = one_and_other
    await one.call(call())
    assert (await other.call(call())).result is not None
    assert server.sessions == 1
    assert len(set(sessions_of(server, "tools/call"))) == 1
    (link,) = keeper.known.values()
    assert [request.headers.get("mcp-protocol-version") for request in server.posts("tools/call")] == [link.version] * 2


async def test_what_the_backend_has_forgotten_is_opened_anew_once_for_both(server, one_and_other, keeper) -> None:
    one, other = one_and_other
    await one.call(call())
    server.live.clear()
    assert (await other.call(call())).result is not None
    assert (await one.call(call())).result is not None
    assert server.sessions == 2, "the first process takes up what the second has opened"
    assert sessions_of(server, "tools/call")[-1] == keeper.known["remote"].id


async def test_subscriptions_are_made_again_where_the_session_had_to_be_opened_anew(server, one_and_other) -> None:
    async def subscribed(request) -> None:
        await request.peer.result(request, {})

    server.on["resources/subscribe"] = subscribed
    one, other = one_and_other
    await one.call(call("resources/subscribe", b'{"uri":"r:1"}'))
    server.live.clear()
    await other.call(call())
    await eventually(lambda: len(server.posts("resources/subscribe")) == 2)
    first, second = sessions_of(server, "resources/subscribe")
    assert first != second


async def test_a_session_that_is_left_is_not_ended(server, backend_of, keeper) -> None:
    one = backend_of(server.url).open(SessionSpec(links=keeper, events=Nobody()))
    await one.call(call())
    await one.close(leave=True)
    assert server.verbs("DELETE") == []
    other = backend_of(server.url).open(SessionSpec(links=keeper))
    reply: Reply = await other.call(call())
    assert reply.result is not None
    await other.close()
    assert server.sessions == 1
    assert server.live == set()


async def test_an_id_that_is_longer_than_any_is_not_handed_on(server, one_and_other, keeper) -> None:
    async def initialize(request) -> None:
        server.sessions += 1
        session = f"{'x' * 2000}{server.sessions}"
        server.live.add(session)
        result = {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "s", "version": "1"}}
        await request.peer.result(request, result, mcp_session_id=session)

    server.on["initialize"] = initialize
    for session in one_and_other:
        assert (await session.call(call())).result is not None
    assert keeper.known == {}
    assert server.sessions == 2, "each process has its own"
