"""What a remote says arrives as it said it, and what clients say arrives at the remote."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.eventually import eventually
from tests.unit.vmcp.backend.conftest import McpScript, Request
from tests.unit.vmcp.proxy.conftest import answers, document

RICH = {
    "tools": [
        {
            "name": "zeta",
            "title": "Z",
            "inputSchema": {"type": "object"},
            "icons": [{"src": "x"}],
            "x-vendor": [1.0, 1e2],
        },
        {"name": "alpha", "inputSchema": {"type": "object"}, "_meta": {"big": 12345678901234567890123}},
    ],
    "nextCursor": "page 2/ü",
    "_meta": {"vendor/n": 9007199254740993},
    "unknown": None,
}


def said(remote: McpScript, method: str) -> dict[str, Any]:
    (request,) = remote.posts(method)
    return request.message


def introduce(remote: McpScript, **members: Any) -> None:
    """Let the remote answer `initialize` with more than the usual."""

    async def initialize(request: Request) -> None:
        remote.live.add("s1")
        result = {"protocolVersion": "2025-11-25", "capabilities": remote.capabilities, **members}
        await request.peer.result(request, result, mcp_session_id="s1")

    remote.on["initialize"] = initialize


async def test_server_info_instructions_and_capabilities_are_the_remotes(remote, proxy, connect):
    remote.capabilities = {"tools": {"listChanged": False}, "experimental": {"x": {"y": [1]}}}
    info = {"name": "notion", "version": "7", "title": "Notion", "websiteUrl": "https://n.example"}
    introduce(remote, serverInfo=info, instructions="Be brief.")
    client = await connect(await proxy())
    again = await client.request(
        "initialize",
        {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
        **{"Mcp-Session-Id": ""},
    )
    assert again.result == {
        "protocolVersion": "2025-06-18",
        "capabilities": remote.capabilities,
        "serverInfo": info,
        "instructions": "Be brief.",
    }
    modern = await connect(await proxy(), era="modern")
    found = (await modern.request("server/discover")).result
    assert found["capabilities"] == remote.capabilities
    assert found["instructions"] == "Be brief."
    assert found["_meta"]["io.modelcontextprotocol/serverInfo"] == info


async def test_what_a_client_declares_reaches_the_remote(remote, proxy, connect):
    client = await connect(await proxy())
    remote.seen.clear()
    info = {"name": "editor", "version": "3", "title": "E"}
    declared = {"roots": {"listChanged": True}, "experimental": {"a": 1}}
    params = {"protocolVersion": "2025-11-25", "capabilities": declared, "clientInfo": info}
    await client.request("initialize", params, **{"Mcp-Session-Id": ""})
    assert said(remote, "initialize")["params"] == params


async def test_a_list_arrives_byte_for_byte_in_the_remotes_order_and_pages(remote, proxy, connect):
    answers(remote, "tools/list", RICH)
    client = await connect(await proxy())
    remote.seen.clear()
    reply = await client.request("tools/list", {"cursor": "page 1", "_meta": {"a": 1}})
    assert json.dumps(RICH) in reply.body
    assert said(remote, "tools/list")["params"] == {"cursor": "page 1", "_meta": {"a": 1}}


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_modern_remote_shows_through_to_clients_of_both_eras(era, remote, proxy, connect):
    remote.be_modern(tools={"listChanged": True}, extensions={"vendor/x": {}})
    client = await connect(await proxy(), era=era)
    assert await client.tools() == ["echo"]
    assert (await client.call("echo", n=1)).told == {"n": 1}
    if era == "modern":
        found = (await client.request("server/discover")).result
        assert found["capabilities"] == remote.capabilities


async def test_a_modern_list_keeps_what_the_remote_says_about_caching(remote, proxy, connect):
    remote.be_modern()
    client = await connect(await proxy(), era="modern")
    found = (await client.request("tools/list")).result
    assert (found["ttlMs"], found["cacheScope"]) == (60000, "public")


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_methods_that_nobody_knows_pass_with_their_params_and_results(era, remote, proxy, connect):
    if era == "modern":
        remote.be_modern()
    answers(remote, "vendor/search", {"hits": [9007199254740993], "resultType": "complete"})
    client = await connect(await proxy(), era=era)
    reply = await client.request("vendor/search", {"q": "ü"})
    assert reply.result["hits"] == [9007199254740993]
    assert said(remote, "vendor/search")["params"]["q"] == "ü"


@pytest.mark.parametrize("method", ["initialize", "ping", "logging/setLevel", "resources/subscribe", "roots/list"])
async def test_methods_that_the_modern_era_has_not_are_no_unknown_ones(method, remote, proxy, connect):
    remote.be_modern()
    client = await connect(await proxy(), era="modern")
    reply = await client.request(method, {"uri": "a:b", "level": "info"})
    assert (reply.status, reply.error["code"]) == (404, -32601)
    assert remote.posts(method) == []


async def test_notifications_of_a_client_reach_the_remote_but_not_those_about_its_connection(remote, proxy, connect):
    client = await connect(await proxy())
    remote.seen.clear()
    for method in ("notifications/initialized", "notifications/vendor", "notifications/roots/list_changed"):
        await client.send({"jsonrpc": "2.0", "method": method, "params": {"a": 1}})
    assert [request.method for request in remote.seen] == ["notifications/vendor", "notifications/roots/list_changed"]
    assert remote.seen[0].message["params"] == {"a": 1}


async def test_notifications_on_a_calls_stream_stay_there_known_or_not(remote, proxy, connect):
    told = [
        {"jsonrpc": "2.0", "method": "notifications/vendor", "params": {"n": 1}},
        {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"},
        {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "debug", "data": "x"}},
    ]

    async def call(request: Request) -> None:
        await request.peer.stream()
        for message in told:
            await request.peer.event(message)
        await request.peer.event({"jsonrpc": "2.0", "id": request.id, "result": {"content": []}})
        await request.peer.end()

    remote.on["tools/call"] = call
    client = await connect(await proxy())
    reply = await client.call("echo")
    events = [json.loads(line[6:]) for line in reply.body.splitlines() if line.startswith("data: {")]
    assert [event.get("method") for event in events] == [*(message["method"] for message in told), None]
    assert events[0]["params"] == {"n": 1}


async def test_errors_of_the_remote_arrive_as_they_are(remote, proxy, connect):
    async def refuse(request: Request) -> None:
        await request.peer.error(request, -31999, message="odd one", data={"n": [1.0]})

    remote.on["prompts/get"] = refuse
    client = await connect(await proxy())
    reply = await client.request("prompts/get", {"name": "in no list"})
    assert reply.error == {"code": -31999, "message": "odd one", "data": {"n": [1.0]}}


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("tools/call", {"name": "in no list", "arguments": {}}),
        ("resources/read", {"uri": "odd:thing"}),
        ("resources/subscribe", {"uri": "odd:thing"}),
        ("completion/complete", {"ref": {"type": "ref/prompt", "name": "p"}, "argument": {"name": "a", "value": "b"}}),
        (
            "completion/complete",
            {"ref": {"type": "ref/resource", "uri": "x:{y}"}, "argument": {"name": "a", "value": ""}},
        ),
    ],
)
async def test_items_that_are_in_no_list_are_the_remotes_business(method, params, remote, proxy, connect):
    answers(remote, method, {})
    client = await connect(await proxy())
    await client.request(method, params)
    assert said(remote, method)["params"] == params


async def test_the_remote_hears_of_a_log_level_only_what_the_client_says(remote, proxy, connect):
    remote.capabilities = {"tools": {}, "logging": {}}
    answers(remote, "logging/setLevel", {})
    client = await connect(await proxy())
    await client.call("echo")
    assert remote.posts("logging/setLevel") == []
    await client.request("logging/setLevel", {"level": "error"})
    await client.call("echo")
    assert said(remote, "logging/setLevel")["params"] == {"level": "error"}


async def test_each_client_has_its_own_session_with_the_remote_and_ends_it(remote, proxy, connect):
    running = await proxy()
    one, other = await connect(running), await connect(running)
    remote.seen.clear()
    for client in (one, other, one):
        await client.call("echo")
    ids = [request.headers["mcp-session-id"] for request in remote.posts("tools/call")]
    assert ids[0] == ids[2] != ids[1]
    assert one.session_id not in ids
    assert (await one.post(b"", one.headers(), "DELETE")).status == 200
    await eventually(lambda: [request.headers["mcp-session-id"] for request in remote.verbs("DELETE")] == [ids[0]])
    assert (await one.call("echo")).status == 404
    assert (await other.call("echo")).status == 200


async def test_a_remote_without_session_ids_works(remote, proxy, connect):
    async def initialize(request: Request) -> None:
        await request.peer.result(request, {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}})

    async def call(request: Request) -> None:
        assert "mcp-session-id" not in request.headers
        await request.peer.result(request, {"content": []})

    remote.on |= {"initialize": initialize, "tools/call": call, "tools/list": call, "notifications/initialized": call}
    client = await connect(await proxy())
    assert (await client.call("echo")).result == {"content": []}


async def test_a_remote_that_forgot_a_session_executes_the_call_once_in_a_new_one(remote, proxy, connect):
    client = await connect(await proxy())
    remote.live.clear()
    remote.seen.clear()
    assert (await client.call("echo", n=1)).told == {"n": 1}
    assert len(remote.posts("initialize")) == 1
    executed = [request for request in remote.posts("tools/call") if request.headers["mcp-session-id"] in remote.live]
    assert len(executed) == 1


async def test_a_tool_that_answers_404_on_a_live_session_runs_once(remote, proxy, connect):
    async def call(request: Request) -> None:
        await request.peer.error(request, -32602, 404, "no such page")

    remote.on["tools/call"] = call
    client = await connect(await proxy())
    reply = await client.call("echo")
    assert reply.error["message"] == "no such page"
    assert len(remote.posts("tools/call")) == 1


async def test_another_remote_is_swapped_in_while_clients_are_connected(remote, proxy, connect):
    running = await proxy()
    client = await connect(running)
    second = McpScript()
    await second.start()
    try:
        await running.apply(document(second))
        await client.call("echo")
        assert len(second.posts("tools/call")) == 1
        assert remote.posts("tools/call") == []
    finally:
        await second.stop()
