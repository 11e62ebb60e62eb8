"""Backends that misbehave: each ends in a clean error or a bounded answer, and none delays another."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.eventually import eventually
from tests.support.hurried_time import HOUR
from tests.unit.vmcp.backend.conftest import tool_of
from vmcp.auth.interface import AuthUnavailable, Principal
from vmcp.backend import lists
from vmcp.backend.interface import (
    BackendAuthFailed,
    BackendError,
    BackendProtocolError,
    BackendTimeout,
    BackendUnavailable,
    Call,
    Circuit,
    Era,
    Health,
    Kind,
    Reply,
    SessionSpec,
)
from vmcp.backend.meta import legacy_params, modern_params
from vmcp.backend.model import Handshake
from vmcp.backend.modern.mirrored import InvalidMirrorError, mirror_of, mirrored_headers
from vmcp.trace import TraceContext

MODERN = "2026-07-28"


def call(timeout: float = 2.0, **changes) -> Call:
    return Call(method="tools/call", params=b'{"name":"echo","arguments":{"n":1}}', timeout=timeout, **changes)


def raw(data: bytes):
    async def handler(request) -> None:
        await request.peer.raw(data)
        request.peer.writer.close()

    return handler


def body(value: bytes, status: int = 200):
    async def handler(request) -> None:
        await request.peer.json(value, status)

    return handler


async def never(request) -> None:
    await request.peer.gone()


async def hang_up(request) -> None:
    request.peer.writer.close()


async def half_a_stream(request) -> None:
    await request.peer.stream()
    await request.peer.event({"jsonrpc": "2.0", "method": "notifications/message", "params": {}})
    request.peer.writer.close()


async def endless_stream(request) -> None:
    await request.peer.stream()
    while True:
        await request.peer.event({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 9}})
        await asyncio.sleep(0.001)


async def endless_event(request) -> None:
    await request.peer.stream()
    frame = b"data: " + b"x" * 65536 + b"\n"
    while True:
        await request.peer.raw(b"%x\r\n%b\r\n" % (len(frame), frame))


async def endless_body(request) -> None:
    await request.peer.raw(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
    while True:
        await request.peer.raw(b" " * 65536)


async def another_id(request) -> None:
    await request.peer.json({"jsonrpc": "2.0", "id": request.id + 1000, "result": {"content": []}})


async def redirect(request) -> None:
    await request.peer.json({}, 307, location="http://169.254.169.254/")


BAD = {
    "garbage": (raw(b"\x00\xff garbage\r\n\r\n"), BackendProtocolError),
    "no json": (body(b"<html>hello</html>"), BackendProtocolError),
    "broken json": (body(b'{"jsonrpc":"2.0","id":1,"result":{'), BackendProtocolError),
    "no json-rpc": (body(b'{"hello":"world"}'), BackendProtocolError),
    "batch": (body(b'[{"jsonrpc":"2.0","id":1,"result":{}}]'), BackendProtocolError),
    "deep json": (body(b'{"jsonrpc":"2.0","id":1,"result":' + b"[" * 100_000), BackendProtocolError),
    "another answer": (another_id, BackendProtocolError),
    "accepted": (body(b"", 202), BackendProtocolError),
    "bad gateway": (body(b"<html>502</html>", 502), BackendUnavailable),
    "too many": (body(b"", 429), BackendUnavailable),
    "unauthorized": (body(b"", 401), BackendAuthFailed),
    "forbidden": (body(b"", 403), BackendAuthFailed),
    "closes": (raw(b""), BackendUnavailable),
    "closes mid-body": (raw(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{"), BackendUnavailable),
    "closes mid-stream": (half_a_stream, BackendUnavailable),
    "never answers": (never, BackendTimeout),
    "endless stream": (endless_stream, BackendTimeout),
    "endless event": (endless_event, BackendProtocolError),
    "endless body": (endless_body, BackendProtocolError),
    "redirects away": (redirect, BackendProtocolError),
}


@pytest.mark.parametrize("era", list(Era))
@pytest.mark.parametrize("kind", sorted(BAD))
async def test_a_bad_answer_is_a_clean_error_and_the_next_call_works(server, backend_of, kind, era) -> None:
    handler, expected = BAD[kind]
    if era is Era.MODERN:
        server.be_modern()
    backend = backend_of(server.url, max_response=300_000)
    session = backend.open(SessionSpec())
    await session.call(call())
    good = server.on.get("*")
    server.on["tools/call"] = handler
    with pytest.raises(BackendError) as caught:
        await session.call(call(0.4))
    assert isinstance(caught.value, expected), repr(caught.value)
    assert "169.254" not in str(caught.value)
    del server.on["tools/call"]
    assert server.on.get("*") is good
    assert (await session.call(call())).result is not None
    assert backend.state.era is era
    await session.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.binary(max_size=200))
async def test_no_bytes_at_all_raise_anything_but_a_backend_error(server, backend_of, data) -> None:
    server.on["tools/call"] = body(data)
    backend = backend_of(server.url)
    session = backend.open(SessionSpec())
    with pytest.raises(BackendError):
        await session.call(call())
    await session.close()


# --- lists ---


async def test_a_list_whose_cursor_comes_again_ends_there_and_that_is_said(server, backend_of) -> None:
    async def loop(request) -> None:
        tools = [tool_of(f"t{len(server.posts('tools/list'))}")]
        await request.peer.result(request, {"tools": tools, "nextCursor": "again"})

    server.on["tools/list"] = loop
    backend = backend_of(server.url)
    await backend.start()
    assert await backend.wait_known(5)
    assert [item.key for item in backend.catalogue.tools] == ["t1", "t2"]
    assert "a cursor came twice" in backend.state.left_out[Kind.TOOLS][0]
    assert len(server.posts("tools/list")) == 2
    assert backend.state.failures == 0


async def test_a_list_without_end_ends_in_an_error() -> None:
    asked = 0

    async def more(method: str, params: bytes) -> Reply:
        nonlocal asked
        asked += 1
        result = {"tools": [tool_of(f"t{asked}")], "nextCursor": str(asked)}
        return Reply(result=json.dumps(result).encode(), era=Era.LEGACY)

    handshake = Handshake("2025-11-25", frozenset({"tools"}))
    with pytest.raises(BackendProtocolError, match="tools/list has more than 1000 pages"):
        await lists.fetch("b", Kind.TOOLS, handshake, more)
    assert asked == lists.MAX_PAGES


async def test_a_gigantic_list_is_refused_as_a_whole(server, backend_of) -> None:
    server.tools = [tool_of(f"t{number}") for number in range(lists.MAX_ITEMS + 1)]
    backend = backend_of(server.url)
    await backend.start()
    assert await backend.wait_known(5)
    assert "too large" in backend.state.failing[Kind.TOOLS]
    assert backend.catalogue.tools == ()


async def test_entries_without_a_name_are_skipped_and_the_first_of_two_wins(server, backend_of) -> None:
    server.tools = [tool_of("a", v=1), tool_of("a", v=2), {"title": "x"}, tool_of(3), 7, tool_of("b")]  # type: ignore[list-item]  # that is the point
    backend = backend_of(server.url)
    await backend.start()
    assert await backend.wait_known(5)
    assert [item.key for item in backend.catalogue.tools] == ["a", "b"]
    assert json.loads(backend.catalogue.tools[0].raw)["v"] == 1


async def test_unknown_fields_and_number_forms_of_items_are_kept_byte_for_byte(server, backend_of) -> None:
    item = b'{ "name" : "a" , "inputSchema":{"type":"object" }, '
    item += b'"x-vendor":{"n":1.0e2,"big":12345678901234567890123}, "_meta":{"ui":[ ]} }'

    async def tools(request) -> None:
        await request.peer.json(b'{"jsonrpc":"2.0","id":%d,"result":{"tools":[%b]}}' % (request.id, item))

    server.on["tools/list"] = tools
    backend = backend_of(server.url)
    await backend.start()
    assert await backend.wait_known(5)
    assert backend.catalogue.tools[0].raw == item


# --- eras ---


async def test_a_backend_that_stops_being_modern_is_asked_again_and_served(server, backend_of) -> None:
    server.be_modern()
    backend = backend_of(server.url)
    session = backend.open(SessionSpec())
    assert (await session.call(call())).era is Era.MODERN
    backend.eras._asked_at = -100.0  # noqa: SLF001  as if the verdict were old
    server.on.clear()
    reply = await session.call(call())
    assert reply.era is Era.LEGACY
    assert backend.state.era is Era.LEGACY
    assert len(server.posts("tools/call")) == 2 + 1, "one was refused before execution and repeated"
    await session.close()


async def test_a_backend_that_becomes_modern_is_asked_again_and_served(server, backend_of) -> None:
    backend = backend_of(server.url)
    session = backend.open(SessionSpec())
    assert (await session.call(call())).era is Era.LEGACY
    backend.eras._asked_at = -100.0  # noqa: SLF001  as if the verdict were old
    server.live.clear()
    server.be_modern()
    fresh = backend.open(SessionSpec())
    assert (await fresh.call(call())).era is Era.MODERN
    await fresh.close()
    await session.close()


async def test_a_backend_that_claims_the_modern_era_and_refuses_it_is_an_error_without_a_storm(
    server, backend_of
) -> None:
    async def liar(request) -> None:
        if request.method == "server/discover":
            await request.peer.result(
                request, {"supportedVersions": [MODERN], "capabilities": {}, "resultType": "complete"}
            )
        else:
            await request.peer.error(request, -32000, 400, "Bad Request: no session")

    server.on["*"] = liar
    backend = backend_of(server.url)
    session = backend.open(SessionSpec())
    for _ in range(5):
        reply = await session.call(call())
        assert reply.error is not None
        assert reply.error.code == -32000
    assert len(server.posts("server/discover")) <= 2
    await session.close()


async def test_discover_that_lists_only_legacy_versions_means_legacy(server, backend_of) -> None:
    async def discover(request) -> None:
        await request.peer.result(request, {"supportedVersions": ["2025-11-25"], "capabilities": {}})

    server.on["server/discover"] = discover
    backend = backend_of(server.url)
    session = backend.open(SessionSpec())
    assert (await session.call(call())).era is Era.LEGACY
    await session.close()


@pytest.mark.parametrize("status", [500, 503, 429])
async def test_an_inconclusive_probe_is_no_verdict_but_a_handshake_is(server, backend_of, status) -> None:
    server.on["server/discover"] = body(b"busy", status)
    backend = backend_of(server.url)
    session = backend.open(SessionSpec())
    assert (await session.call(call())).era is Era.LEGACY
    assert backend.state.era is Era.LEGACY
    await session.close()


@pytest.mark.parametrize("end", ["silent", "closed"])
async def test_a_backend_that_never_answers_the_probe_is_asked_to_initialize(server, backend_of, end) -> None:
    server.on["server/discover"] = never if end == "silent" else hang_up
    backend = backend_of(server.url, health_timeout=0.2)
    await backend.start()
    assert await backend.wait_known(5.0)
    assert [item.key for item in backend.catalogue.tools] == ["echo"]
    assert backend.state.era is Era.LEGACY
    session = backend.open(SessionSpec(era=Era.MODERN))
    assert (await session.call(call())).era is Era.LEGACY
    assert len(server.posts("server/discover")) == 1, "what got no answer is not asked before every call"
    await session.close()


async def test_an_unknown_version_is_refused(server, backend_of) -> None:
    async def initialize(request) -> None:
        await request.peer.result(request, {"protocolVersion": "1999-01-01", "capabilities": {}})

    server.on["initialize"] = initialize
    backend = backend_of(server.url)
    session = backend.open(SessionSpec())
    with pytest.raises(BackendProtocolError, match="1999-01-01"):
        await session.call(call())
    await session.close()


# --- streams of calls ---


async def test_a_calls_stream_that_ends_early_is_resumed_where_it_ended(server, backend_of) -> None:
    async def starts(request) -> None:
        await request.peer.stream()
        await request.peer.event("", id="p-1", retry="10")
        await request.peer.end()
        server.pending = request.id

    async def resumes(request) -> None:
        await request.peer.stream()
        answer = {"jsonrpc": "2.0", "id": server.pending, "result": {"content": [], "late": True}}
        await request.peer.event(answer, id="p-2")
        await request.peer.end()

    server.on["tools/call"] = starts
    server.on["GET"] = resumes
    backend = backend_of(server.url)
    session = backend.open(SessionSpec())
    reply = await session.call(call())
    assert json.loads(reply.result or b"")["late"] is True
    assert [request.headers.get("last-event-id") for request in server.verbs("GET")] == ["p-1"]
    assert len(server.posts("tools/call")) == 1
    await session.close()


# --- isolation ---


async def test_a_dead_and_a_slow_backend_delay_nobody(server, backend_of) -> None:
    slow = backend_of(server.url + "?slow", name="slow")
    dead = backend_of("http://127.0.0.1:9/mcp", name="dead")
    good = backend_of(server.url, name="good")
    original = server.handle

    async def handle(request) -> None:
        if request.target.endswith("?slow"):
            await request.peer.gone()
        else:
            await original(request)

    server.handle = handle
    began = time.monotonic()
    for backend in (slow, dead, good):
        await backend.start()
        backend.open(SessionSpec())
    assert time.monotonic() - began < 0.2, "starting and opening wait for nobody"
    assert await good.wait_known(2)
    session = good.open(SessionSpec())
    lost = [asyncio.create_task(b.open(SessionSpec()).call(call(5))) for b in (slow, dead) for _ in range(20)]
    times = []
    for _ in range(20):
        start = time.monotonic()
        await session.call(call())
        times.append(time.monotonic() - start)
    assert sorted(times)[10] < 0.1
    for task in lost:
        task.cancel()
    await asyncio.gather(*lost, return_exceptions=True)
    await session.close()


# --- headers and credentials ---


async def test_headers_come_in_order_and_none_replaces_one_that_is_set(server, backend_of, auth_of) -> None:
    backend = backend_of(
        server.url,
        auth=auth_of("header_injection", authorization="Bearer good"),
        headers=(
            ("X-Static", "static"),
            ("Authorization", "Bearer stale"),
            ("traceparent", "forged"),
            ("Accept", "text/html"),
            ("MCP-Session-Id", "forged"),
        ),
    )
    session = backend.open(SessionSpec())
    trace = TraceContext("a" * 32, "b" * 16, "01")
    headers = (("x-client", "c"), ("x-static", "client"), ("authorization", "Bearer client"), ("mcp-method", "x"))
    await session.call(call(trace=trace, headers=headers))
    names = [(name, value) for name, value in server.posts("tools/call")[0].raw_headers if name != "host"]
    assert names[:4] == [
        ("traceparent", trace.traceparent),
        ("x-static", "static"),
        ("x-client", "c"),
        ("authorization", "Bearer good"),
    ]
    assert [name for name, _ in names].count("authorization") == 1
    assert dict(names)["accept"] == "application/json, text/event-stream"
    assert dict(names)["mcp-session-id"] == "session-1"
    await session.close()


async def test_each_principal_is_served_with_its_own_credentials(server, backend_of, auth_of) -> None:
    backend = backend_of(server.url, auth=auth_of("token_exchange", authorization="Bearer for-{sub}"))
    for subject in ("ada", "bob"):
        principal = Principal(subject, "iss")
        session = backend.open(SessionSpec(principal=principal))
        await session.call(call(principal=principal))
        await session.close()
        mine = [request for request in server.seen if request.headers.get("authorization") == f"Bearer for-{subject}"]
        assert [request.method or request.verb for request in mine if request.method != "server/discover"] == [
            "initialize",
            "notifications/initialized",
            "tools/call",
            "DELETE",
        ]


async def test_without_credentials_nothing_is_sent_and_the_backend_is_not_blamed(server, backend_of, auth_of) -> None:
    auth = auth_of("token_exchange")
    auth.error = auth.probe_error = AuthUnavailable("token_exchange", "the token endpoint is down")
    backend = backend_of(server.url, auth=auth)
    await backend.start()
    assert await backend.wait_known(5)
    session = backend.open(SessionSpec())
    with pytest.raises(BackendAuthFailed, match="token endpoint"):
        await session.call(call())
    assert server.seen == []
    assert backend.state.failures == 0
    assert backend.personal
    await session.close()


async def test_lists_that_need_a_callers_credentials_are_fetched_per_caller(server, backend_of, auth_of) -> None:
    async def tools(request) -> None:
        await request.peer.result(request, {"tools": [tool_of(request.headers["authorization"].split("-")[-1])]})

    server.on["tools/list"] = tools
    auth = auth_of("token_exchange", authorization="Bearer for-{sub}")
    auth.probe_error = AuthUnavailable("token_exchange", "nobody asks")
    backend = backend_of(server.url, auth=auth)
    await backend.start()
    await backend.wait_known(5)
    names = [Principal(name, "iss") for name in ("ada", "bob", "ada", "ada")]
    found = await asyncio.gather(*(backend.catalogue_for(name, timeout=5) for name in names))
    assert [catalogue.tools[0].key for catalogue in found] == ["ada", "bob", "ada", "ada"]
    assert len(server.posts("tools/list")) == 2, "one fetch per caller, however many ask at a time"
    assert backend.state.health is Health.HEALTHY
    assert backend.state.circuit is Circuit.CLOSED


class PublicClient:
    """A token exchange without a client secret: callers have credentials, our own requests go without."""

    method = "token_exchange"

    async def headers(self, principal, *, deadline) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer for-{principal.subject}"),)

    async def probe_headers(self, *, deadline) -> tuple[tuple[str, str], ...]:
        return ()

    def rejected(self, principal) -> bool:
        return True

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("guarded", ["*", "tools/list"])
@pytest.mark.parametrize("status", [401, 403])
async def test_a_server_that_wants_a_token_of_our_own_requests_shows_callers_its_lists(
    server, backend_of, status, guarded
) -> None:
    async def guard(request) -> None:
        if "authorization" not in request.headers:
            await request.peer.json({}, status)
        else:
            await server.default(request)

    server.on[guarded] = guard
    backend = backend_of(server.url, auth=PublicClient())
    told = []
    backend.subscribe(lambda change: told.append((backend.personal, change.kinds)))
    await backend.start()
    assert await backend.wait_known(5)
    assert backend.personal
    assert (True, frozenset(Kind)) in told, "whoever merges lists looks again"
    assert backend.state.failures == 0
    assert backend.state.health is Health.HEALTHY, "whoever asks for a token is alive"
    found = await backend.catalogue_for(Principal("ada", "iss"), timeout=5)
    assert [tool.key for tool in found.tools] == ["echo"]


async def test_a_proxy_that_wants_credentials_is_no_server_that_wants_a_callers(server, backend_of) -> None:
    async def guard(request) -> None:
        await request.peer.json({}, 407)

    server.on["*"] = guard
    backend = backend_of(server.url, auth=PublicClient())
    await backend.start()
    assert await backend.wait_known(5)
    assert not backend.personal
    assert backend.state.health is Health.UNAUTHENTICATED


async def test_two_tokens_of_one_subject_see_what_each_may_see(server, backend_of, auth_of) -> None:
    async def tools(request) -> None:
        await request.peer.result(request, {"tools": [tool_of(f"t{len(server.posts('tools/list'))}")]})

    server.on["tools/list"] = tools
    auth = auth_of("token_exchange", authorization="Bearer for-{sub}")
    auth.probe_error = AuthUnavailable("token_exchange", "nobody asks")
    backend = backend_of(server.url, auth=auth)
    wide, narrow = Principal("ada", "iss", token="wide"), Principal("ada", "iss", token="narrow")
    found = [await backend.catalogue_for(caller, timeout=5) for caller in (wide, narrow, wide)]
    assert [catalogue.tools[0].key for catalogue in found] == ["t1", "t2", "t1"]


async def test_a_401_drops_the_cached_token_and_tries_once_more(server, backend_of, auth_of) -> None:
    auth = auth_of("token_exchange", authorization="Bearer old")

    async def picky(request) -> None:
        if request.headers["authorization"] == "Bearer old":
            auth.pairs = (("authorization", "Bearer new"),)
            await request.peer.json({}, 401)
        else:
            await server.answer(request)

    server.on["tools/call"] = picky
    backend = backend_of(server.url, auth=auth)
    session = backend.open(SessionSpec())
    principal = Principal("ada", "iss")
    assert (await session.call(call(principal=principal))).result is not None
    assert auth.dropped == [principal]
    await session.close()


# --- the 2024-11-05 transport ---


class Sse:
    """The server's half of HTTP+SSE."""

    def __init__(self, server, endpoint: str = "/messages?sid=1") -> None:
        self.server = server
        self.endpoint = endpoint
        self.peer = None
        server.on["GET"] = self.stream
        server.on["*"] = self.message

    async def stream(self, request) -> None:
        self.peer = request.peer
        await request.peer.stream()
        await request.peer.event(self.endpoint, event="endpoint")
        await request.peer.gone()

    async def message(self, request) -> None:
        assert request.target == "/messages?sid=1"
        await request.peer.accept()
        result = {"content": [{"type": "text", "text": "over sse"}]}
        if request.method == "initialize":
            result = {"protocolVersion": "2024-11-05", "capabilities": {"tools": {}}, "serverInfo": {}}
        if request.method == "tools/list":
            result = {"tools": self.server.tools}
        if request.id is not None and request.method:
            token = request.message.get("params", {}).get("_meta", {}).get("progressToken")
            if token is not None:
                params = {"progressToken": token, "progress": 1}
                await self.peer.event({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
            await self.peer.event({"jsonrpc": "2.0", "id": request.id, "result": result})


async def test_the_old_sse_transport_works_without_a_probe_and_keeps_progress_apart(server, backend_of) -> None:
    Sse(server)
    backend = backend_of(server.url, transport="sse")
    await backend.start()
    assert await backend.wait_known(5)
    assert [item.key for item in backend.catalogue.tools] == ["echo"]
    heard: dict[int, list[bytes]] = {1: [], 2: []}
    session = backend.open(SessionSpec())

    async def one(number: int) -> None:
        params = b'{"name":"echo","_meta":{"progressToken":"same"}}'
        asked = Call(method="tools/call", params=params, sink=lambda _, params: heard[number].append(params))
        reply = await session.call(asked)
        assert b"over sse" in (reply.result or b"")

    await asyncio.gather(one(1), one(2))
    assert [len(found) for found in heard.values()] == [1, 1], "two calls with one token get one note each"
    assert all(json.loads(found[0])["progressToken"] == "same" for found in heard.values())
    assert server.posts("server/discover") == []
    await session.close()


async def test_an_sse_endpoint_on_another_host_gets_no_credentials(server, backend_of) -> None:
    Sse(server, "http://169.254.169.254/steal")
    backend = backend_of(server.url, transport="sse")
    session = backend.open(SessionSpec())
    with pytest.raises(BackendProtocolError, match="another host"):
        await session.call(call())
    await session.close()


async def test_an_sse_stream_that_drops_fails_its_calls_and_the_next_one_opens_another(server, backend_of) -> None:
    sse = Sse(server)

    async def drops(request) -> None:
        await request.peer.accept()
        sse.peer.writer.close()

    backend = backend_of(server.url, transport="sse")
    session = backend.open(SessionSpec())
    await session.call(call())
    server.on["tools/call"] = drops
    with pytest.raises(BackendUnavailable):
        await session.call(call())
    del server.on["tools/call"]
    assert (await session.call(call())).result is not None
    assert len(server.verbs("GET")) == 2
    await session.close()


async def test_an_sse_stream_that_drops_after_every_handshake_is_opened_more_and_more_seldom(
    server, backend_of
) -> None:
    sse = Sse(server)

    async def lists(request) -> None:
        await sse.message(request)
        sse.peer.writer.close()

    server.on["tools/list"] = lists
    backend = backend_of(server.url, transport="sse", fast=True)
    await backend.start()
    await eventually(lambda: len(server.verbs("GET")) >= 10, within=HOUR)
    await backend.close()
    waits = [wait for wait in backend_of.time.waits if wait > 0.5]
    assert len(waits) >= len(server.verbs("GET")) - 3
    assert max(waits) > 3.0


@pytest.mark.parametrize(
    ("status", "text", "sent"),
    [
        (404, "Could not find session", 2),
        (400, "No transport found for sessionId", 2),
        (410, "Gone", 2),
        (404, '{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"Session not found"}}', 2),
        (404, '{"jsonrpc":"2.0","id":"x","error":{"code":-32002,"message":"order 7 is archived"}}', 1),
    ],
)
async def test_an_sse_server_that_refuses_a_message_means_the_session_or_the_request(
    server, backend_of, status, text, sent
) -> None:
    sse = Sse(server)
    backend = backend_of(server.url, transport="sse")
    session = backend.open(SessionSpec())
    await session.call(call())
    before = len(server.posts("tools/call"))

    async def refuse(request) -> None:
        del server.on["tools/call"]
        await request.peer.text(text, status)

    server.on["tools/call"] = refuse
    reply = await session.call(call())
    assert (reply.result is not None) == (sent == 2)
    assert len(server.posts("tools/call")) == before + sent
    assert sse.peer is not None
    await session.close()


async def test_an_sse_answer_with_its_id_as_text_or_made_up_is_the_calls(server, backend_of) -> None:
    sse = Sse(server)
    session = backend_of(server.url, transport="sse").open(SessionSpec())
    await session.call(call())

    async def answers(request) -> None:
        await request.peer.accept()
        await sse.peer.event("ping")
        await sse.peer.event({"jsonrpc": "2.0", "id": str(request.id), "result": {"content": []}})

    async def fails(request) -> None:
        await request.peer.accept()
        await sse.peer.event({"jsonrpc": "2.0", "id": "server-error", "error": {"code": -32602, "message": "q?"}})

    server.on["tools/call"] = answers
    assert (await session.call(call())).result is not None
    server.on["tools/call"] = fails
    assert (await session.call(call())).error.message == "q?"
    await session.close()


async def test_a_subscription_that_ends_at_once_is_opened_more_and_more_seldom(server, backend_of) -> None:
    server.be_modern(tools={"listChanged": True})
    every = server.on["*"]

    async def listen(request) -> None:
        await request.peer.stream()
        done = {"notifications": {"toolsListChanged": True}}
        await request.peer.event(
            {"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": done}
        )
        await request.peer.end()

    server.on["subscriptions/listen"] = listen
    backend = backend_of(server.url, fast=True)
    await backend.start()
    await eventually(lambda: len(server.posts("subscriptions/listen")) >= 8, within=HOUR)
    assert every is server.on["*"]
    assert max(backend_of.time.waits) > 8.0


async def test_a_subscription_that_its_client_gave_up_leaves_no_stream_behind(server, backend_of) -> None:
    server.be_modern(resources={"subscribe": True})
    streams: set[str] = set()

    async def listen(request) -> None:
        uris = request.message["params"]["notifications"]["resourceSubscriptions"]
        await request.peer.stream()
        streams.add(uris[-1])
        if len(uris) == 1:
            said = {"notifications": {"resourceSubscriptions": uris}}
            await request.peer.event(
                {"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": said}
            )
        await request.peer.gone()
        streams.discard(uris[-1])

    def subscribe(uri: str) -> Call:
        return Call(method="resources/subscribe", params=b'{"uri":"%b"}' % uri.encode(), timeout=HOUR)

    server.on["subscriptions/listen"] = listen
    session = backend_of(server.url).open(SessionSpec())
    assert (await session.call(subscribe("a:1"))).error is None
    given_up = asyncio.create_task(session.call(subscribe("a:2")))
    await eventually(lambda: len(streams) == 2)
    given_up.cancel()
    await eventually(lambda: streams == {"a:1"})
    late = asyncio.create_task(session.call(subscribe("a:3")))
    await eventually(lambda: streams == {"a:1", "a:3"})
    late.cancel()
    await session.close()
    await eventually(lambda: not streams)


# --- params ---

PARAMS = b'{"name":"x","arguments":{"n": 1.0e5, "u":"\\u00e9"},"_meta":{"vendor/x":[ 1 ],"progressToken":7}}'


def test_a_modern_request_describes_the_client_and_keeps_every_other_byte() -> None:
    out = modern_params(
        Call(
            method="tools/call",
            params=PARAMS[:-2] + b',"io.modelcontextprotocol/clientCapabilities":{"forged":{}},"traceparent":"old"}}',
            client_capabilities=b'{"elicitation":{}}',
            client_info=b'{"name":"c","version":"1"}',
            log_level="info",
            trace=TraceContext("a" * 32, "b" * 16),
            request_state='s"',
            input_responses=b'{"k":{}}',
        )
    )
    assert b'"arguments":{"n": 1.0e5, "u":"\\u00e9"}' in out
    assert b'"vendor/x":[ 1 ]' in out
    found = json.loads(out)
    assert found["_meta"]["io.modelcontextprotocol/clientCapabilities"] == {"elicitation": {}}
    assert found["_meta"]["io.modelcontextprotocol/protocolVersion"] == MODERN
    assert found["_meta"]["io.modelcontextprotocol/logLevel"] == "info"
    assert found["_meta"]["traceparent"] == f"00-{'a' * 32}-{'b' * 16}-00"
    assert found["_meta"]["progressToken"] == 7
    assert (found["requestState"], found["inputResponses"]) == ('s"', {"k": {}})


def test_a_legacy_request_loses_the_modern_envelope_and_nothing_else() -> None:
    assert legacy_params(PARAMS, None) is PARAMS
    out = json.loads(legacy_params(PARAMS[:-2] + b',"io.modelcontextprotocol/logLevel":"info"}}', None, token=b"3"))
    assert out["_meta"] == {"vendor/x": [1], "progressToken": 3}
    assert legacy_params(b"{}", None) == b"{}"


# --- mirrored parameters ---


def tool(properties: dict, **more) -> bytes:
    return json.dumps({"name": "t", "inputSchema": {"type": "object", "properties": properties, **more}}).encode()


def test_arguments_are_mirrored_as_the_schema_says() -> None:
    mirror = mirror_of(
        tool(
            {
                "region": {"type": "string", "x-mcp-header": "Region"},
                "deep": {"type": "object", "properties": {"n": {"type": "integer", "x-mcp-header": "N"}}},
                "flag": {"type": "boolean", "x-mcp-header": "Flag"},
                "gone": {"type": "string", "x-mcp-header": "Gone"},
            }
        )
    )
    params = json.dumps({"arguments": {"region": "süd", "deep": {"n": 5}, "flag": True, "gone": None}}).encode()
    assert dict(mirrored_headers(mirror, params)) == {
        "mcp-param-Region": "=?base64?c8O8ZA==?=",
        "mcp-param-N": "5",
        "mcp-param-Flag": "true",
    }


@pytest.mark.parametrize(
    "raw_tool",
    [
        tool({"a": {"type": "number", "x-mcp-header": "A"}}),
        tool({"a": {"type": "string", "x-mcp-header": "A b"}}),
        tool({"a": {"type": "string", "x-mcp-header": ""}}),
        tool({"a": {"type": "string", "x-mcp-header": 3}}),
        tool({"a": {"type": "string", "x-mcp-header": "X"}, "b": {"type": "string", "x-mcp-header": "x"}}),
        tool({"a": {"type": "array", "items": {"type": "string", "x-mcp-header": "X"}}}),
        tool({}, anyOf=[{"properties": {"a": {"type": "string", "x-mcp-header": "X"}}}]),
        tool({}, **{"x-mcp-header": "X"}),
    ],
)
def test_tools_with_annotations_against_the_rules_are_dropped(raw_tool) -> None:
    with pytest.raises(InvalidMirrorError):
        mirror_of(raw_tool)


def test_tools_without_annotations_are_not_even_parsed() -> None:
    assert mirror_of(b'{"name": not json}') == ()


def test_an_envelope_that_the_front_checked_passes_as_it_is() -> None:
    assert modern_params(Call(method="tools/call", params=PARAMS, enveloped=True)) is PARAMS
    trace = TraceContext("a" * 32, "b" * 16)
    assert b"traceparent" in modern_params(Call(method="tools/call", params=PARAMS, enveloped=True, trace=trace))
    again = modern_params(Call(method="tools/call", params=PARAMS, enveloped=True, request_state="s"))
    assert json.loads(again) == json.loads(PARAMS) | {"requestState": "s"}


# --- questions ---


class Questioner:
    """A legacy server whose tool asks the client, and then does as it is told."""

    def __init__(self, server) -> None:
        self.answers: list[dict] = []
        self.then: list[dict] = []
        server.on["tools/call"] = self.asks
        server.on[""] = self.answered

    async def asks(self, request) -> None:
        await request.peer.stream()
        await request.peer.event({"jsonrpc": "2.0", "id": "q1", "method": "elicitation/create", "params": {}})
        for message in self.then:
            await request.peer.event({**message, **({"id": request.id} if "result" in message else {})})
        await request.peer.gone()

    async def answered(self, request) -> None:
        self.answers.append(request.message)
        await request.peer.accept()


class Asked:
    """A client that never answers."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.withdrawn = asyncio.Event()

    async def __call__(self, method: str, params: bytes) -> bytes:
        self.open.set()
        try:
            await asyncio.sleep(60)
        finally:
            self.withdrawn.set()
        return b"{}"


async def test_a_question_ends_with_the_call_that_it_belongs_to(server, backend_of) -> None:
    Questioner(server)
    client = Asked()
    session = backend_of(server.url).open(SessionSpec())
    task = asyncio.create_task(session.call(call(bridge=client)))
    await asyncio.wait_for(client.open.wait(), 5)
    task.cancel()
    await asyncio.wait_for(client.withdrawn.wait(), 5)
    await eventually(lambda: server.posts("notifications/cancelled"))
    await session.close()


async def test_a_question_that_the_backend_withdraws_is_taken_back(server, backend_of) -> None:
    questioner = Questioner(server)
    withdrawal = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "q1"}}
    questioner.then = [withdrawal, {"jsonrpc": "2.0", "result": {"content": []}}]
    client = Asked()
    session = backend_of(server.url).open(SessionSpec())
    reply = await session.call(call(bridge=client))
    assert reply.result == b'{"content": []}'
    assert not client.open.is_set() or client.withdrawn.is_set()
    assert questioner.answers == []
    await session.close()


async def test_without_a_bridge_a_question_is_refused_as_a_client_without_the_capability_would(
    server, backend_of
) -> None:
    questioner = Questioner(server)
    session = backend_of(server.url).open(SessionSpec())
    with pytest.raises(BackendTimeout):
        await session.call(call(0.5))
    assert questioner.answers[0]["id"] == "q1"
    assert questioner.answers[0]["error"]["code"] == -32601
    await session.close()
