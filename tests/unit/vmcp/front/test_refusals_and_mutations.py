"""Bad input: the right status as a clean JSON-RPC error, and no effect on anybody else."""

from __future__ import annotations

import asyncio
import json
import random

import pytest

from vmcp.backend.interface import Era
from vmcp.front.settings import FrontSettings

TOOL = {"name": "echo", "inputSchema": {"type": "object"}}
PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'


@pytest.fixture
async def w(world, backend):
    made = world(backend("a", tools=[TOOL]), settings=FrontSettings(max_body=2000, max_depth=20))
    await made.initialize()
    return made


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, -32700),
        (b"{", 400, -32700),
        (b"\xff\xfe", 400, -32700),
        (b"null", 400, -32600),
        (b"5", 400, -32600),
        (b'"x"', 400, -32600),
        (b"[]", 400, -32600),
        (b"{}", 400, -32600),
        (b'{"jsonrpc":"1.0","id":1,"method":"ping"}', 400, -32600),
        (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', 400, -32600),
        (b'{"jsonrpc":"2.0","id":{},"method":"ping"}', 400, -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":5}', 400, -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":' + b"[" * 30 + b"]" * 30 + b"}", 400, -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"x","params":"' + b"x" * 2000 + b'"}', 413, -32600),
    ],
)
async def test_a_body_that_is_no_message_is_refused(w, body, status, code):
    for headers in (w.session_headers(), {"mcp-protocol-version": "2026-07-28", "mcp-method": "ping"}):
        answer = await w.post(body, headers).answer()
        assert answer.status == status
        assert answer.json["error"]["code"] in {code, -32600}
        assert answer.headers["content-type"] == "application/json"


async def test_braces_inside_strings_do_not_count_as_depth(w):
    text = "[{" * 200
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo", "arguments": {"t": text}}}
    assert (await w.post(body, w.session_headers()).answer()).status == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "text/plain"}, 415),
        ({"content-type": None}, 415),
        ({"content-type": "application/json; charset=utf-8"}, 200),
        ({"accept": "application/json"}, 200),
        ({"accept": "text/event-stream"}, 200),
        ({"accept": "text/html"}, 406),
        ({"accept": None}, 406),
        ({"accept": "*/*"}, 200),
        ({"content-length": "99999999"}, 413),
        ({"content-length": "many"}, 400),
    ],
)
async def test_headers_of_a_post(w, headers, status):
    assert (await w.post(PING, {**w.session_headers(), **headers}).answer()).status == status


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("localhost:4483", None, 200),
        ("127.0.0.1", None, 200),
        ("[::1]:4483", "http://localhost:3000", 200),
        ("evil.example", None, 403),
        ("localhost.evil.example", None, 403),
        ("localhost", "http://evil.example", 403),
        ("localhost", "null", 403),
    ],
)
async def test_a_loopback_listener_answers_to_loopback_names_only(world, backend, host, origin, status):
    w = world(backend("a"), settings=FrontSettings(loopback_only=True))
    headers = {"host": host, **({"origin": origin} if origin else {})}
    assert (await w.initialize(headers=headers)).status == status


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("gateway.example", None, 200),
        ("gateway.example", "https://allowed.example", 200),
        ("gateway.example", "https://evil.example", 403),
        ("gateway.example", "null", 403),
        # A rebound name: the page's own, in both headers.
        ("evil.example:4483", "http://evil.example:4483", 403),
        ("10.0.0.7:4483", "http://10.0.0.7:4483", 200),
        ("[fd00::7]:4483", "http://[fd00::7]:4483", 200),
        ("10.0.0.7:4483", "http://10.0.0.7:8080", 403),
        ("10.0.0.7:4483", "http://evil.example:4483", 403),
    ],
)
async def test_elsewhere_an_origin_must_be_allowed_or_the_address_itself(world, backend, host, origin, status):
    w = world(backend("a"), settings=FrontSettings(allowed_origins=frozenset({"https://allowed.example"})))
    headers = {"host": host, **({"origin": origin} if origin else {})}
    assert (await w.initialize(headers=headers)).status == status


async def test_a_client_that_leaves_before_its_body_is_complete_leaves_nothing_behind(w):
    request = w.post(PING, w.session_headers())
    request.incoming.get_nowait()
    request.incoming.put_nowait({"type": "http.request", "body": PING[:10], "more_body": True})
    request.hang_up()
    await asyncio.wait_for(request.task, 5)
    assert request.status is None


def mutate(rng: random.Random, body: bytes, headers: dict[str, str]) -> tuple[bytes, dict[str, str]]:
    """Break a good request in one to four places."""
    data, changed = bytearray(body), dict(headers)
    for _ in range(rng.randint(1, 4)):
        match rng.randrange(9):
            case 0 if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
            case 1 if data:
                del data[rng.randrange(len(data)) :]
            case 2:
                at = rng.randrange(len(data) + 1)
                data[at:at] = rng.choice([b"[", b"{", b'"', b"\\u0000", b"null", b",", b"\xff", b"1e999", b"[[[[[["])
            case 3:
                data = bytearray(bytes(data).replace(rng.choice([b"echo", b"2.0", b"params", b"_meta", b"id"]), b"x"))
            case 4:
                changed[rng.choice(list(changed))] = rng.choice(
                    ["", " ", "x", "2025-11-25", "2026-07-28", "=?base64?!?="]
                )
            case 5:
                changed.pop(rng.choice(list(changed)), None)
            case 6:
                changed["mcp-session-id"] = rng.choice(["", "x", "A" * 200, "=?base64?QQ==?="])
            case 7:
                values = [b"{}", b"[]", b"5", b"null", b'"\xc3\xa9"', b"true", b"1.5", b"9" * 40]
                data = bytearray(bytes(data).replace(b'"echo"', rng.choice(values), 1))
            case _:
                data += data[: rng.randrange(len(data) + 1)]
        if not changed:
            changed["accept"] = "*/*"
    return bytes(data), changed


async def test_mutated_requests_end_cleanly_and_leave_no_task(world, backend, scale):
    w = world(backend("a", Era.MODERN, tools=[TOOL]), backend("b", tools=[TOOL], resources=[{"uri": "r:1"}]))
    await w.initialize({"elicitation": {}})
    base = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
    good: list[tuple[bytes, dict[str, str]]] = []
    for method, params in (
        ("tools/call", {"name": "echo", "arguments": {"a": 1}}),
        ("tools/list", {}),
        ("resources/read", {"uri": "r:1"}),
        (
            "completion/complete",
            {"ref": {"type": "ref/prompt", "name": "echo"}, "argument": {"name": "a", "value": "b"}},
        ),
    ):
        legacy = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        good.append((json.dumps(legacy).encode(), {**base, **w.session_headers()}))
        name = params.get("name") or params.get("uri") or "x"
        modern = {**base, "mcp-protocol-version": "2026-07-28", "mcp-method": method, "mcp-name": name}
        good.append((json.dumps(w.modern_body(method, params)).encode(), modern))
    rng = random.Random(scale.seed)
    tasks = len(asyncio.all_tasks())
    for number in range(scale(1000, 10_000)):
        body, headers = mutate(rng, *rng.choice(good))
        answer = await w.open("POST", "/mcp", headers, body).answer()
        w.opened.clear()
        shown = (number, body[:300], headers, answer.status, answer.body[:300])
        assert answer.status in {200, 202, 400, 404, 405, 406, 413, 415}, shown
        if answer.status != 202:
            for message in answer.events if "event-stream" in answer.headers["content-type"] else [answer.json]:
                assert message["jsonrpc"] == "2.0", shown
                assert ("error" in message) == ("result" not in message), shown
                assert message.get("error", {}).get("code") != -32603, shown
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) <= tasks + 1
    assert (await w.legacy("tools/list").answer()).status == 200


async def test_service_endpoints_have_the_shapes_that_dashboards_know(w):
    assert (await w.send("GET", "/health", {})).json == {"status": "ok"}
    assert (await w.send("GET", "/ping", {})).json == {"status": "ok"}
    assert (await w.send("GET", "/readyz", {})).json == {"status": "ready", "mode": "static"}
    status = (await w.send("GET", "/status", {})).json
    assert status["backends"] == [
        {
            "name": "a",
            "health": "healthy",
            "transport": "streamable-http",
            "auth_type": "unauthenticated",
            "mcp_revision": "2025-11-25",
        }
    ]
    assert (status["healthy"], status["group_ref"]) == (True, "group")
    assert (await w.send("POST", "/status", {})).status == 405
    health = (await w.send("GET", "/api/backends/health", {})).json
    assert health["summary"]["Total"] == health["summary"]["Healthy"] == 1
    assert health["backends"]["a"]["CircuitState"] == "closed"
    assert (await w.send("GET", "/metrics", {})).status == 404
    missing = await w.send("GET", "/.well-known/oauth-protected-resource", {})
    assert (missing.status, missing.json) == (404, {"error": "not_found"})


async def test_readiness_goes_first_at_the_end(w):
    w.service.draining = True
    answer = await w.send("GET", "/readyz", {})
    assert (answer.status, answer.json["reason"]) == (503, "shutting_down")
    assert (await w.send("GET", "/health", {})).status == 200
    assert (await w.legacy("tools/list").answer()).status == 200


async def test_partial_failure_mode_decides_whether_lists_wait_for_everybody(world, backend):
    for fail, status in ((False, "result"), (True, "error")):
        good, bad = backend("a", tools=[TOOL]), backend("b")
        bad.state.failures = 3
        w = world(good, bad, fail_partial=fail)
        listed = (await w.modern("tools/list").answer()).json
        assert status in listed
        if fail:
            assert listed["error"]["data"] == {"backends": ["b"]}
        called = (await w.modern("tools/call", {"name": "echo"}).answer()).json
        assert "result" in called


async def test_a_reader_that_takes_nothing_does_not_hold_a_stream_for_ever():
    from vmcp.front import exchange

    sent = []

    async def send(message):
        sent.append(message["type"])
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    writer = exchange.SseWriter(send, keep_alive=5, patience=0.01)
    writer.write(b"data: x\n\n")
    async with asyncio.timeout(5):
        await writer.finish()
    assert writer.gone
    assert sent == ["http.response.start", "http.response.body"]


async def test_sets_of_sessions_beyond_the_limit_end_unless_they_are_in_use(backend):
    from vmcp.backend.interface import SessionSpec
    from vmcp.core.sessions import SharedSessions

    shared, one = SharedSessions(limit=2), backend("a")
    sets = [shared.get(number, SessionSpec) for number in range(2)]
    sessions = [each.get(one) for each in sets]
    sets[0].busy = 1
    sets[1].busy = 1
    shared.get(2, SessionSpec)
    assert len(shared) == 3
    sets[0].busy = 0
    shared.get(3, SessionSpec)
    await shared.close()
    assert all(session.closed for session in sessions)


async def test_readiness_waits_for_the_first_look_at_every_backend_but_not_for_ever(world, backend):
    from vmcp.backend.interface import Catalogue

    good, late = backend("a", tools=[TOOL]), backend("b")
    late.catalogue, late.state.last_check, good.state.last_check = Catalogue(), None, 1.0
    w = world(good, late)
    answer = await w.send("GET", "/readyz", {})
    assert (answer.status, answer.json["reason"]) == (503, "backends_pending")
    impatient = world(good, late, settings=FrontSettings(ready_wait=0.0))
    assert (await impatient.send("GET", "/readyz", {})).status == 200
    late.state.last_check = 2.0  # looked at, and found dead: that must not keep the others from serving
    assert (await w.send("GET", "/readyz", {})).status == 200


async def test_readiness_waits_until_the_lists_hold_what_the_first_look_found(world, backend):
    late = backend("a")
    w = world(late)
    late.change(tools=[TOOL])
    answer = await w.send("GET", "/readyz", {})
    assert (answer.status, answer.json["reason"]) == (503, "backends_pending")
    w.gateway.offers.rebuild()
    assert (await w.send("GET", "/readyz", {})).status == 200
    assert [tool["name"] for tool in (await w.modern("tools/list").answer()).json["result"]["tools"]] == ["echo"]
    late.change(tools=[])
    assert (await w.send("GET", "/readyz", {})).status == 200, "ready once, a later change does not take it back"
