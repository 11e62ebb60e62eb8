"""Legacy sessions with servers as they are deployed: how sessions end, what 404 means, and what costs only itself."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.eventually import eventually
from tests.support.hurried_time import HOUR
from vmcp.backend.answers import SessionLost, check_session
from vmcp.backend.backoff import RetryBackoff
from vmcp.backend.interface import BackendError, BackendTimeout, Call, Health, SessionSpec
from vmcp.backend.legacy.cookies import Cookies
from vmcp.backend.legacy.link import SOUND_LIFE, Link, Lives
from vmcp.backend.model import Handshake
from vmcp.http.client import Response
from vmcp.wire.jsonrpc import parse


def call(timeout: float = 5.0, **changes) -> Call:
    return Call(method="tools/call", params=b'{"name":"echo","arguments":{"n":1}}', timeout=timeout, **changes)


class Ear:
    """A client session's ear."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def notification(self, backend: str, method: str, params: bytes) -> None:
        self.heard.append(method)

    async def request(self, backend: str, method: str, params: bytes) -> bytes:
        return b"{}"


# --- how deployed servers say that they do not know a session ---


def error_shape(code: int, message: str, status: int, **members):
    async def shape(request) -> None:
        await request.peer.error(request, code, status, message, **members)

    return shape


def text_shape(text: str, status: int, kind: str = "text/plain"):
    async def shape(request) -> None:
        await request.peer.text(text, status, kind)

    return shape


async def hang_up(request) -> None:
    request.peer.writer.close()


async def half_a_message(request) -> None:
    await request.peer.json({"jsonrpc": "2.0", "id": request.id}, 404)


EVENT = (
    'event: message\ndata: {"jsonrpc":"2.0","error":{"code":-32000,"message":"Bad Request: Server not initialized"},'
    '"id":null}\n\n'
)
AT_ONCE = {
    "404 with the request's id": error_shape(-32001, "Session not found", 404),
    "404 without an id": error_shape(-32001, "Session not found", 404, id=None),
    "404 with a made-up id": error_shape(-32600, "Session not found", 404, id="server-error"),
    "404 text": text_shape("Not Found", 404),
    "404 page": text_shape("<html>404</html>", 404, "text/html"),
    "404 with half a message": half_a_message,
    "410": text_shape("Gone", 410),
    "400 no valid session": error_shape(-32000, "Bad Request: No valid session ID provided", 400, id=None),
    "400 not initialized": error_shape(-32000, "Bad Request: Server not initialized", 400, id=None),
    "400 with the request's id": error_shape(-32000, "Bad Request: Server not initialized", 400),
    "400 text": text_shape("Bad Request: No valid session ID provided", 400),
    "400 text, invalid": text_shape("Invalid or expired session", 400),
    "400 event": text_shape(EVENT, 400, "text/event-stream"),
    "422 text": text_shape("session has expired", 422),
    "200 not initialized": error_shape(-32002, "Server not initialized", 200),
    "200 not found": error_shape(-32600, "Session not found", 200),
}
LATER = {
    "401 error": error_shape(-32001, "Session expired", 401, id=None),
    "401 text": text_shape("Unauthorized: Session not found", 401),
    "500 text": text_shape("KeyError: 'abc'", 500),
    "500 error": error_shape(-32603, "Internal error", 500),
    "400 in other words": error_shape(-32602, "who are you?", 400),
    "409 text": text_shape("call initialize first", 409),
    "403": text_shape("Invalid session", 403),
    "200 page": text_shape("<html>please log in</html>", 200, "text/html"),
    "202": text_shape("", 202),
    "closed": hang_up,
}
"""Words and codes that may mean anything: the call keeps its answer, and the session is looked after."""


def forget_with(server, shape) -> None:
    """Let the server answer requests of sessions that it does not know with `shape`."""

    async def every(request) -> None:
        session = request.headers.get("mcp-session-id")
        if session is not None and session not in server.live and request.id is not None:
            await shape(request)
        else:
            await server.default(request)

    server.on["*"] = every


@pytest.mark.parametrize("shape", AT_ONCE.values(), ids=AT_ONCE)
async def test_a_call_into_a_forgotten_session_is_repeated_in_a_new_one(server, backend_of, shape) -> None:
    forget_with(server, shape)
    session = backend_of(server.url).open(SessionSpec())
    await session.call(call())
    server.live.clear()
    assert (await session.call(call())).result is not None
    assert server.sessions == 2
    assert len(server.posts("tools/call")) == 3
    await session.close()


@pytest.mark.parametrize("shape", LATER.values(), ids=LATER)
async def test_a_session_that_only_fails_is_replaced_and_no_call_is_sent_twice(server, backend_of, shape) -> None:
    forget_with(server, shape)
    session = backend_of(server.url).open(SessionSpec())
    await session.call(call())
    server.live.clear()
    calls = 0
    result = None
    while result is None:
        calls += 1
        assert calls <= 3, "the session stays dead"
        try:
            result = (await session.call(call())).result
        except BackendError:
            continue
    assert server.sessions == 2
    assert len(server.posts("tools/call")) == 1 + calls
    await session.close()


async def test_the_gateways_own_probe_never_keeps_a_session_that_only_fails(server, backend_of) -> None:
    forget_with(server, error_shape(-32603, "hm", 200))
    backend = backend_of(server.url, fast=True, health_interval=0.05)
    await backend.start()
    await eventually(lambda: backend.catalogue.known, within=HOUR)
    server.live.clear()
    server.tools = [{"name": "after", "inputSchema": {"type": "object"}}]
    await eventually(lambda: [item.key for item in backend.catalogue.tools] == ["after"], within=HOUR)
    assert server.sessions == 2


async def test_a_probe_that_is_never_answered_in_its_session_gets_another(server, backend_of) -> None:
    async def silent(request) -> None:
        await request.peer.gone()

    forget_with(server, silent)
    backend = backend_of(server.url, fast=True, health_interval=0.05, health_timeout=0.2)
    await backend.start()
    await eventually(lambda: backend.catalogue.known, within=HOUR)
    server.live.clear()
    await eventually(lambda: server.sessions == 2, within=HOUR)
    await eventually(lambda: backend.state.failures == 0, within=HOUR)


async def test_a_clients_session_outlives_silence(server, backend_of) -> None:
    session = backend_of(server.url).open(SessionSpec())
    await session.call(call())

    async def silent(request) -> None:
        await request.peer.gone()

    server.on["tools/call"] = server.on["ping"] = silent
    with pytest.raises(BackendTimeout):
        await session.call(call(timeout=0.1))
    server.on.clear()
    assert (await session.call(call())).result is not None
    assert server.sessions == 1, "a busy session is silent, and has a state"
    await session.close()


@pytest.mark.parametrize("method", ["ping", "roots/list", "made/up"])
async def test_a_server_that_asks_before_it_answers_the_handshake_is_answered(server, backend_of, method) -> None:
    said: list[tuple[str | None, dict]] = []
    heard = asyncio.Event()

    async def asking(request) -> None:
        session = "session-1"
        server.live.add(session)
        head = f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nmcp-session-id: {session}\r\n"
        await request.peer.raw(f"{head}transfer-encoding: chunked\r\n\r\n".encode())
        await request.peer.event({"jsonrpc": "2.0", "id": "q", "method": method})
        async with asyncio.timeout(5):
            await heard.wait()
        result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {}}
        await request.peer.event({"jsonrpc": "2.0", "id": request.id, "result": result})
        await request.peer.end()

    async def others(request) -> None:
        if "method" not in request.message:
            said.append((request.headers.get("mcp-session-id"), request.message))
            heard.set()
        await server.default(request)

    server.on["initialize"], server.on[""] = asking, others
    session = backend_of(server.url).open(SessionSpec())
    assert (await session.call(call())).result is not None
    [(session_id, answer)] = said
    assert (session_id, answer["id"]) == ("session-1", "q")
    assert ("result" in answer) is (method == "ping")
    await session.close()


async def test_a_handshake_that_is_never_answered_is_told_from_a_call(server, backend_of) -> None:
    async def silent(request) -> None:
        await request.peer.gone()

    server.on["initialize"] = silent
    session = backend_of(server.url).open(SessionSpec(timeout=0.2))
    with pytest.raises(BackendTimeout, match=r"no session was opened within 0\.2 s"):
        await session.call(call())
    await session.close()


async def test_a_backend_in_trouble_keeps_its_sessions(server, backend_of) -> None:
    session = backend_of(server.url).open(SessionSpec())
    await session.call(call())

    async def trouble(request) -> None:
        await request.peer.text("out of memory", 500)

    server.on["*"] = trouble
    for _ in range(3):
        with pytest.raises(BackendError):
            await session.call(call())
    server.on.clear()
    assert (await session.call(call())).result is not None
    assert server.sessions == 1, "a server that refuses new sessions too has not forgotten this one"
    await session.close()


# --- 404 is not always the session ---

ANSWERS = {
    "an error of the tool": error_shape(-32002, "order 7 was moved to the archive", 404),
    "about another session": error_shape(-32001, "the checkout session was not found", 404),
    "at 400": error_shape(-32000, "cart: your shopping session is closed", 400),
    "at 410": error_shape(-32000, "order 7 is gone", 410),
    "without an id": error_shape(-32002, "order 7 was moved to the archive", 404, id=None),
    "with a made-up id": error_shape(-32602, "no session named 'x' among your arguments", 404, id="server-error"),
    "at 200": error_shape(-32603, "Session not found", 200),
    "unknown method": error_shape(-32601, "Method not found", 404),
}


@pytest.mark.parametrize("shape", ANSWERS.values(), ids=ANSWERS)
async def test_an_error_is_the_answer_whatever_its_status_and_nothing_is_executed_twice(
    server, backend_of, shape
) -> None:
    server.on["tools/call"] = shape
    session = backend_of(server.url).open(SessionSpec())
    reply = await session.call(call())
    assert reply.error is not None
    assert len(server.posts("tools/call")) == 1
    del server.on["tools/call"]
    assert (await session.call(call())).result is not None
    assert server.sessions == 1, "and the session with its state is kept"
    await session.close()


@pytest.mark.parametrize("method", ["ping", "logging/setLevel"])
async def test_a_method_that_is_unknown_with_404_does_not_cost_the_session(server, backend_of, method) -> None:
    server.capabilities = {"tools": {}, "logging": {}}
    server.on[method] = error_shape(-32601, "Method not found", 404)
    backend = backend_of(server.url, fast=True, health_interval=0.02)
    await backend.start()
    session = backend.open(SessionSpec())
    for _ in range(3):
        assert (await session.call(call(log_level="info"))).result is not None
    await eventually(lambda: len(server.posts("ping")) >= 3, within=HOUR)
    assert server.sessions == 2, "the gateway's own, and the client's"
    assert backend.state.health is Health.HEALTHY
    await session.close()


# --- the GET stream is optional ---


@pytest.mark.parametrize("status", [400, 404, 405, 406, 410, 501])
async def test_a_server_without_a_get_stream_keeps_its_session(server, backend_of, status) -> None:
    async def no_route(request) -> None:
        await request.peer.text("Cannot GET /mcp", status, "text/html")

    server.on["GET"] = no_route
    backend = backend_of(server.url, fast=True)
    session = backend.open(SessionSpec(events=Ear()))
    for _ in range(3):
        await session.call(call())
        await eventually(lambda: server.verbs("GET"), within=HOUR)
    await eventually(lambda: server.posts("ping") or status in {405, 501}, within=HOUR)
    assert (await session.call(call())).result is not None
    assert server.sessions == 1
    assert len(server.verbs("GET")) == 1
    await session.close()


async def test_a_get_stream_that_is_refused_because_the_session_is_gone_brings_a_new_one(server, backend_of) -> None:
    called = asyncio.Event()

    async def stream(request) -> None:
        if request.headers["mcp-session-id"] not in server.live:
            await request.peer.text("Invalid or missing session ID", 400)
        elif len(server.verbs("GET")) == 1:
            await request.peer.stream()
            await called.wait()
            server.live.clear()  # restarted
            await request.peer.end()
        else:
            await request.peer.stream()
            await request.peer.gone()

    server.on["GET"] = stream
    session = backend_of(server.url, fast=True).open(SessionSpec(events=Ear()))
    await session.call(call())
    called.set()
    await eventually(lambda: len(server.verbs("GET")) == 3, within=HOUR)
    assert server.verbs("GET")[-1].headers["mcp-session-id"] == "session-2"
    await session.close()


async def test_a_stream_that_asks_to_come_back_at_once_is_not_obeyed(server, backend_of) -> None:
    async def stream(request) -> None:
        await request.peer.stream()
        await request.peer.event("", retry="0")
        await request.peer.end()

    server.on["GET"] = stream
    session = backend_of(server.url, fast=True).open(SessionSpec(events=Ear()))
    await session.call(call())
    await eventually(lambda: len(backend_of.time.waits) >= 3, within=HOUR)
    assert min(backend_of.time.waits) >= 0.9
    await session.close()


async def test_a_calls_stream_that_ends_again_and_again_is_not_resumed_without_pause(server, backend_of) -> None:
    async def stream(request) -> None:
        await request.peer.stream()
        await request.peer.event("", id=f"e-{len(server.seen)}", retry="0")
        await request.peer.end()

    server.on["tools/call"] = server.on["GET"] = stream
    session = backend_of(server.url).open(SessionSpec())
    with pytest.raises(BackendError):
        await session.call(call(timeout=1.0))
    assert len(server.verbs("GET")) <= 4
    await session.close()


# --- handshakes that end the same way ---


def link(loop_time: float, *, answered: bool) -> Link:
    made = Link(None, Handshake("2025-11-25", frozenset()), loop_time)  # type: ignore[arg-type]
    made.answered = answered
    return made


def test_sessions_that_end_the_same_way_are_spaced_out_more_and_more() -> None:
    lives = Lives(RetryBackoff(seed=1))
    now = 100.0
    waits = []
    for _ in range(8):
        lives.ended(link(now, answered=True), now + 0.1)
        waits.append(lives.wait(now + 0.1))
    assert waits[0] == 0.0, "the first loss is answered at once"
    assert all(wait >= 1.0 for wait in waits[1:])
    assert max(waits) > 8.0
    assert lives.refuses(now) == 0.0, "a server that answers something is asked whenever a client calls"
    lives.ended(link(now, answered=True), now + SOUND_LIFE)
    assert lives.wait(now + SOUND_LIFE) == 0.0


async def test_a_backend_that_forgets_every_session_at_once_is_not_stormed(server, backend_of) -> None:
    async def amnesia(request) -> None:
        if request.method in {"initialize", "server/discover"}:
            await server.default(request)
        else:
            await request.peer.text("Not Found", 404)

    server.on["*"] = amnesia
    session = backend_of(server.url).open(SessionSpec())
    for _ in range(30):
        with pytest.raises(BackendError):
            await session.call(call())
    assert server.sessions <= 4
    await session.close()


# --- what the gateway does by itself never harms the call ---


@pytest.mark.parametrize("how", ["500", "400 text", "silent", "closed", "refused"])
async def test_its_own_log_level_never_fails_the_clients_call(server, backend_of, how) -> None:
    async def set_level(request) -> None:
        match how:
            case "500":
                await request.peer.text("Internal Server Error", 500)
            case "400 text":
                await request.peer.text("unknown method", 400)
            case "silent":
                await request.peer.gone()
            case "closed":
                request.peer.writer.close()
            case _:
                await request.peer.error(request, -32603)

    server.capabilities = {"tools": {}, "logging": {}}
    server.on["logging/setLevel"] = set_level
    session = backend_of(server.url).open(SessionSpec())
    began = time.monotonic()
    for _ in range(3):
        assert (await session.call(call(timeout=30.0, log_level="debug"))).result is not None
    assert time.monotonic() - began < 10.0
    assert len(server.posts("logging/setLevel")) == 1, "and it is not tried before every call"
    assert server.sessions == 1
    await session.close()


@pytest.mark.parametrize("status", [400, 404, 405, 500])
async def test_a_server_that_does_not_take_the_initialized_notification_is_used(server, backend_of, status) -> None:
    async def refuse(request) -> None:
        await request.peer.text("no", status)

    server.on["notifications/initialized"] = refuse
    session = backend_of(server.url).open(SessionSpec())
    assert (await session.call(call())).result is not None
    await session.close()


async def test_a_subscription_that_cannot_be_renewed_does_not_fail_the_call(server, backend_of) -> None:
    async def accept(request) -> None:
        await request.peer.result(request, {})

    async def refuse(request) -> None:
        await request.peer.text("no", 500)

    server.on["resources/subscribe"] = accept
    session = backend_of(server.url).open(SessionSpec())
    await session.call(Call(method="resources/subscribe", params=b'{"uri":"a://b"}', timeout=5.0))
    server.on["resources/subscribe"] = refuse
    server.live.clear()
    assert (await session.call(call())).result is not None
    await eventually(lambda: len(server.posts("resources/subscribe")) == 2)
    await session.close()


# --- ids and words ---


@pytest.mark.parametrize("modern", [False, True])
@pytest.mark.parametrize("streamed", [False, True])
async def test_an_id_that_comes_back_as_text_is_the_requests(server, backend_of, modern, streamed) -> None:
    if modern:
        server.be_modern()
    backend = backend_of(server.url)
    session = backend.open(SessionSpec())
    await session.call(call())
    every = server.on.get("*")

    async def quoted(request) -> None:
        result = {"content": [], "resultType": "complete"}
        answer = {"jsonrpc": "2.0", "id": str(request.id), "result": result}
        if not streamed:
            await request.peer.json(answer)
            return
        await request.peer.stream()
        await request.peer.event(answer)
        await request.peer.end()

    server.on["tools/call"] = quoted
    assert (await session.call(call())).result is not None
    assert every is server.on.get("*")
    await session.close()


@pytest.mark.parametrize("made_up", ["server-error", None, "", 0, -1, 4711])
@pytest.mark.parametrize("modern", [False, True])
async def test_an_error_with_a_made_up_id_keeps_its_code_and_its_words(server, backend_of, made_up, modern) -> None:
    if modern:
        server.be_modern()
    session = backend_of(server.url).open(SessionSpec())
    await session.call(call())
    server.on["tools/call"] = error_shape(-32602, "Validation error: q must be a string", 400, id=made_up)
    reply = await session.call(call())
    assert reply.error is not None
    assert (reply.error.code, reply.error.message) == (-32602, "Validation error: q must be a string")
    await session.close()


async def test_a_result_with_another_requests_id_is_nobodys(server, backend_of) -> None:
    async def other(request) -> None:
        await request.peer.json({"jsonrpc": "2.0", "id": request.id + 1, "result": {"secret": 1}})

    server.on["tools/call"] = other
    session = backend_of(server.url).open(SessionSpec())
    with pytest.raises(BackendError, match="different request"):
        await session.call(call())
    await session.close()


NOISE = ['{"type":"heartbeat"}', "ping", "[]", "null", '{"jsonrpc":"2.0"}', '{"jsonrpc":"1.0","id":1,"result":{}}', "{"]


@pytest.mark.parametrize("modern", [False, True])
async def test_events_that_are_no_messages_cost_only_themselves(server, backend_of, modern) -> None:
    if modern:
        server.be_modern()

    async def noisy(request) -> None:
        await request.peer.stream()
        for noise in NOISE:
            await request.peer.event(noise)
        answer = {"jsonrpc": "2.0", "id": request.id, "result": {"content": [], "resultType": "complete"}}
        await request.peer.event(answer)
        await request.peer.end()

    server.on["tools/call"] = noisy
    session = backend_of(server.url).open(SessionSpec())
    assert (await session.call(call())).result is not None
    await session.close()


async def test_a_stream_of_noise_without_an_answer_says_what_came_instead(server, backend_of) -> None:
    async def noisy(request) -> None:
        await request.peer.stream()
        await request.peer.event("ping")
        await request.peer.end()

    server.on["tools/call"] = noisy
    session = backend_of(server.url).open(SessionSpec())
    with pytest.raises(BackendError, match="without the answer, and one of its events is not a message"):
        await session.call(call())
    await session.close()


async def test_a_time_out_names_the_limit_that_ended_the_call(server, backend_of) -> None:
    async def talks(request) -> None:
        await request.peer.stream()
        progress = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 1, "progress": 1}}
        for _ in range(100):
            await request.peer.event(progress)
            await asyncio.sleep(0.01)

    server.on["tools/call"] = talks
    session = backend_of(server.url).open(SessionSpec())
    with pytest.raises(BackendTimeout) as caught:
        await session.call(call(timeout=0.3))
    assert str(caught.value) == "backend remote: the answer was not complete in time (the limit of the call is 0.3 s)"
    await session.close()


# --- versions ---


@pytest.mark.parametrize(
    ("code", "message", "data"),
    [
        (-32602, "Unsupported protocol version", {"supported": ["2024-11-05", "2025-03-26"], "requested": "x"}),
        (-32022, "Unsupported protocol version", {"supported": ["2026-07-28", "2025-03-26"]}),
        (-32000, "Bad Request: Unsupported protocol version (supported versions: 2025-03-26, 2024-11-05)", None),
    ],
)
async def test_a_version_that_is_refused_is_negotiated(server, backend_of, code, message, data) -> None:
    async def initialize(request) -> None:
        if request.message["params"]["protocolVersion"] != "2025-03-26":
            await request.peer.error(request, code, 400, message, data)
            return
        server.live.add("s")
        result = {"protocolVersion": "2025-03-26", "capabilities": {"tools": {}}, "serverInfo": {"name": "old"}}
        await request.peer.result(request, result, mcp_session_id="s")

    server.on["initialize"] = initialize
    session = backend_of(server.url).open(SessionSpec())
    assert (await session.call(call())).result is not None
    assert server.posts("tools/call")[0].headers["mcp-protocol-version"] == "2025-03-26"
    await session.close()


async def test_a_server_that_refuses_the_versions_that_it_names_is_given_up(server, backend_of) -> None:
    async def initialize(request) -> None:
        asked = request.message["params"]["protocolVersion"]
        other = "2025-06-18" if asked == "2025-11-25" else "2025-11-25"
        await request.peer.error(request, -32602, 400, "version", {"supported": [other]})

    server.on["initialize"] = initialize
    session = backend_of(server.url).open(SessionSpec())
    with pytest.raises(BackendError, match="every protocol version"):
        await session.call(call())
    assert len(server.posts("initialize")) <= 4
    await session.close()


# --- cookies ---


async def test_cookies_of_a_load_balancer_are_kept_per_session(server, backend_of) -> None:
    async def initialize(request) -> None:
        number = server.sessions = server.sessions + 1
        server.live.add(f"s-{number}")
        result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "n"}}
        cookie = f"LB=node-{number}; Expires=Wed, 21 Oct 2099 07:28:00 GMT; Path=/; HttpOnly"
        await request.peer.result(request, result, mcp_session_id=f"s-{number}", set_cookie=cookie)

    server.on["initialize"] = initialize
    backend = backend_of(server.url, headers=(("Cookie", "team=blue"),))
    one, two = backend.open(SessionSpec(events=Ear())), backend.open(SessionSpec())
    await one.call(call())
    await two.call(call())
    await one.call(call())
    await eventually(lambda: server.verbs("GET"))
    said = [request.headers.get("cookie") for request in server.posts("tools/call")]
    assert said == ["team=blue; LB=node-1", "team=blue; LB=node-2", "team=blue; LB=node-1"]
    assert server.verbs("GET")[0].headers["cookie"] == "team=blue; LB=node-1"
    assert [request.headers["cookie"] for request in server.posts("initialize")] == ["team=blue", "team=blue"]
    await one.close()
    await two.close()


@pytest.mark.parametrize(
    ("said", "sent"),
    [
        (["AWSALB=a+b/c=; Path=/", "AWSALB=next"], "AWSALB=next"),
        (["a=1; Expires=Wed, 21 Oct 2099 07:28:00 GMT, b=2"], "a=1; b=2"),
        (["a=1, b=2", "a=; Max-Age=0"], "b=2"),
        (["a=1; Secure"], None),
        (["=1, a b=2, c=\x01, d=e f"], None),
        ([f"big={'x' * 5000}"], None),
    ],
)
def test_of_set_cookie_is_kept_what_stickiness_needs(said, sent) -> None:
    jar = Cookies(secure=False)
    for value in said:
        jar.take(value)
    assert jar.header == (() if sent is None else (("cookie", sent),))


@given(st.lists(st.text(max_size=60), max_size=30))
def test_no_set_cookie_makes_a_header_that_cannot_be_sent(said) -> None:
    jar = Cookies(secure=True)
    for value in said:
        jar.take(value)
    for _, text in jar.header:
        assert text.isascii()
        assert text.isprintable()
        assert len(text) < 4200


@given(st.integers(200, 599), st.text(max_size=200), st.none() | st.text(max_size=20), st.integers(-33000, -32000))
def test_only_a_loss_is_taken_for_a_loss_whatever_a_server_says(status, text, session, code) -> None:
    """A result is never a loss, and an error with the request's id is one only if it says nothing else."""
    response = Response(status, {})
    check_session(response, parse(b'{"jsonrpc":"2.0","id":7,"result":{}}'), 7, session)
    error = {"jsonrpc": "2.0", "id": 7, "error": {"code": code, "message": f"order {text}"}}
    check_session(response, parse(json.dumps(error).encode()), 7, session)
    if status < 400 or status >= 500:
        check_session(Response(status, {}, b"session not found"), None, 7, session)
    if status in {404, 410} and session is not None:
        with pytest.raises(SessionLost):
            check_session(Response(status, {}, text.encode()), None, 7, session)
