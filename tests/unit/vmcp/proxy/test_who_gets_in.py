"""Callers and credentials: who gets in, what they leave at the door, and what the remote gets instead."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.e2e.vmcp.issuer import Issuer, rsa_key
from tests.unit.vmcp.backend.conftest import Request
from tests.unit.vmcp.proxy.conftest import answers

TOKEN = "sentinel-of-the-remote"
INJECTED = {"type": "header_injection", "headerInjection": {"headerName": "Authorization", "headerValueEnv": "TOKEN"}}


def challenge_of(reply: Any) -> str:
    assert reply.status == 401
    return str(reply.headers["www-authenticate"])


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "another"},
        {"iss": "https://another.example"},
        {"exp": 1},
        {"sub": None},
        {"nbf": 4_000_000_000},
        {"header": {"kid": "unknown"}},
    ],
    ids=str,
)
async def test_a_token_that_is_not_for_this_proxy_gets_a_challenge_and_reaches_nobody(
    claims, remote, proxy, connect, issuer
):
    client = await connect(await proxy(incomingAuth=issuer.incoming), token=issuer.token())
    remote.seen.clear()
    client.token = issuer.token(**claims)
    assert 'error="invalid_token"' in challenge_of(await client.call("echo"))
    client.token = None
    assert challenge_of(await client.call("echo")).startswith("Bearer ")
    assert (await client.post(b"", client.headers(), "GET")).status == 401
    assert (await client.post(b"", client.headers(), "DELETE")).status == 401
    assert remote.seen == []


async def test_the_challenge_names_this_proxys_authorization_server_and_no_other(remote, proxy, connect, issuer):
    """The remote has one of its own, which a client must never be sent to."""

    async def refuse(request: Request) -> None:
        await request.peer.json({"error": "x"}, 401, WWW_Authenticate='Bearer resource_metadata="https://evil.example"')

    incoming = issuer.incoming
    incoming["oidc"]["resource"] = "https://mcp.example/notion/mcp"
    running = await proxy(incomingAuth=incoming)
    client = await connect(running, token=issuer.token())
    for verb in ("tools/call", "tools/list", "vendor/x"):
        remote.on[verb] = refuse
        reply = await client.request(verb, {"name": "echo"})
        assert (reply.status, reply.error["code"]) == (200, -32603)
        assert "evil" not in str(dict(reply.headers)) + reply.body
    remote.on["initialize"] = refuse
    opening = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    reply = await client.request("initialize", opening, **{"Mcp-Session-Id": ""})
    assert (reply.status, reply.error["code"]) == (502, -32603)
    assert "www-authenticate" not in reply.headers
    client.token = None
    challenge = challenge_of(await client.call("echo"))
    assert 'resource_metadata="https://mcp.example/.well-known/oauth-protected-resource/notion/mcp"' in challenge
    client.url = running.url + "/.well-known/oauth-protected-resource/notion/mcp"
    described = await client.post(b"", {}, "GET")
    assert json.loads(described.body)["authorization_servers"] == [issuer.url]
    client.url = running.url + "/.well-known/oauth-authorization-server"
    assert (await client.post(b"", {}, "GET")).status == 404


async def test_a_session_is_of_use_only_to_whom_opened_it(remote, proxy, connect, issuer):
    running = await proxy(incomingAuth=issuer.incoming)
    alice = await connect(running, token=issuer.token("alice"))
    bob = await connect(running, token=issuer.token("bob"))
    remote.seen.clear()
    bob.session_id = alice.session_id
    headers = bob.headers() | {"Accept": "text/event-stream"}
    assert (await bob.call("echo")).status == 404
    assert (await bob.send({"jsonrpc": "2.0", "method": "notifications/vendor"})).status == 404
    assert (await bob.post(b"", headers, "GET")).status == 404
    assert (await bob.post(b"", headers, "DELETE")).status == 404
    assert remote.seen == []
    assert (await alice.call("echo")).status == 200


@pytest.mark.parametrize("session_id", ["session-1", "00000000-0000-0000-0000-000000000000", "x" * 4000])
async def test_a_session_id_that_was_not_given_out_is_not_found(session_id, remote, proxy, connect):
    client = await connect(await proxy())
    remote.seen.clear()
    client.session_id = session_id
    assert (await client.call("echo")).error["code"] == -32001
    assert remote.seen == []


async def test_what_a_client_shows_to_the_proxy_stays_there(remote, proxy, connect, issuer):
    client = await connect(await proxy(incomingAuth=issuer.incoming), token=issuer.token())
    remote.seen.clear()
    forged = {"X-Forwarded-For": "9.9.9.9", "X-Forwarded-Host": "h", "Forwarded": "for=9.9.9.9", "Cookie": "a=b"}
    await client.request("tools/call", {"name": "echo"}, **forged, **{"X-Api-Key": "k", "Proxy-Authorization": "p"})
    (call,) = remote.posts("tools/call")
    assert call.headers.keys().isdisjoint(
        {"authorization", "cookie", "x-forwarded-for", "x-forwarded-host", "forwarded", "x-api-key"}
        | {"proxy-authorization"}
    )
    assert call.headers["host"] == f"127.0.0.1:{remote.port}"


async def test_the_remote_gets_the_configured_credentials_and_never_a_clients(remote, proxy, connect, issuer):
    """`auth` beats `headerForward`, and both beat what a client sends."""
    forward = {"addPlaintextHeaders": {"X-Tenant": "acme"}, "addHeadersFromSecret": {"X-Key": "KEY"}}
    running = await proxy(
        {"TOKEN": f"Bearer {TOKEN}", "TOOLHIVE_SECRET_KEY": "configured"},
        remote={"auth": INJECTED, "headerForward": forward},
        incomingAuth=issuer.incoming,
        passthroughHeaders=["X-Tenant", "X-Request-Id"],
    )
    client = await connect(running, token=issuer.token())
    remote.seen.clear()
    own = {"X-Tenant": "mine", "X-Key": "mine", "X-Request-Id": "7"}
    await client.request("tools/call", {"name": "echo"}, **own)
    (call,) = remote.posts("tools/call")
    for name, value in (
        ("authorization", f"Bearer {TOKEN}"),
        ("x-tenant", "acme"),
        ("x-key", "configured"),
        ("x-request-id", "7"),
    ):
        assert [found for key, found in call.raw_headers if key == name] == [value]


async def test_no_secret_is_in_an_answer_or_in_the_audit_log(remote, proxy, connect, issuer):
    async def refuse(request: Request) -> None:
        await request.peer.json({}, 403)

    environ = {"TOKEN": f"Bearer {TOKEN}"}
    running = await proxy(environ, audited=True, remote={"auth": INJECTED}, incomingAuth=issuer.incoming)
    client = await connect(running, token=issuer.token())
    await client.call("echo")
    remote.on["tools/call"] = refuse
    bodies = [(await client.call("echo")).body]
    for path in ("/status", "/api/backends/health", "/readyz"):
        client.url = running.url + path
        bodies.append((await client.post(b"", {}, "GET")).body)
    lines = await running.lines(3)
    for text in (*bodies, json.dumps(lines)):
        assert TOKEN not in text
        assert str(client.token) not in text


async def test_each_caller_reaches_the_remote_with_a_token_that_was_exchanged_for_its_own(
    remote, proxy, connect, issuer
):
    auth = {
        "type": "token_exchange",
        "tokenExchange": {"tokenUrl": issuer.url + "/token", "clientId": "p", "audience": "notion"},
    }
    running = await proxy(remote={"auth": auth}, incomingAuth=issuer.incoming)
    tokens = {}
    for name in ("alice", "bob"):
        client = await connect(running, token=issuer.token(name))
        remote.seen.clear()
        await client.call("echo")
        await client.call("echo")
        first, second = (request.headers["authorization"] for request in remote.posts("tools/call"))
        assert first == second
        assert str(client.token) not in first
        tokens[name] = first
    assert tokens["alice"] != tokens["bob"]
    issuer.exchange_status = [400]
    client = await connect_unopened(running, issuer.token("carol"))
    assert client.status == 502
    assert "www-authenticate" not in client.headers


async def connect_unopened(running: Any, token: str) -> Any:
    from tests.e2e.vmcp.kit import Client

    async with Client(running.url, era="modern", token=token) as client:
        client.era = "legacy"
        opening = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        return await client.request("initialize", opening)


async def test_keys_beside_the_old_ones_are_used_and_an_outage_of_the_issuer_is_survived(remote, proxy, connect):
    async with Issuer() as issuer:
        issuer.keys.append(rsa_key("k2"))
        old, new = (issuer.token(key=key) for key in issuer.keys)
        client = await connect(await proxy(incomingAuth=issuer.incoming), token=old)
        issuer.down = True
        later = issuer.token(sub="later", key=issuer.keys[1])
        for token in (old, new, later):
            client.token = token
            assert (await client.call("echo")).status == (200 if token != later else 404)  # it is not later's session


async def test_an_issuer_that_was_never_reached_is_503_and_no_challenge(remote, proxy):
    async with Issuer() as issuer:
        issuer.down = True
        running = await proxy(incomingAuth=issuer.incoming)
        reply = await connect_unopened(running, issuer.token())
        assert reply.status == 503
        assert "www-authenticate" not in reply.headers


async def test_the_audit_log_has_one_line_for_everything_and_no_address_that_a_client_made_up(remote, proxy, connect):
    async def broken(request: Request) -> None:
        await request.peer.text("no", 500)

    running = await proxy(audited=True)
    client = await connect(running)
    answers(remote, "vendor/x", {})
    remote.on["vendor/y"] = broken
    await client.request("tools/call", {"name": "echo"}, **{"X-Forwarded-For": "9.9.9.9"})
    await client.request("vendor/x")
    await client.request("vendor/y")
    client.session_id = "none"
    await client.request("tools/list")
    lines = await running.lines(6)
    assert [line["outcome"] for line in lines] == ["success", "success", "success", "success", "error", "failure"]
    assert {line["source"]["value"] for line in lines} == {"127.0.0.1"}


@pytest.mark.parametrize(
    ("said", "logged"),
    [("9.9.9.9, 10.0.0.7", "10.0.0.7"), ("2001:db8::1", "2001:db8::1"), ("unknown", "127.0.0.1"), ("", "127.0.0.1")],
)
async def test_with_trusted_headers_the_audit_log_names_whom_the_ingress_saw(said, logged, remote, proxy, connect):
    running = await proxy(audited=True, trustProxyHeaders=True)
    client = await connect(running)
    await client.request("tools/call", {"name": "echo"}, **{"X-Forwarded-For": said})
    lines = await running.lines(3)
    assert lines[-1]["source"]["value"] == logged


async def test_an_origin_that_nobody_allowed_is_refused(remote, proxy, connect):
    client = await connect(await proxy())
    remote.seen.clear()
    reply = await client.request("tools/call", {"name": "echo"}, Origin="https://evil.example")
    assert reply.status == 403
    assert remote.seen == []
