"""Where requests go, and what comes of a remote that does not answer as it should."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tests.unit.vmcp.backend.conftest import McpScript, Request
from tests.unit.vmcp.proxy.conftest import document

OPENING = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}


async def opened(client: Any) -> Any:
    return await client.request("initialize", OPENING, **{"Mcp-Session-Id": ""})


@pytest.mark.parametrize(
    ("path", "asked", "target"),
    [
        ("/v2/mcp", "/mcp", "/v2/mcp"),
        ("/v2/mcp?key=1", "/any/thing?y=2", "/v2/mcp?key=1"),
        ("", "/a/b", "/"),
        ("/a%2Fb%20c", "/mcp", "/a%2Fb%20c"),
        ("/sse", "/messages?sessionId=1", "/sse"),
    ],
)
async def test_the_configured_path_and_query_are_used_whatever_a_client_asks_for(
    path, asked, target, remote, proxy, connect
):
    remote.url = f"http://127.0.0.1:{remote.port}{path}"
    client = await connect(await proxy())
    remote.seen.clear()
    client.url = client.url.removesuffix("/mcp") + asked
    assert (await client.call("echo")).status == 200
    assert [request.target for request in remote.posts("tools/call")] == [target]


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/health", 200, '{"status":"ok"}'),
        ("/metrics", 404, "not_found"),
        ("/.well-known/oauth-protected-resource", 404, "not_found"),
        ("/.well-known/openid-configuration", 404, "not_found"),
    ],
)
async def test_the_proxys_own_paths_never_reach_the_remote(path, status, body, remote, proxy, connect):
    running = await proxy()
    client = await connect(running)
    remote.seen.clear()
    client.url = running.url + path
    reply = await client.post(b"", {}, "GET")
    assert (reply.status, body in reply.body) == (status, True)
    assert remote.seen == []


async def test_a_remote_that_is_down_is_502_to_a_handshake_and_an_error_to_a_call(remote, proxy, connect):
    running = await proxy()
    client = await connect(running)
    await remote.stop()
    assert (await opened(client)).status == 502
    reply = await client.call("echo")
    assert (reply.status, reply.error["code"]) == (200, -32603)
    client.url = running.url + "/health"
    assert (await client.post(b"", {}, "GET")).status == 200


async def test_a_remote_that_was_never_there_does_not_keep_a_proxy_from_starting(proxy, remote, connect):
    await remote.stop()
    running = await proxy()
    client = await connect(running, era="modern")
    assert (await client.call("echo")).error["code"] == -32603
    client.era = "legacy"
    assert (await opened(client)).status == 502


async def test_a_remote_that_says_nothing_is_504(remote, proxy, connect):
    async def silent(request: Request) -> None:
        await request.peer.gone()

    running = await proxy(operational={"timeouts": {"default": "200ms"}})
    client = await connect(running)
    remote.on["initialize"] = silent
    assert (await opened(client)).status == 504


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503])
async def test_every_refusal_of_a_handshake_is_the_remotes_fault_and_never_a_401(status, remote, proxy, connect):
    client = await connect(await proxy())

    async def refuse(request: Request) -> None:
        await request.peer.text("no", status)

    remote.on["initialize"] = refuse
    reply = await opened(client)
    assert reply.status == 502
    assert "www-authenticate" not in reply.headers
    assert reply.error["data"]["backend"] == "notion"


@pytest.mark.parametrize("status", [307, 308])
async def test_a_redirect_on_the_same_host_is_followed_with_method_and_body(status, remote, proxy, connect):
    async def move(request: Request) -> None:
        if request.target == "/mcp":
            await request.peer.raw(f"HTTP/1.1 {status} X\r\nlocation: /moved\r\ncontent-length: 0\r\n\r\n".encode())
        else:
            await remote.default(request)

    client = await connect(await proxy())
    remote.on["tools/call"] = move
    assert (await client.call("echo", n=1)).told == {"n": 1}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_to_another_host_is_not_followed(status, remote, proxy, connect):
    other = McpScript()
    await other.start()

    async def move(request: Request) -> None:
        await request.peer.raw(f"HTTP/1.1 {status} X\r\nlocation: {other.url}\r\ncontent-length: 0\r\n\r\n".encode())

    try:
        client = await connect(await proxy())
        remote.on["tools/call"] = move
        reply = await client.call("echo")
        assert reply.error["code"] == -32603
        assert other.seen == []
    finally:
        await other.stop()


async def test_an_endless_redirect_ends(remote, proxy, connect):
    async def move(request: Request) -> None:
        await request.peer.raw(b"HTTP/1.1 307 X\r\nlocation: /mcp\r\ncontent-length: 0\r\n\r\n")

    client = await connect(await proxy())
    remote.on["tools/call"] = move
    assert (await client.call("echo")).error["code"] == -32603
    assert len(remote.posts("tools/call")) <= 11


async def test_an_endless_answer_ends_with_the_time_of_the_call(remote, proxy, connect):
    async def endless(request: Request) -> None:
        await request.peer.raw(
            b"HTTP/1.1 200 X\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        try:
            while True:
                await request.peer.raw(b"10\r\n" + b" " * 16 + b"\r\n")
                await asyncio.sleep(0.01)
        except ConnectionError:
            pass

    client = await connect(await proxy(operational={"timeouts": {"default": "300ms"}}))
    remote.on["tools/call"] = endless
    began = time.monotonic()
    assert (await client.call("echo")).error["data"]["category"] == "timeout"
    assert time.monotonic() - began < 10


async def test_a_body_above_8_mib_is_refused_and_one_below_is_not(remote, proxy, connect):
    client = await connect(await proxy())
    remote.seen.clear()
    assert (await client.call("echo", text="x" * (9 << 20))).status == 413
    assert remote.seen == []
    assert (await client.call("echo", text="x" * (7 << 20))).status == 200


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_proxy_whose_remote_is_itself_says_so_at_once(era, remote, proxy, connect):
    running = await proxy()
    await running.apply(document(remote, remote={"url": running.url + "/mcp"}))
    client = await connect(running, era="modern")
    client.era = era
    began = time.monotonic()
    reply = await (opened(client) if era == "legacy" else client.call("echo"))
    assert reply.error["code"] == -32603
    assert time.monotonic() - began < 10


async def test_two_proxies_that_lead_to_each_other_say_so_at_once(remote, proxy, connect):
    one, two = await proxy(), await proxy(name="two")
    await one.apply(document(remote, remote={"url": two.url + "/mcp"}))
    await two.apply(document(remote, name="two", remote={"url": one.url + "/mcp"}))
    client = await connect(one, era="modern")
    assert (await client.call("echo")).error["code"] == -32603
    client.era = "legacy"
    assert (await opened(client)).status in {502, 504}
    assert remote.posts("tools/call") == []
