"""What a backend said has changed is fetched: whatever was under way then, and whoever gave up waiting for it."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.eventually import eventually
from tests.unit.vmcp.backend.conftest import tool_of
from vmcp.auth.interface import AuthUnavailable, Principal
from vmcp.backend.interface import Call, Kind, SessionSpec

ADA, BOB = Principal("ada", "iss"), Principal("bob", "iss")
CHANGED = "notifications/tools/list_changed"


class Events:
    """A client session that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def notification(self, backend: str, method: str, params: bytes) -> None:
        self.told.append(method)

    async def request(self, backend: str, method: str, params: bytes) -> bytes:
        raise NotImplementedError


def keys(catalogue) -> list[str]:
    return [item.key for item in catalogue.tools]


@pytest.fixture
def gates(server) -> list[asyncio.Event]:
    """Let each answer to `tools/list` name the request that it answers; a gate at its place holds it back."""
    held: list[asyncio.Event] = []

    async def tools(request) -> None:
        number = len(server.posts("tools/list"))
        if number <= len(held):
            await held[number - 1].wait()
        await request.peer.result(request, {"tools": [tool_of(f"t{number}")]})

    server.on["tools/list"] = tools
    return held


@pytest.fixture
async def personal(server, gates, backend_of, auth_of):
    """A backend that lists for each caller, and a way to let it tell ADA's session of a change."""
    news: asyncio.Queue[str] = asyncio.Queue()

    async def stream(request) -> None:
        await request.peer.stream()
        while True:
            await request.peer.event({"jsonrpc": "2.0", "method": await news.get()})

    server.on["GET"] = stream
    auth = auth_of("token_exchange", authorization="Bearer for-{sub}")
    auth.probe_error = AuthUnavailable("token_exchange", "nobody asks")
    backend = backend_of(server.url, auth=auth)
    await backend.start()
    assert await backend.wait_known(5)
    assert backend.personal
    events = Events()
    session = backend.open(SessionSpec(principal=ADA, events=events))
    await session.call(Call(method="tools/call", params=b'{"name":"echo"}', principal=ADA))

    async def tell() -> None:
        before = len(events.told)
        news.put_nowait(CHANGED)
        await eventually(lambda: len(events.told) > before)

    yield backend, tell
    await session.close()


async def test_a_caller_whose_session_heard_of_a_change_is_not_shown_lists_from_before_it(personal) -> None:
    backend, tell = personal
    assert [keys(await backend.catalogue_for(caller, timeout=5)) for caller in (ADA, BOB, ADA)] == [
        ["t1"],
        ["t2"],
        ["t1"],
    ]
    await tell()
    assert keys(await backend.catalogue_for(ADA, timeout=5)) == ["t3"]
    assert keys(await backend.catalogue_for(ADA, timeout=5)) == ["t3"], "once is enough"
    assert keys(await backend.catalogue_for(BOB, timeout=5)) == ["t2"], "BOB was told nothing"


async def test_lists_that_were_asked_for_before_a_change_do_not_take_the_place_of_those_after_it(
    personal, gates, server
) -> None:
    backend, tell = personal
    gates.append(asyncio.Event())
    early = asyncio.create_task(backend.catalogue_for(ADA, timeout=5))
    await eventually(lambda: server.posts("tools/list"))
    await tell()
    assert keys(await backend.catalogue_for(ADA, timeout=5)) == ["t2"]
    gates[0].set()
    assert keys(await early) == ["t1"]
    assert keys(await backend.catalogue_for(ADA, timeout=5)) == ["t2"]


async def test_a_list_that_is_due_stays_due_when_who_fetched_it_gives_up(server, gates, backend_of) -> None:
    backend = backend_of(server.url)
    await backend.start()
    await eventually(lambda: keys(backend.catalogue) == ["t1"])
    opened = asyncio.Event()
    opened.set()
    gates.extend([opened, asyncio.Event()])
    fetching = asyncio.create_task(backend.refresh((Kind.TOOLS,)))
    await eventually(lambda: len(server.posts("tools/list")) == 2)
    fetching.cancel()
    await asyncio.wait([fetching])
    await backend.refresh(())
    assert keys(backend.catalogue) == ["t3"]
