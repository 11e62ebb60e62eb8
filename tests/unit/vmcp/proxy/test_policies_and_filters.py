"""Filter, overrides and policies hold on every path on which a call or an answer can travel."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import aiohttp
import pytest
from yarl import URL

from tests.support.eventually import eventually
from tests.unit.vmcp.backend.conftest import Request, tool_of
from tests.unit.vmcp.proxy.conftest import answers, document

ALPHA = 'permit(principal, action == Action::"call_tool", resource == Tool::"alpha");'
ONLY_ALPHA = {"type": "anonymous", "authz": {"type": "cedar", "policies": [ALPHA]}}
TOOLS = {"filter": ["renamed", "beta"], "overrides": {"alpha": {"name": "renamed", "description": "New"}}}
ERAS = pytest.mark.parametrize("era", ["legacy", "modern"])


def listing(remote: Any, **members: Any) -> dict[str, Any]:
    remote.tools = [tool_of(name, description="Old") for name in ("gamma", "beta", "alpha")]
    result = {"tools": remote.tools, "nextCursor": "n", "_meta": {"v": 1}, "big": 9007199254740993, **members}
    answers(remote, "tools/list", result)
    return result


def as_events(remote: Any, result: dict[str, Any]) -> None:
    """Let the remote answer its list on a stream."""

    async def answer(request: Request) -> None:
        await request.peer.stream()
        await request.peer.event({"jsonrpc": "2.0", "id": request.id, "result": result})
        await request.peer.end()

    remote.on["tools/list"] = answer


def packed(remote: Any, result: dict[str, Any]) -> None:
    """Let the remote answer its list compressed, although nobody asked for that."""

    async def answer(request: Request) -> None:
        body = gzip.compress(json.dumps({"jsonrpc": "2.0", "id": request.id, "result": result}).encode())
        await request.peer.json(body, content_encoding="gzip")

    remote.on["tools/list"] = answer


@ERAS
@pytest.mark.parametrize("way", [lambda *_: None, as_events, packed])
async def test_a_filtered_list_keeps_all_the_rest_of_the_answer(way, era, remote, proxy, connect):
    if era == "modern":
        remote.be_modern()
    result = listing(remote, resultType="complete", ttlMs=5, cacheScope="private")
    way(remote, result)
    client = await connect(await proxy(tools=TOOLS), era=era)
    found = (await client.request("tools/list")).result
    assert found["tools"] == [tool_of("beta", description="Old"), tool_of("renamed", description="New")]
    assert (found["nextCursor"], found["_meta"], found["big"]) == ("n", {"v": 1}, 9007199254740993)


@ERAS
async def test_a_renamed_tool_is_called_by_its_new_name_only(era, remote, proxy, connect):
    if era == "modern":
        remote.be_modern()
    listing(remote, resultType="complete")
    client = await connect(await proxy(tools=TOOLS), era=era)
    assert (await client.call("renamed", n=9007199254740993)).told == {"n": 9007199254740993}
    (call,) = remote.posts("tools/call")
    assert call.message["params"]["name"] == "alpha"
    assert call.headers.get("mcp-name") == ("alpha" if era == "modern" else None)
    remote.seen.clear()
    for name in ("alpha", "gamma", "none"):
        assert (await client.call(name)).error["code"] == -32602
    assert remote.seen == []


async def test_an_override_takes_the_name_of_another_tool_which_is_hidden_then(remote, proxy, connect):
    listing(remote)
    client = await connect(await proxy(tools={"overrides": {"alpha": {"name": "beta"}}}))
    assert await client.tools() == ["gamma", "beta"]
    await client.call("beta")
    assert [request.message["params"]["name"] for request in remote.posts("tools/call")] == ["alpha"]


@ERAS
@pytest.mark.parametrize("way", [lambda *_: None, as_events, packed])
async def test_a_policy_hides_what_it_does_not_permit_and_refuses_its_use(way, era, remote, proxy, connect):
    if era == "modern":
        remote.be_modern()
    way(remote, listing(remote, resultType="complete"))
    for method, member in (("prompts/list", "prompts"), ("resources/list", "resources")):
        answers(remote, method, {member: [{"name": "x", "uri": "a:x"}], "resultType": "complete"})
    answers(remote, "resources/templates/list", {"resourceTemplates": [{"name": "x", "uriTemplate": "a:{x}"}]})
    client = await connect(await proxy(incomingAuth=ONLY_ALPHA), era=era)
    assert await client.tools() == ["alpha"]
    assert (await client.request("prompts/list")).result["prompts"] == []
    assert (await client.request("resources/list")).result["resources"] == []
    assert (await client.request("resources/templates/list")).result["resourceTemplates"] == []
    remote.seen.clear()
    for method, params in (
        ("tools/call", {"name": "beta", "arguments": {}}),
        ("prompts/get", {"name": "x"}),
        ("resources/read", {"uri": "a:x"}),
        ("completion/complete", {"ref": {"type": "ref/prompt", "name": "x"}, "argument": {"name": "a", "value": ""}}),
        ("tasks/get", {"taskId": "1"}),
        ("vendor/unknown", {}),
    ):
        refused = await client.request(method, params)
        assert (method, refused.status, refused.error["code"]) == (method, 403, 403)
    assert remote.seen == []
    assert (await client.call("alpha")).status == 200


async def test_a_policy_judges_the_names_that_clients_see(remote, proxy, connect):
    listing(remote)
    tools = {"overrides": {"beta": {"name": "alpha"}, "alpha": {"name": "beta"}}}
    client = await connect(await proxy(incomingAuth=ONLY_ALPHA, tools=tools))
    assert await client.tools() == ["alpha"]
    await client.call("alpha")
    assert (await client.call("beta")).status == 403
    assert [request.message["params"]["name"] for request in remote.posts("tools/call")] == ["beta"]


@pytest.mark.parametrize("path", ["/mcp", "/", "/sse", "/x/sse", "/messages?sessionId=1", "/mcp/../sse", "/%73se"])
async def test_no_path_leads_around_a_policy(path, remote, proxy, connect):
    client = await connect(await proxy(incomingAuth=ONLY_ALPHA))
    remote.seen.clear()
    client.url = URL(client.url.removesuffix("/mcp") + path, encoded=True)  # or the client itself would tidy it up
    assert (await client.call("beta")).status in {403, 404}
    assert remote.seen == []


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call","params":{"name":"beta"}}', "json", 400),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","Method":"ping","params":{"name":"beta"}}', "json", 400),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"alpha","Name":"beta"}}', "json", 400),
        (
            b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"alpha"},"Params":{"name":"beta"}}',
            "json",
            400,
        ),
        (b'[{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"beta"}}]', "json", 400),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"beta"}}', "text", 415),
        (b'[{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"beta"}}]', "text", 415),
    ],
)
async def test_what_is_judged_is_what_is_sent(body, kind, status, remote, proxy, connect):
    client = await connect(await proxy(incomingAuth=ONLY_ALPHA))
    remote.seen.clear()
    headers = client.headers() | {"Content-Type": "application/json" if kind == "json" else "text/plain"}
    assert (await client.post(body, headers)).status == status
    assert remote.seen == []


@pytest.mark.parametrize("verb", ["PUT", "PATCH", "OPTIONS", "HEAD"])
async def test_other_verbs_reach_nobody(verb, remote, proxy, connect):
    client = await connect(await proxy())
    remote.seen.clear()
    body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"beta"}}'
    reply = await client.post(body, client.headers(), verb)
    assert (reply.status, reply.headers["allow"]) == (405, "GET, POST, DELETE")
    assert remote.seen == []


async def test_with_policies_nothing_unknown_passes_in_either_direction(remote, proxy, connect):
    async def call(request: Request) -> None:
        await request.peer.stream()
        await request.peer.event({"jsonrpc": "2.0", "method": "notifications/vendor", "params": {"tool": "beta"}})
        await request.peer.event({"jsonrpc": "2.0", "id": request.id, "result": {"content": []}})
        await request.peer.end()

    remote.on["tools/call"] = call
    client = await connect(await proxy(incomingAuth=ONLY_ALPHA))
    remote.seen.clear()
    await client.send({"jsonrpc": "2.0", "method": "notifications/vendor"})
    reply = await client.call("alpha")
    assert "notifications/vendor" not in reply.body
    assert [request.method for request in remote.seen if request.verb == "POST"] == ["tools/call"]


async def test_the_sessions_own_stream_tells_only_of_resources_that_may_be_read(remote, proxy, connect):
    """What belongs to no call comes by the GET stream; it is judged when it comes."""
    opened = asyncio.Event()

    async def get(request: Request) -> None:
        await request.peer.stream()
        for uri in ("a:secret", "a:open"):
            await request.peer.event(
                {"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": uri}}
            )
        opened.set()
        await request.peer.gone()

    remote.on["GET"] = get
    policy = 'permit(principal, action == Action::"read_resource", resource == Resource::"a:open");'
    auth = {"type": "anonymous", "authz": {"type": "cedar", "policies": [policy]}}
    client = await connect(await proxy(incomingAuth=auth))
    headers = {**client.headers(), "Accept": "text/event-stream"}
    async with aiohttp.ClientSession() as http, http.get(client.url, headers=headers) as stream:
        await asyncio.wait_for(opened.wait(), 10)
        heard = b""

        async def read() -> bool:
            nonlocal heard
            heard += await stream.content.readany()
            return b"a:open" in heard

        await eventually(read)
    assert b"a:secret" not in heard


async def test_a_list_without_a_list_is_an_error_where_it_must_be_filtered(remote, proxy, connect):
    client = await connect(await proxy(incomingAuth=ONLY_ALPHA))
    answers(remote, "tools/list", {"tools": "beta", "nextCursor": "beta"})
    reply = await client.request("tools/list")
    assert reply.error["code"] == -32603
    assert "beta" not in reply.body


async def test_a_policy_that_comes_with_a_reload_holds_for_sessions_that_are_open(remote, proxy, connect):
    running = await proxy()
    client = await connect(running)
    assert (await client.call("beta")).status == 200
    await running.apply(document(remote, incomingAuth=ONLY_ALPHA))
    assert (await client.call("beta")).status == 403
    assert (await client.request("vendor/unknown")).status == 403


async def test_limits_count_calls_and_are_asked_after_the_policy(remote, proxy, connect):
    limits = {"shared": {"maxTokens": 1, "refillPeriod": "1h"}}
    remote.be_modern()
    client = await connect(await proxy(incomingAuth=ONLY_ALPHA, rateLimiting=limits), era="modern")
    assert (await client.call("beta")).status == 403
    assert (await client.call("alpha")).status == 200
    assert (await client.call("alpha")).error["code"] == 429
    assert len(remote.posts("tools/call")) == 1
