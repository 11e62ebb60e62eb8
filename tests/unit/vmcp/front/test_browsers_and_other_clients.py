"""Pages of other origins, clients that take one form of answer, an empty session id, and who may look inside."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from vmcp.backend.interface import Reply
from vmcp.config.settings import Settings
from vmcp.front.service import INSIDE, ServiceApp
from vmcp.front.settings import FrontSettings
from vmcp.server import Server
from vmcp.serving import serve

PAGE = "https://app.example"
ASKS = {"access-control-request-method": "POST"}
TOOL = {"name": "echo", "inputSchema": {"type": "object"}}


@pytest.fixture
def w(world, backend):
    return world(backend("a", tools=[TOOL]), settings=FrontSettings(allowed_origins=frozenset({PAGE})))


@pytest.mark.parametrize("path", ["/mcp", "/", "/.well-known/oauth-protected-resource"])
async def test_a_browser_is_told_what_pages_of_allowed_origins_may_send(w, path):
    wanted = "authorization, content-type, mcp-protocol-version, mcp-param-city"
    headers = {"origin": PAGE, **ASKS, "access-control-request-headers": wanted}
    answer = await w.send("OPTIONS", path, headers)
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert answer.headers["access-control-allow-headers"] == wanted
    assert answer.headers["access-control-allow-methods"] == "GET, POST, DELETE"
    assert answer.headers["vary"] == "origin"
    assert "access-control-allow-credentials" not in answer.headers


async def test_pages_of_allowed_origins_read_answers_their_session_and_errors(w):
    first = await w.initialize(headers={"origin": PAGE})
    assert first.headers["access-control-allow-origin"] == PAGE
    assert "mcp-session-id" in first.headers["access-control-expose-headers"]
    refused = await w.post({"no": "message"}, {"origin": PAGE, "content-type": "text/plain"}).answer()
    assert (refused.status, refused.headers["access-control-allow-origin"]) == (415, PAGE)
    stream = w.stream({"origin": PAGE})
    opened = await stream.until(lambda so_far: so_far.status == 200)
    assert opened.headers["access-control-allow-origin"] == PAGE


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "https://app.example.evil.example", "http://app.example"]
)
async def test_pages_of_other_origins_get_no_permission(w, origin):
    for method, extra in (("OPTIONS", ASKS), ("POST", {}), ("GET", {})):
        answer = await w.send(method, "/mcp", {"origin": origin, **extra})
        assert answer.status == 403
        assert not any(name.startswith("access-control") for name in answer.headers)


async def test_without_allowed_origins_nothing_is_said_about_them(world, backend):
    w = world(backend("a"))
    assert "access-control-allow-origin" not in (await w.initialize()).headers
    assert (await w.send("OPTIONS", "/mcp", {"origin": PAGE, **ASKS})).status == 403
    assert (await w.send("OPTIONS", "/mcp", {})).status == 405


@pytest.mark.parametrize("accept", ["application/json", "application/json; charset=utf-8", "application/*"])
async def test_a_client_that_takes_json_alone_gets_json(world, backend, accept):
    async def told(call: Any) -> Reply:
        call.sink("notifications/progress", b'{"progressToken":1,"progress":1}')
        return Reply(result=b'{"content":[]}')

    w = world(backend("a", tools=[TOOL]))
    w.backends["a"].answer = told
    await w.initialize(headers={"accept": accept})
    call = {"name": "echo", "arguments": {}, "_meta": {"progressToken": 1}}
    answer = await w.legacy("tools/call", call, headers={"accept": accept}).answer()
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json["result"]["content"] == []
    modern = await w.modern("tools/call", {"name": "echo", "arguments": {}}, headers={"accept": accept}).answer()
    assert (modern.status, modern.headers["content-type"]) == (200, "application/json")


async def test_a_client_that_takes_event_streams_alone_gets_one_event(w):
    only = {"accept": "text/event-stream"}
    first = await w.initialize(headers=only)
    assert (first.status, first.headers["content-type"]) == (200, "text/event-stream")
    assert "content-length" not in first.headers
    assert first.events[-1]["result"]["serverInfo"]
    assert w.session_id
    listed = await w.legacy("tools/list", headers=only).answer()
    assert [tool["name"] for tool in listed.events[-1]["result"]["tools"]] == ["echo"]
    modern = await w.modern("tools/list", headers=only).answer()
    assert modern.events[-1]["result"]["tools"][0]["name"] == "echo"
    refused = await w.post({"jsonrpc": "2.0"}, {**only, "content-type": "text/plain"}).answer()
    assert (refused.status, refused.headers["content-type"]) == (415, "application/json")


@pytest.mark.parametrize("accept", ["text/html", "", "image/*"])
async def test_a_client_that_takes_neither_form_is_told(w, accept):
    assert (await w.initialize(headers={"accept": accept})).status == 406


@pytest.mark.parametrize("empty", ["", " ", "\t"])
async def test_an_empty_session_id_counts_as_none(w, empty):
    assert (await w.initialize(headers={"mcp-session-id": empty})).status == 200
    assert w.session_id
    modern = w.modern_body("tools/list")
    headers = {"mcp-session-id": empty, "mcp-protocol-version": "2026-07-28", "mcp-method": "tools/list"}
    assert (await w.post(modern, headers).answer()).status == 200
    missing = await w.legacy("tools/list", headers={"mcp-session-id": empty}).answer()
    assert (missing.status, missing.json["error"]["message"]) == (400, "header mcp-session-id is missing")


@pytest.mark.parametrize("path", sorted(INSIDE))
async def test_a_loopback_listener_shows_its_inside_to_loopback_names_only(world, backend, path):
    w = world(backend("a"), settings=FrontSettings(loopback_only=True))
    assert (await w.send("GET", path, {"host": "evil.example"})).status == 403
    assert (await w.send("GET", path, {"host": "localhost", "origin": "http://evil.example"})).status == 403
    assert (await w.send("GET", path, {"host": "localhost:4483"})).status in {200, 404}
    assert (await w.send("GET", "/health", {"host": "evil.example"})).status == 200, "probes name what they like"


async def test_the_inside_is_seen_on_its_own_port_alone_when_it_has_one(world, backend):
    w = world(backend("a"), settings=FrontSettings(service_apart=True))
    for path in INSIDE:
        assert (await w.send("GET", path, {})).status == 404
    assert (await w.send("GET", "/readyz", {})).status == 200
    w.app = ServiceApp(w.service)
    assert (await w.send("GET", "/status", {})).json["group_ref"] == "group"
    assert (await w.send("GET", "/readyz", {})).status == 200
    assert (await w.send("POST", "/mcp", {})).status == 404


async def test_a_gateway_listens_on_both_ports_and_closes_both(backend):
    server = Server(Settings(name="g", group="g"), make_backend=backend, front=FrontSettings(service_apart=True))
    stop, listening = asyncio.Event(), asyncio.Event()
    ports: list[int] = []

    def on(port: int) -> None:
        ports.append(port)
        listening.set()

    free = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    service_port = free.sockets[0].getsockname()[1]
    with pytest.raises(OSError, match=rf"127\.0\.0\.1 port {service_port}"):
        await serve(server, host="127.0.0.1", port=0, stop=stop, service_port=service_port)
    free.close()
    await free.wait_closed()
    coming = serve(server, host="127.0.0.1", port=0, stop=stop, listening=on, service_port=service_port)
    task = asyncio.create_task(coming)
    await asyncio.wait_for(listening.wait(), 10)
    assert (await _get(ports[0], "/status"))[0] == 404
    status, body = await _get(service_port, "/status")
    assert (status, json.loads(body)["group_ref"]) == (200, "g")
    stop.set()
    await asyncio.wait_for(task, 10)
    with pytest.raises(OSError, match=r"refused|Connect call failed"):
        await asyncio.open_connection("127.0.0.1", service_port)


async def _get(port: int, path: str) -> tuple[int, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode())
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    return int(answer.split(b" ")[1]), answer.partition(b"\r\n\r\n")[2]
