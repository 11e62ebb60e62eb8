"""Rules 1 to 5 of "vMCP towards a direct backend", one test each, and what they imply."""

from __future__ import annotations

import asyncio
import ssl
from itertools import pairwise

import pytest
import structlog
import trustme

from tests.support.eventually import eventually
from tests.support.hurried_time import HOUR
from tests.unit.vmcp.backend.conftest import tool_of
from vmcp.backend.interface import (
    BackendUnavailable,
    BreakerSettings,
    Call,
    CatalogueChange,
    Circuit,
    CircuitOpen,
    Era,
    Health,
    Kind,
    SessionSpec,
)


def call(**changes) -> Call:
    return Call(method="tools/call", params=b'{"name":"echo","arguments":{"n":1}}', **changes)


class Events:
    """A client session's ear."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, bytes]] = []

    def notification(self, backend: str, method: str, params: bytes) -> None:
        self.heard.append((method, params))

    async def request(self, backend: str, method: str, params: bytes) -> bytes:
        self.heard.append((method, params))
        return b'{"roots":[]}'


# --- 1 ---


async def test_rule_1_private_ca_and_outgoing_auth_are_in_every_request(server, backend_of, auth_of, tmp_path) -> None:
    await server.stop()
    ca = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("remote.example").configure_cert(context)
    bundle = tmp_path / "ca.crt"
    ca.cert_pem.write_to_path(str(bundle))
    await server.start(tls=context)
    backend = backend_of(
        f"https://remote.example:{server.port}/mcp",
        auth=auth_of("header_injection", authorization="Bearer s3cret"),
        ca_bundle=str(bundle),
        resolve={("remote.example", server.port): "127.0.0.1"},
    )
    await backend.start()
    assert await backend.wait_known(5)
    session = backend.open(SessionSpec(events=Events()))
    assert (await session.call(call())).result is not None
    await eventually(lambda: server.verbs("GET"))
    await session.close()
    assert {request.verb for request in server.seen} == {"GET", "POST", "DELETE"}
    assert all(request.headers["authorization"] == "Bearer s3cret" for request in server.seen)


# --- 2 ---


async def test_rule_2_the_negotiated_version_is_on_every_request_after_initialize(server, backend_of) -> None:
    async def older(request) -> None:
        server.live.add("s")
        result = {
            "protocolVersion": "2025-06-18",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "s", "version": "1"},
        }
        await request.peer.result(request, result, mcp_session_id="s")

    server.on["initialize"] = older
    backend = backend_of(server.url)
    session = backend.open(SessionSpec(events=Events()))
    await session.call(call())
    await session.notify("notifications/roots/list_changed", b"{}")
    await eventually(lambda: server.verbs("GET"))
    await session.close()
    legacy = [request for request in server.seen if request.method != "server/discover"]
    assert "mcp-protocol-version" not in legacy[0].headers
    assert legacy[0].method == "initialize"
    for request in legacy[1:]:
        assert request.headers["mcp-protocol-version"] == "2025-06-18", request
        assert request.headers["mcp-session-id"] == "s"
    assert {request.verb for request in legacy} == {"GET", "POST", "DELETE"}


# --- 3 ---


async def test_rule_3_list_changed_refetches_that_list_only_where_it_was_announced(server, backend_of) -> None:
    gate: asyncio.Queue[str] = asyncio.Queue()

    async def stream(request) -> None:
        await request.peer.stream()
        while True:
            await request.peer.event({"jsonrpc": "2.0", "method": await gate.get()})

    server.on["GET"] = stream
    server.capabilities = {"tools": {"listChanged": True}, "prompts": {"listChanged": False}}

    async def prompts(request) -> None:
        await request.peer.result(request, {"prompts": [{"name": f"p{len(server.posts('prompts/list'))}"}]})

    server.on["prompts/list"] = prompts
    backend = backend_of(server.url)
    changes: list[CatalogueChange] = []
    backend.subscribe(changes.append)
    await backend.start()
    await eventually(lambda: server.verbs("GET") and backend.catalogue.known)
    order = [request.method or request.verb for request in server.seen]
    assert order.index("GET") > order.index("notifications/initialized")
    assert server.verbs("GET")[0].headers["accept"] == "text/event-stream"
    server.tools = [tool_of("other")]
    with structlog.testing.capture_logs() as lines:
        gate.put_nowait("notifications/" + "x" * 500)
        gate.put_nowait("notifications/prompts/list_changed")
        gate.put_nowait("notifications/tools/list_changed")
        await eventually(lambda: [item.key for item in backend.catalogue.tools] == ["other"])
    dropped = [line["method"] for line in lines if line["event"] == "a backend's notification was dropped"]
    assert dropped == [("notifications/" + "x" * 500)[:100], "notifications/prompts/list_changed"]
    assert {line["log_level"] for line in lines if line.get("method") in dropped} == {"debug"}
    assert len(server.posts("tools/list")) == 2
    assert len(server.posts("prompts/list")) == 1, "prompts.listChanged was not announced"
    assert changes[-1].kinds == {Kind.TOOLS}


# --- 4 ---


async def test_rule_4_a_dropped_stream_resumes_with_the_last_event_id_and_backs_off(server, backend_of) -> None:
    asked: list[float] = []

    async def stream(request) -> None:
        asked.append(asyncio.get_running_loop().time())
        count = len(server.verbs("GET"))
        if count == 1:
            await request.peer.stream()
            await request.peer.event("", id="e-7")
            await request.peer.end()
        elif count == 2:
            await request.peer.stream()
            await request.peer.event("", id="e-8", retry="2500")
            await request.peer.end()
        elif count < 12:
            await request.peer.json({}, 503)
        else:
            await request.peer.stream()
            await request.peer.gone()

    server.on["GET"] = stream
    backend = backend_of(server.url, fast=True)
    session = backend.open(SessionSpec(events=Events()))
    await session.call(call())
    await eventually(lambda: len(server.verbs("GET")) == 12, within=HOUR)
    ids = [request.headers.get("last-event-id") for request in server.verbs("GET")]
    assert ids == [None, "e-7", *["e-8"] * 10]
    waits = [later - earlier for earlier, later in pairwise(asked)]
    assert 0.9 <= waits[0] <= 2.2
    assert waits[1] == pytest.approx(2.5, abs=0.2), "retry: overrides one wait"
    assert all(0.9 <= wait <= 31 for wait in waits), waits
    assert max(waits) >= 15.0, "the waits grow to the limit"
    assert len({round(wait, 3) for wait in waits}) > 8, "the waits are jittered"
    assert server.sessions == 1
    await session.close()


async def test_rule_4_a_lost_session_means_a_new_handshake_new_lists_and_a_new_stream(server, backend_of) -> None:
    async def stream(request) -> None:
        if request.headers["mcp-session-id"] not in server.live:
            await request.peer.json({}, 404)
            return
        await request.peer.stream()
        await request.peer.gone()

    server.on["GET"] = stream
    server.capabilities = {"tools": {"listChanged": True}}
    backend = backend_of(server.url, fast=True, health_interval=30.0)
    await backend.start()
    await eventually(lambda: len(server.verbs("GET")) == 1 and backend.catalogue.known, within=HOUR)
    await server.stop()  # killed: sessions are gone, and the port with it
    server.live.clear()
    await eventually(lambda: backend.state.failures > 0, within=HOUR)
    assert [item.key for item in backend.catalogue.tools] == ["echo"], "merely unreachable: the last good lists stay"
    assert backend.catalogue.age > 0
    server.tools = [tool_of("after")]
    await server.start(port=server.port)
    await eventually(lambda: [item.key for item in backend.catalogue.tools] == ["after"], within=HOUR)
    assert server.sessions == 2
    await eventually(lambda: server.verbs("GET")[-1].headers["mcp-session-id"] == "session-2", within=HOUR)
    assert backend.state.health in {Health.HEALTHY, Health.DEGRADED}


async def test_rule_4_a_call_into_a_lost_session_is_repeated_once_in_a_new_one(server, backend_of) -> None:
    backend = backend_of(server.url)
    session = backend.open(SessionSpec())
    await session.call(call())
    server.live.clear()
    reply = await session.call(call())
    assert reply.result is not None
    assert server.sessions == 2
    assert [request.headers.get("mcp-session-id") for request in server.posts("tools/call")] == [
        "session-1",
        "session-1",
        "session-2",
    ]
    await session.close()


async def test_rule_4_lists_that_a_new_session_cannot_give_are_dropped(server, backend_of) -> None:
    backend = backend_of(server.url, fast=True, health_interval=30.0)
    await backend.start()
    await eventually(lambda: backend.catalogue.known, within=HOUR)

    async def broken(request) -> None:
        await request.peer.error(request, -32603)

    server.on["tools/list"] = broken
    server.live.clear()
    await eventually(lambda: backend.catalogue.tools == (), within=HOUR)
    del server.on["tools/list"]
    await eventually(lambda: len(backend.catalogue.tools) == 1, within=HOUR)


# --- 5 ---


async def test_rule_5_after_five_failures_the_circuit_opens_for_calls_and_one_probe_a_minute_may_try(
    server, backend_of
) -> None:
    backend = backend_of(server.url, breaker=BreakerSettings(), stepped=True)
    session = backend.open(SessionSpec())
    await session.call(call())
    port = server.port
    await server.stop()
    with pytest.raises(BackendUnavailable):
        await session.call(call())
    # A kept connection that died says nothing yet; on a busy machine the pool may know of its end and dial anew.
    known = backend.state.failures
    assert known in (0, 1)
    for failed in range(known + 1, 6):
        with pytest.raises(Exception, match="backend remote") as caught:
            await session.call(call())
        assert not isinstance(caught.value, CircuitOpen)
        assert backend.state.failures == failed
    assert backend.state.circuit is Circuit.OPEN
    assert backend.state.health is Health.UNHEALTHY
    await server.start(port=port)
    before = len(server.seen)
    for _ in range(3):
        with pytest.raises(CircuitOpen):
            await session.call(call())
    assert len(server.seen) == before, "an open circuit sends nothing"
    backend_of.time.advance(61)
    server.on["tools/call"] = held = Held(server)
    trying = asyncio.create_task(session.call(call()))
    await held.arrived.wait()
    with pytest.raises(CircuitOpen):
        await session.call(call())
    held.release.set()
    assert (await trying).result is not None
    assert backend.state.circuit is Circuit.CLOSED
    assert backend.state.failures == 0
    await session.close()


class Held:
    """Holds answers back until it is released."""

    def __init__(self, server) -> None:
        self.server = server
        self.arrived = asyncio.Event()
        self.release = asyncio.Event()

    async def __call__(self, request) -> None:
        if request.headers.get("mcp-session-id") not in self.server.live:
            await request.peer.error(request, -32001, 404, "Session not found")
            return
        self.arrived.set()
        await self.release.wait()
        await self.server.answer(request)


async def test_rule_5_the_monitor_closes_the_circuit_again_by_itself(server, backend_of) -> None:
    port = server.port
    await server.stop()
    backend = backend_of(server.url, fast=True, health_interval=30.0, breaker=BreakerSettings())
    await backend.start()
    await eventually(lambda: backend.state.circuit is Circuit.OPEN, within=HOUR)
    await server.start(port=port)
    await eventually(lambda: backend.state.circuit is Circuit.CLOSED, within=HOUR)
    assert max(backend_of.time.waits) == pytest.approx(60, abs=1), "a minute, and nothing before it"
    assert backend.state.era is Era.LEGACY
    await eventually(lambda: backend.catalogue.known, within=HOUR)


async def test_without_a_breaker_calls_go_on_failing_but_are_counted(server, backend_of) -> None:
    backend = backend_of(server.url)
    session = backend.open(SessionSpec())
    await server.stop()
    for _ in range(8):
        with pytest.raises(Exception, match="no connection"):
            await session.call(call())
    assert backend.state.circuit is Circuit.CLOSED
    assert backend.state.health is Health.UNHEALTHY
    assert backend.state.failures == 8


async def test_the_log_says_why_a_backend_is_not_there_and_when_it_is_back(server, backend_of) -> None:
    port = server.port
    await server.stop()
    with structlog.testing.capture_logs() as lines:
        backend = backend_of(server.url, fast=True, health_interval=30.0)
        await backend.start()
        await eventually(lambda: backend.state.health is Health.UNHEALTHY, within=HOUR)
        await server.start(port=port)
        await eventually(lambda: backend.state.health is Health.HEALTHY, within=HOUR)
    told = [(line["event"], line.get("now"), "no connection" in line.get("reason", "")) for line in lines]
    assert told.count(("a backend failed", None, True)) == 1, "each further failure says nothing new"
    assert ("a backend's health changed", "unhealthy", True) in told
    assert ("a backend's health changed", "degraded", False) in told
    assert all(line["backend"] == "remote" for line in lines)


async def test_whoever_counts_calls_is_told_of_each_that_was_sent_and_ended(server, backend_of) -> None:
    told = []
    backend = backend_of(server.url, breaker=BreakerSettings())
    backend.on_call = lambda *found: told.append(found)
    session = backend.open(SessionSpec())
    reply = await session.call(call())
    assert [(name, method, given) for name, method, _, given in told] == [("remote", "tools/call", reply)]
    server.on["tools/call"] = held = Held(server)
    given_up = asyncio.create_task(session.call(call()))
    await held.arrived.wait()
    given_up.cancel()
    await asyncio.wait([given_up])
    assert len(told) == 1, "what its caller cancelled has no end"
    late = asyncio.create_task(session.call(call(timeout=0.3)))
    with pytest.raises(Exception, match="remote"):
        await late
    assert told[1][3] is None
    assert told[1][2] >= 0.3
    held.release.set()
    await server.stop()
    while backend.state.circuit is not Circuit.OPEN:
        with pytest.raises(Exception, match="remote"):
            await session.call(call())
    sent = len(told)
    with pytest.raises(CircuitOpen):
        await session.call(call())
    assert len(told) == sent, "an open circuit sends nothing"
