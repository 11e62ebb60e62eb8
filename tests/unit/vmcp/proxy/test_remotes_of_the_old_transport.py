"""A remote of 2024-11-05: a stream by GET that names where to POST, before clients of both newer eras."""

from __future__ import annotations

import pytest

from tests.support.eventually import eventually
from tests.unit.vmcp.backend.conftest import McpScript
from tests.unit.vmcp.backend.test_backend_adversarial import Sse

OLD = {"transport": "sse"}


def speaks_sse(remote: McpScript, endpoint: str = "/messages?sid=1") -> Sse:
    remote.url = f"http://127.0.0.1:{remote.port}/v1/sse?key=1"
    return Sse(remote, endpoint)


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_messages_go_where_the_remote_says_and_not_to_the_path_of_its_stream(era, remote, proxy, connect):
    speaks_sse(remote)
    client = await connect(await proxy(remote=OLD), era=era)
    assert await client.tools() == ["echo"]
    reply = await client.call("echo")
    assert reply.result["content"] == [{"type": "text", "text": "over sse"}]
    assert {request.target for request in remote.seen if request.verb == "GET"} == {"/v1/sse?key=1"}
    assert {request.target for request in remote.posts("tools/call")} == {"/messages?sid=1"}


async def test_an_endpoint_on_another_host_gets_nothing_and_the_client_is_not_told_of_it(remote, proxy, connect):
    other = McpScript()
    await other.start()
    try:
        speaks_sse(remote, f"http://localhost:{other.port}/messages")
        client = await connect(await proxy(remote=OLD), era="modern")
        reply = await client.call("echo")
        assert reply.error["code"] == -32603
        assert "/messages" not in reply.body
        assert other.seen == []
    finally:
        await other.stop()


async def test_policies_judge_answers_that_travel_on_the_stream(remote, proxy, connect):
    speaks_sse(remote)
    nobody = {"type": "anonymous", "authz": {"type": "cedar", "policies": ["forbid(principal, action, resource);"]}}
    client = await connect(await proxy(remote=OLD, incomingAuth=nobody))
    assert await client.tools() == []
    assert (await client.call("echo")).status == 403
    assert remote.posts("tools/call") == []


async def test_clients_of_that_transport_are_told_that_it_is_not_served(remote, proxy, connect):
    client = await connect(await proxy(), era="modern")
    remote.seen.clear()
    client.url = client.url.removesuffix("/mcp") + "/sse"
    reply = await client.post(b"", {"Accept": "text/event-stream"}, "GET")
    assert reply.status == 400
    assert "mcp-session-id" in reply.body
    assert remote.seen == []


@pytest.mark.parametrize("wanted", [False, True])
async def test_only_a_circuit_breaker_that_was_asked_for_refuses_calls(wanted, remote, proxy, connect):
    breaker = {"failureHandling": {"circuitBreaker": {"enabled": True, "failureThreshold": 2, "timeout": "60s"}}}
    client = await connect(await proxy(operational=breaker if wanted else None), era="modern")
    port = remote.port
    await remote.stop()
    for _ in range(8):
        await client.call("echo")
    await remote.start(port=port)

    async def answered() -> bool:
        return (await client.call("echo")).message.get("result") is not None

    if wanted:
        assert (await client.call("echo")).error["data"]["category"] == "circuit_open"
    else:
        await eventually(answered)
    assert bool(remote.posts("tools/call")) is not wanted
