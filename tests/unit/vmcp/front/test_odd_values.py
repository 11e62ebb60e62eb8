"""Odd values in every member that the gateway reads: a clear JSON-RPC answer each time, never a traceback."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from vmcp.backend.interface import Era, Reply

TOOL = {"name": "echo", "inputSchema": {"type": "object"}}
HUGE = "1" + "0" * 5000
ODD = (
    *("null", "true", "false", "0", "-1", "1.5", "1e400", "-1e400", "1e-400"),
    *(HUGE, f"-{HUGE}", f"{HUGE}.5", "18446744073709551616"),
    *('""', '"\\u0000"', '"\\ud800"', '"' + "x" * 20_000 + '"', '"\\n"', '"-"', '"é"'),
    *("[]", "[null]", "{}", '{"a":{}}', "[[[[]]]]", '{"":""}', '[{"a":1},{"a":2}]'),
)  # fmt: skip
"""JSON texts."""

LEGACY: dict[str, tuple[str, ...]] = {
    "initialize": ("protocolVersion", "capabilities", "clientInfo"),
    "ping": ("_meta",),
    "tools/list": ("cursor", "_meta"),
    "resources/list": ("cursor",),
    "resources/templates/list": ("cursor",),
    "prompts/list": ("cursor",),
    "tools/call": ("name", "arguments", "_meta", "inputResponses", "requestState", "task"),
    "resources/read": ("uri", "_meta"),
    "resources/subscribe": ("uri",),
    "resources/unsubscribe": ("uri",),
    "prompts/get": ("name", "arguments"),
    "completion/complete": ("ref", "argument", "context"),
    "logging/setLevel": ("level",),
    "unknown/method": ("a",),
}
NOTIFICATIONS: dict[str, tuple[str, ...]] = {
    "notifications/initialized": ("_meta",),
    "notifications/cancelled": ("requestId", "reason"),
    "notifications/progress": ("progressToken", "progress", "total", "message"),
    "notifications/roots/list_changed": ("_meta",),
    "notifications/message": ("level", "data"),
    "notifications/unknown": ("a",),
}
MODERN_META = (
    "io.modelcontextprotocol/protocolVersion",
    "io.modelcontextprotocol/clientCapabilities",
    "io.modelcontextprotocol/clientInfo",
    "io.modelcontextprotocol/logLevel",
    "progressToken",
    "traceparent",
    "tracestate",
    "baggage",
)
FILTERS = ("toolsListChanged", "promptsListChanged", "resourcesListChanged", "resourceSubscriptions", "unknown")


def member(name: str, value: str, /, **others: Any) -> str:
    """A JSON object with one odd member beside good ones."""
    rest = "".join(f",{json.dumps(key)}:{json.dumps(item)}" for key, item in others.items() if key != name)
    return f"{{{json.dumps(name)}:{value}{rest}}}"


def assert_clear(answer: Any, log: list[Any], sent: str) -> None:
    """An answer of JSON-RPC, or none to what wants none."""
    assert answer.status < 500, (answer.status, sent[:200])
    assert not [entry for entry in log if entry["log_level"] in ("error", "critical")], (log, sent[:200])
    if answer.body and answer.status != 202:
        said = answer.last
        assert said["jsonrpc"] == "2.0"
        assert ("error" in said) != ("result" in said)
        if "error" in said:
            assert isinstance(said["error"]["code"], int)
            assert said["error"]["message"]


@pytest.fixture
async def w(world, backend):
    one = backend(
        "a",
        tools=[TOOL],
        prompts=[{"name": "p"}],
        resources=[{"uri": "x://r", "name": "r"}],
        templates=[{"uriTemplate": "x://{a}", "name": "t"}],
    )
    one.answer = lambda call: Reply(result=b'{"content":[]}', era=Era.LEGACY)
    made = world(one)
    await made.initialize()
    return made


async def post_legacy(w, body: str) -> None:
    with capture_logs() as log:
        headers = w.session_headers() if '"initialize"' not in body else {}
        assert_clear(await w.post(body.encode(), headers).answer(), log, body)


GOOD = {"name": "echo", "uri": "x://r", "protocolVersion": "2025-11-25", "ref": {"type": "ref/prompt", "name": "p"}}


@pytest.mark.parametrize("method", LEGACY)
async def test_an_odd_member_of_a_legacy_request_gets_a_clear_answer(w, method):
    for name in LEGACY[method]:
        for value in ODD:
            params = member(name, value, **GOOD)
            await post_legacy(w, f'{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}')
    for value in ODD:
        await post_legacy(w, f'{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{value}}}')
        await post_legacy(w, f'{{"jsonrpc":"2.0","id":{value},"method":"{method}","params":{json.dumps(GOOD)}}}')


@pytest.mark.parametrize("method", NOTIFICATIONS)
async def test_an_odd_member_of_a_notification_is_taken_or_refused(w, method):
    for value in ODD:
        for name in NOTIFICATIONS[method]:
            await post_legacy(w, f'{{"jsonrpc":"2.0","method":"{method}","params":{member(name, value)}}}')
        await post_legacy(w, f'{{"jsonrpc":"2.0","method":"{method}","params":{value}}}')


async def test_odd_members_of_the_message_itself_get_a_clear_answer(w):
    good = {"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {}}
    for name in ("jsonrpc", "id", "method", "params", "result", "error"):
        for value in ODD:
            await post_legacy(w, member(name, value, **good))
            await post_legacy(w, f'{{"jsonrpc":"2.0","id":{value},"result":{value}}}')
            await post_legacy(w, f'{{"jsonrpc":"2.0","id":{value},"error":{value}}}')
            await post_legacy(w, f'{{"jsonrpc":"2.0","id":{value},"error":{{"code":{value},"message":{value}}}}}')
    for value in ODD:
        await post_legacy(w, value)


@pytest.mark.parametrize(
    "last", ["", "get-1", "get--1", "get-" + "9" * 5000, "post1-1", "-", "x", "get-1e5", "get-\xb2", "é"]
)
async def test_an_odd_event_id_opens_the_stream_all_the_same(w, last):
    stream = w.stream({"last-event-id": last})
    answer = await stream.until(lambda a: True)
    assert answer.status == 200


@pytest.mark.parametrize("request_id", ["true", "1.0", "[1]", '{"a":1}', '"1"', "null", HUGE])
async def test_a_cancellation_with_another_id_cancels_nothing(world, backend, request_id):
    slow = backend("a", tools=[TOOL])
    go, under_way = asyncio.Event(), asyncio.Event()

    async def wait(call):
        under_way.set()
        await go.wait()
        return slow.echo(call)

    slow.answer = wait
    w = world(slow)
    await w.initialize()
    call = w.legacy("tools/call", {"name": "echo"}, request_id=1)
    await under_way.wait()
    body = f'{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{request_id}}}}}'
    if request_id != "1.0":
        assert (await w.post(body.encode(), w.session_headers()).answer()).status == 202
    go.set()
    assert "result" in (await call.answer()).last


# --- modern ---


async def post_modern(w, method: str, params: str, name: str | None = None, request_id: str = "1") -> None:
    headers = {"mcp-protocol-version": "2026-07-28", "mcp-method": method}
    if name is not None:
        headers["mcp-name"] = name
    body = f'{{"jsonrpc":"2.0","id":{request_id},"method":"{method}","params":{params}}}'
    with capture_logs() as log:
        open_request = w.post(body.encode(), headers)
        if method == "subscriptions/listen":
            answer = await open_request.until(lambda a: True)
            open_request.hang_up()
            await open_request.answer()
            if answer.status == 200:
                assert not [entry for entry in log if entry["log_level"] == "error"]
                return
        assert_clear(await open_request.answer(), log, body)


def envelope(name: str = "", value: str = "") -> str:
    good = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    return member(name, value, **good) if name else json.dumps(good)


@pytest.mark.parametrize("name", MODERN_META)
async def test_an_odd_member_of_the_envelope_gets_a_clear_answer(w, name):
    for value in ODD:
        for method, item in (("tools/list", None), ("tools/call", "echo")):
            params = f'{{"name":"echo","_meta":{envelope(name, value)}}}'
            await post_modern(w, method, params, item)


@pytest.mark.parametrize("method", ["tools/call", "prompts/get", "resources/read", "completion/complete", "tools/list"])
async def test_an_odd_member_of_a_modern_request_gets_a_clear_answer(w, method):
    good = {"tools/call": "echo", "prompts/get": "p", "resources/read": "x://r"}.get(method)
    key = "uri" if method == "resources/read" else "name"
    for member_name in (
        "name",
        "uri",
        "arguments",
        "inputResponses",
        "requestState",
        "cursor",
        "ref",
        "argument",
        "_meta",
    ):
        for value in ODD:
            others = {} if good is None else {key: good}
            inner = member(member_name, value, **others)[:-1]
            params = inner + "}" if member_name == "_meta" else f'{inner},"_meta":{envelope()}}}'
            await post_modern(w, method, params, good)
    for value in ODD:
        await post_modern(w, method, value, good)
        await post_modern(w, method, f'{{"{key}":"{good}","_meta":{envelope()}}}', good, request_id=value)


async def test_an_odd_filter_of_a_listen_stream_gets_a_clear_answer(w):
    for value in ODD:
        await post_modern(w, "subscriptions/listen", f'{{"notifications":{value},"_meta":{envelope()}}}')
        for name in FILTERS:
            await post_modern(
                w, "subscriptions/listen", f'{{"notifications":{member(name, value)},"_meta":{envelope()}}}'
            )


@pytest.mark.parametrize("version", ["", " ", "1", "2099-01-01", "2026-07-28, 2026-07-28", "é", "x" * 5000])
async def test_an_odd_version_header_gets_a_clear_answer(w, version):
    for headers in ({"mcp-protocol-version": version}, {**w.session_headers(), "mcp-protocol-version": version}):
        with capture_logs() as log:
            body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping"})
            assert_clear(await w.post(body.encode(), headers).answer(), log, body)
