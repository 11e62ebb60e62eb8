"""One broken part of a backend costs that part: an entry, a list, a call. The circuit is for a backend that is down."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.eventually import eventually
from tests.unit.vmcp.backend.conftest import tool_of
from vmcp.backend.entries import MAX_DEPTH, MAX_ENTRY, EntryError, check_entry
from vmcp.backend.errors import BackendError, BackendProtocolError, BackendTimeout, BackendUnavailable
from vmcp.backend.interface import BreakerSettings, Call, Circuit, Era, Health, Kind, SessionSpec

OBJECT = {"type": "object"}


def call(timeout: float = 2.0) -> Call:
    return Call(method="tools/call", params=b'{"name":"echo","arguments":{}}', timeout=timeout)


# --- entries ---

BROKEN_TOOLS = {
    "no inputSchema": {"name": "t"},
    "inputSchema null": {"name": "t", "inputSchema": None},
    "inputSchema text": {"name": "t", "inputSchema": "object"},
    "inputSchema of an array": {"name": "t", "inputSchema": {"type": "array"}},
    "name null": {"name": None, "inputSchema": OBJECT},
    "name empty": {"name": "", "inputSchema": OBJECT},
    "name without end": {"name": "n" * 10_000, "inputSchema": OBJECT},
    "description a number": tool_of("t", description=7),
    "annotations a list": tool_of("t", annotations=[]),
    "hint a list": tool_of("t", annotations={"readOnlyHint": []}),
    "hint a text": tool_of("t", annotations={"readOnlyHint": "true"}),
    "icons an object": tool_of("t", icons={}),
    "icon without src": tool_of("t", icons=[{"mimeType": "image/png"}]),
    "meta a list": tool_of("t", _meta=[]),
    "required a text": tool_of("t") | {"inputSchema": {**OBJECT, "required": "a"}},
    "property a text": tool_of("t") | {"inputSchema": {**OBJECT, "properties": {"a": "string"}}},
    "output of an array": tool_of("t", outputSchema={"type": "array"}),
    "half a surrogate pair": b'{"name":"t","inputSchema":{"type":"object"},"description":"\\ud83d"}',
    "the other half": b'{"name":"t","inputSchema":{"type":"object"},"title":"\\uDE00x"}',
    "half a pair deep inside": b'{"name":"t","inputSchema":{"type":"object","x":[{"y":"\\ud800"}]}}',
    "no bottom": b'{"name":"t","inputSchema":{"type":"object","x":' + b"[" * 500 + b"]" * 500 + b"}}",
    "no end": tool_of("t", description="x" * MAX_ENTRY),
    "not an object": 7,
    "null": None,
}
OTHERS = {
    "resource without name": (Kind.RESOURCES, {"uri": "a://b"}),
    "resource with a relative uri": (Kind.RESOURCES, {"uri": "just/a/path", "name": "r"}),
    "resource without uri": (Kind.RESOURCES, {"name": "r"}),
    "resource with a size of words": (Kind.RESOURCES, {"uri": "a://b", "name": "r", "size": "big"}),
    "resource for an unknown audience": (
        Kind.RESOURCES,
        {"uri": "a://b", "name": "r", "annotations": {"audience": ["cats"]}},
    ),
    "template without name": (Kind.TEMPLATES, {"uriTemplate": "a://{b}"}),
    "template without template": (Kind.TEMPLATES, {"name": "t"}),
    "prompt argument without name": (Kind.PROMPTS, {"name": "p", "arguments": [{"required": True}]}),
    "prompt arguments by name": (Kind.PROMPTS, {"name": "p", "arguments": {"a": {}}}),
}


def raw_of(value: object) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


@pytest.mark.parametrize(
    ("kind", "entry"), [*((Kind.TOOLS, entry) for entry in BROKEN_TOOLS.values()), *OTHERS.values()]
)
def test_an_entry_that_clients_would_refuse_is_left_out(kind, entry) -> None:
    with pytest.raises(EntryError):
        check_entry(kind, raw_of(entry), Era.LEGACY)


@pytest.mark.parametrize(
    ("kind", "entry", "mended"),
    [
        (Kind.TOOLS, tool_of("t", description=None, annotations=None, _meta=None), tool_of("t")),
        (Kind.TOOLS, tool_of("t", outputSchema=None, title=None, x=1), tool_of("t", x=1)),
        (
            Kind.TOOLS,
            tool_of("t", annotations={"title": None, "readOnlyHint": True}),
            tool_of("t", annotations={"readOnlyHint": True}),
        ),
        (
            Kind.TOOLS,
            {"name": "t", "inputSchema": {"type": "object", "properties": {"a": True, "b": False}, "required": None}},
            {"name": "t", "inputSchema": {"type": "object", "properties": {"a": {}, "b": {"not": {}}}}},
        ),
        (Kind.RESOURCES, {"uri": "a://b", "name": "r", "mimeType": None}, {"uri": "a://b", "name": "r"}),
        (Kind.TEMPLATES, {"uriTemplate": "a", "name": "r", "title": None}, {"uriTemplate": "a", "name": "r"}),
        (
            Kind.PROMPTS,
            {"name": "p", "arguments": [{"name": "a", "description": None}]},
            {"name": "p", "arguments": [{"name": "a"}]},
        ),
    ],
)
def test_a_slip_whose_meaning_is_beyond_doubt_is_mended(kind, entry, mended) -> None:
    _, raw = check_entry(kind, raw_of(entry), Era.LEGACY)
    assert json.loads(raw) == mended


@pytest.mark.parametrize(
    "entry",
    [
        b'{ "name":"t" , "inputSchema":{"type":"object","properties":{"a":{"const":null}}}, "x-vendor": 1.0e2 }',
        b'{"name":"t","description":"\\ud83d\\ude00 \\\\ud800","inputSchema":{"type":"object"}}',
        b'{"name":"t","inputSchema":{"type":"object","x":' + b"[" * 90 + b"]" * 90 + b"}}",
        b'{"name":"t","inputSchema":{"type":"object","x":[' + b"{}," * 5000 + b"{}]}}",
    ],
)
def test_a_good_entry_keeps_every_byte(entry) -> None:
    assert check_entry(Kind.TOOLS, entry, Era.LEGACY) == ("t", entry)
    assert MAX_DEPTH > 90


def test_a_modern_tool_may_have_any_output_schema() -> None:
    entry = raw_of(tool_of("t", outputSchema={"type": "array"}))
    assert check_entry(Kind.TOOLS, entry, Era.MODERN) == ("t", entry)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
MEMBERS = ["name", "inputSchema", "annotations", "icons", "uri", "uriTemplate", "arguments", "_meta", "outputSchema"]


@given(
    kind=st.sampled_from(Kind), entry=JSON | st.dictionaries(st.sampled_from(MEMBERS), JSON), era=st.sampled_from(Era)
)
def test_whatever_an_entry_is_it_is_taken_or_refused(kind, entry, era) -> None:
    try:
        key, raw = check_entry(kind, raw_of(entry), era)
    except EntryError:
        return
    assert key
    assert check_entry(kind, raw, era) == (key, raw), "what was mended is good"


@given(data=st.binary(max_size=64))
def test_no_bytes_at_all_make_the_check_fail(data) -> None:
    with contextlib.suppress(EntryError):
        check_entry(Kind.TOOLS, data, Era.LEGACY)


async def test_broken_entries_cost_themselves_and_are_said(server, backend_of) -> None:
    server.tools = [tool_of("good"), {"name": "bad"}, tool_of("fine", annotations={"readOnlyHint": []})]
    backend = backend_of(server.url)
    await backend.start()
    assert await backend.wait_known(5)
    assert [item.key for item in backend.catalogue.tools] == ["good"]
    said = backend.state.left_out[Kind.TOOLS]
    assert len(said) == 2
    assert "'bad' is left out" in said[0]
    assert "inputSchema" in said[0]
    assert backend.state.health is Health.HEALTHY
    server.tools = [tool_of("good"), tool_of("bad")]
    await backend.refresh_tools(asyncio.get_running_loop().time() + 5)
    assert [item.key for item in backend.catalogue.tools] == ["good", "bad"]
    assert backend.state.left_out[Kind.TOOLS] == ()


async def test_a_thousand_broken_entries_are_counted_not_told_one_by_one(server, backend_of) -> None:
    server.tools = [{"name": f"t{number}"} for number in range(1000)]
    backend = backend_of(server.url)
    await backend.start()
    assert await backend.wait_known(5)
    assert len(backend.state.left_out[Kind.TOOLS]) == 21
    assert backend.state.left_out[Kind.TOOLS][-1] == "tools: 980 more"


# --- lists ---


async def rpc_error(request) -> None:
    await request.peer.error(request, -32603)


async def server_error(request) -> None:
    await request.peer.json({"oops": 1}, 500)


async def no_list(request) -> None:
    await request.peer.result(request, {"prompts": "none"})


async def hangs(request) -> None:
    await request.peer.gone()


async def closes(request) -> None:
    request.peer.writer.close()


async def empty_cursor(request) -> None:
    await request.peer.result(request, {"prompts": [{"name": "p"}], "nextCursor": ""})


@pytest.mark.parametrize("breaks", [rpc_error, server_error, no_list, hangs, closes])
async def test_a_list_that_fails_costs_that_list(server, backend_of, breaks) -> None:
    server.capabilities = {"tools": {}, "prompts": {}}
    server.on["prompts/list"] = breaks
    backend = backend_of(server.url, timeout=0.5, breaker=BreakerSettings(threshold=1))
    await backend.start()
    await eventually(lambda: Kind.PROMPTS in backend.state.failing)
    assert [item.key for item in backend.catalogue.tools] == ["echo"]
    assert backend.state.circuit is Circuit.CLOSED
    await eventually(lambda: backend.state.health is Health.DEGRADED)
    session = backend.open(SessionSpec())
    assert (await session.call(call())).error is None
    await session.close()

    async def prompts(request) -> None:
        await request.peer.result(request, {"prompts": [{"name": "p"}]})

    server.on["prompts/list"] = prompts
    await eventually(lambda: [item.key for item in backend.catalogue.prompts] == ["p"], within=10)
    assert backend.state.failing == {}


async def test_a_slow_list_does_not_hold_back_the_others(server, backend_of) -> None:
    server.capabilities = {"tools": {}, "prompts": {}}
    server.on["prompts/list"] = hangs
    backend = backend_of(server.url, timeout=30.0)
    await backend.start()
    await eventually(lambda: backend.catalogue.known)
    assert [item.key for item in backend.catalogue.tools] == ["echo"]
    assert backend.state.failing == {}, "it may still come"


async def test_an_empty_cursor_ends_a_list(server, backend_of) -> None:
    server.capabilities = {"prompts": {}}
    server.on["prompts/list"] = empty_cursor
    backend = backend_of(server.url)
    await backend.start()
    assert await backend.wait_known(5)
    assert [item.key for item in backend.catalogue.prompts] == ["p"]
    assert len(server.posts("prompts/list")) == 1


async def test_a_list_that_never_stops_changing_is_fetched_at_rests(server, backend_of) -> None:
    """A flood of list_changed leads to a fetch now and then, not to one each."""
    server.capabilities = {"tools": {"listChanged": True}}
    notes = 0

    async def stream(request) -> None:
        nonlocal notes
        await request.peer.stream()
        while notes < 300:
            await request.peer.event({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
            notes += 1
            await asyncio.sleep(0.001)
        server.tools = [tool_of("last")]
        await request.peer.event({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
        await request.peer.gone()

    server.on["GET"] = stream
    backend = backend_of(server.url)
    await backend.start()
    await eventually(lambda: [item.key for item in backend.catalogue.tools] == ["last"])
    assert len(server.posts("tools/list")) < 10


# --- calls and the circuit ---


async def too_large(request) -> None:
    await request.peer.raw(b"HTTP/1.1 413 Payload Too Large\r\ncontent-type: text/html\r\ncontent-length: 3\r\n\r\nbig")


async def unusable(request) -> None:
    await request.peer.json(b"{no json")


async def refuses(request) -> None:
    await request.peer.json(b"crashed", 500)


@pytest.mark.parametrize("breaks", [too_large, unusable, refuses, hangs, closes])
async def test_one_callers_failing_calls_do_not_close_a_backend_to_the_others(server, backend_of, breaks) -> None:
    async def tool(request) -> None:
        if b'"evil"' in request.body:
            await breaks(request)
        else:
            await server.answer(request)

    server.on["tools/call"] = tool
    backend = backend_of(server.url, breaker=BreakerSettings(threshold=2), unhealthy_threshold=2)
    await backend.start()
    await eventually(lambda: backend.catalogue.known)
    evil, good = backend.open(SessionSpec()), backend.open(SessionSpec())
    for _ in range(6):
        with pytest.raises((BackendProtocolError, BackendUnavailable, BackendTimeout)):
            await evil.call(Call(method="tools/call", params=b'{"name":"evil"}', timeout=0.1))
    assert backend.state.circuit is Circuit.CLOSED
    assert (await good.call(call())).error is None
    assert backend.state.health in {Health.HEALTHY, Health.DEGRADED}
    await evil.close()
    await good.close()


async def test_calls_that_time_out_make_the_monitor_look_and_a_failed_probe_opens_the_circuit(
    server, backend_of
) -> None:
    backend = backend_of(server.url, breaker=BreakerSettings(threshold=3), health_timeout=0.2)
    await backend.start()
    await eventually(lambda: backend.catalogue.known)
    session = backend.open(SessionSpec())
    await session.call(call())
    server.on["tools/call"] = server.on["ping"] = hangs
    for _ in range(3):
        with pytest.raises(BackendError):
            await session.call(call(0.05))
    await eventually(lambda: backend.state.circuit is Circuit.OPEN)
    assert backend.state.failures == 4, "three calls in doubt, and the probe that confirmed them"
    await session.close()
