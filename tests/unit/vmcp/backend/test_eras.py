"""A backend's eras are a set: a client's calls go in the client's era where the backend has it."""

from __future__ import annotations

import pytest

from tests.support.eventually import eventually
from tests.support.hurried_time import HOUR
from vmcp.backend.interface import BackendError, Call, Era, Health, SessionSpec
from vmcp.backend.modern.discover import ProbeVerdict

LEGACY = SessionSpec(era=Era.LEGACY)
MODERN = SessionSpec(era=Era.MODERN)


def call(timeout: float = 5.0) -> Call:
    return Call(method="tools/call", params=b'{"name":"echo","arguments":{"n":1}}', timeout=timeout)


def both(backend):
    return backend.open(LEGACY), backend.open(MODERN)


async def test_a_backend_of_both_eras_is_spoken_to_in_the_clients(server, backend_of) -> None:
    server.be_dual()
    backend = backend_of(server.url)
    old, new = both(backend)
    for _ in range(3):
        assert (await old.call(call())).era is Era.LEGACY
        assert (await new.call(call())).era is Era.MODERN
    assert backend.state.eras == {Era.LEGACY, Era.MODERN}
    assert server.sessions == 1
    assert len(server.posts("server/discover")) == 1
    await old.close()
    await new.close()


@pytest.mark.parametrize("era", [Era.LEGACY, Era.MODERN])
async def test_a_backend_of_one_era_serves_clients_of_both(server, backend_of, era) -> None:
    if era is Era.MODERN:
        server.be_modern()
    backend = backend_of(server.url)
    old, new = both(backend)
    for _ in range(3):
        assert (await old.call(call())).era is era
        assert (await new.call(call())).era is era
    assert backend.state.eras == {era}
    assert len(server.posts("initialize")) <= 2, "a modern server is asked once whether it has sessions"
    await old.close()
    await new.close()


async def test_there_is_one_catalogue_and_it_is_the_modern_one(server, backend_of) -> None:
    server.be_dual()
    backend = backend_of(server.url)
    await backend.start()
    assert await backend.wait_known(5.0)
    assert backend.catalogue.era is Era.MODERN
    old, new = both(backend)
    await old.call(call())
    await new.call(call())
    assert len(server.posts("tools/list")) == 1
    assert backend.state.era is Era.MODERN
    await old.close()
    await new.close()


@pytest.mark.parametrize("dual", [True, False])
async def test_a_change_of_lists_that_only_a_clients_session_hears_is_fetched(server, backend_of, dual) -> None:
    if dual:
        server.be_dual()
    server.capabilities = {"tools": {"listChanged": True}}

    async def grows(request) -> None:
        server.tools = [*server.tools, {"name": "new", "inputSchema": {"type": "object"}}]
        await request.peer.stream()
        await request.peer.event({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
        await request.peer.event({"jsonrpc": "2.0", "id": request.id, "result": {"content": []}})
        await request.peer.end()

    backend = backend_of(server.url)
    await backend.start()
    await eventually(lambda: backend.catalogue.known)
    server.on["tools/call"] = grows
    old = backend.open(LEGACY)
    await old.call(call())
    await eventually(lambda: [item.key for item in backend.catalogue.tools] == ["echo", "new"])
    await old.close()


@pytest.mark.parametrize("how", ["silent", "500", "closed", "refused", "404"])
async def test_trying_whether_a_modern_backend_has_sessions_fails_no_call(server, backend_of, how) -> None:
    server.be_modern()

    async def initialize(request) -> None:
        match how:
            case "silent":
                await request.peer.gone()
            case "500":
                await request.peer.text("oops", 500)
            case "closed":
                request.peer.writer.close()
            case "refused":
                await request.peer.error(request, -32600, 400, "Bad Request")
            case _:
                await request.peer.text("not here", 404)

    server.on["initialize"] = initialize
    old = backend_of(server.url).open(LEGACY)
    for _ in range(5):
        assert (await old.call(call(timeout=1.0))).era is Era.MODERN
    assert len(server.posts("initialize")) <= 2, "a closed connection may have been an old one: once more"
    assert len(server.posts("tools/call")) == 5
    await old.close()


async def test_a_passing_failure_of_the_probe_does_not_cost_a_backend_its_modern_era(server, backend_of) -> None:
    server.be_dual()
    backend = backend_of(server.url, fast=True, health_interval=0.02)
    await backend.start()
    await eventually(lambda: backend.state.era is Era.MODERN, within=HOUR)

    async def busy(request) -> None:
        await request.peer.text("busy", 503)

    server.on["server/discover"] = busy
    await eventually(lambda: backend.state.failures >= 2, within=HOUR)
    del server.on["server/discover"]
    await eventually(lambda: backend.state.health is Health.HEALTHY, within=HOUR)
    assert backend.state.era is Era.MODERN
    assert server.sessions == 0


async def test_a_legacy_backend_that_comes_back_with_both_eras_is_found_out(server, backend_of) -> None:
    backend = backend_of(server.url, fast=True, health_interval=0.05)
    await backend.start()
    await eventually(lambda: backend.catalogue.known, within=HOUR)
    assert backend.state.eras == {Era.LEGACY}
    server.be_dual()
    server.live.clear()
    await eventually(lambda: backend.state.eras == {Era.LEGACY, Era.MODERN}, within=HOUR)
    new = backend.open(MODERN)
    assert (await new.call(call())).era is Era.MODERN
    await new.close()


@pytest.mark.parametrize(("status", "text"), [(404, "no such order"), (400, "bad order"), (405, "no")])
async def test_a_modern_call_that_is_refused_in_strange_words_is_not_sent_twice(
    server, backend_of, status, text
) -> None:
    server.be_dual()
    backend = backend_of(server.url)
    new = backend.open(MODERN)
    assert (await new.call(call())).era is Era.MODERN
    backend.eras._asked_at = -100.0  # noqa: SLF001  as if the verdict were old

    async def refuse(request) -> None:
        await request.peer.text(text, status)

    server.on["tools/call"] = refuse
    for _ in range(2):
        with pytest.raises(BackendError) as caught:
            await new.call(call())
        assert caught.value.status == status
    assert len(server.posts("tools/call")) == 3
    await new.close()


async def test_a_backend_that_names_versions_of_both_eras_is_believed(server, backend_of) -> None:
    async def discover(request) -> None:
        versions = ["2026-07-28", "2025-11-25"]
        await request.peer.result(
            request, {"supportedVersions": versions, "capabilities": {}, "resultType": "complete"}
        )

    server.be_dual()
    server.on["server/discover"] = discover
    backend = backend_of(server.url)
    new = backend.open(MODERN)
    await new.call(call())
    assert backend.state.eras == {Era.LEGACY, Era.MODERN}
    await new.close()


async def test_a_backend_that_loses_an_era_is_served_in_the_other(server, backend_of) -> None:
    server.be_dual()
    backend = backend_of(server.url)
    old, new = both(backend)
    await old.call(call())
    await new.call(call())
    server.be_modern()
    server.live.clear()
    fresh = backend.open(LEGACY)
    assert (await fresh.call(call())).era is Era.MODERN
    backend.eras._asked_at = -100.0  # noqa: SLF001  as if the verdict were old
    server.on.clear()
    assert (await new.call(call())).era is Era.LEGACY
    assert (await fresh.call(call())).era is Era.LEGACY
    for session in (old, new, fresh):
        await session.close()


async def test_no_verdict_is_lost_to_an_answer_that_is_none(server, backend_of) -> None:
    eras = backend_of(server.url).eras
    eras.judged(ProbeVerdict(Era.MODERN))
    eras.refused()
    eras.confirm()
    assert eras.spoken == {Era.LEGACY, Era.MODERN}
    eras.suspect()
    assert eras.modern is None
    assert eras.legacy is True
