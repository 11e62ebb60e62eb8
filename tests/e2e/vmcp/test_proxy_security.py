"""What a proxy's boundary holds, row by row, on the program as it is deployed: one process, everything switched on.

Each test is a row. When all have run, every secret that the process was given or has seen is looked for in everything
that it wrote or answered.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.e2e.vmcp.issuer import Issuer, rsa_key
from tests.e2e.vmcp.kit import Client, Gateway, Reply
from tests.e2e.vmcp.test_secrets_stay_secret import spellings
from tests.support.eventually import eventually
from tests.support.schedule import LONG
from tests.unit.vmcp.backend.conftest import McpScript, Request, tool_of
from tests.unit.vmcp.backend.test_backend_adversarial import Sse

pytestmark = pytest.mark.asyncio(loop_scope="module")

INJECTED, FORWARDED = "injected-Sent1nel/+0815", 'forwarded-Sent1nel"&='
EVIL = "https://evil.example/authorize"
POLICIES = [
    'permit(principal, action == Action::"call_tool", resource == Tool::"shown");',
    'permit(principal, action == Action::"call_tool", resource == Tool::"renamed");',
]
OPENING = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}


class Boundary:
    """The process, the remote behind it, the issuer of its callers' tokens, and all that it answered."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.remote, self.issuer = directory, McpScript(), Issuer()
        self.audit = directory / "audit.log"
        self.answers: list[str] = []
        self.tokens: list[str] = []

    async def start(self) -> None:
        await self.issuer.__aenter__()
        self.remote.tools = [tool_of(name) for name in ("shown", "denied", "original", "filtered")]
        await self.remote.start()
        self.program = Gateway(
            self.document,
            self.directory,
            command="proxy",
            environ=self.environ,
        )
        await self.program.start()

    @property
    def environ(self) -> dict[str, str]:
        return {"INJECTED": f"Bearer {INJECTED}", "TOOLHIVE_SECRET_FORWARDED": FORWARDED}

    @property
    def document(self) -> dict[str, Any]:
        injection = {"headerName": "Authorization", "headerValueEnv": "INJECTED"}
        return {
            "name": "payroll",
            "remote": {
                "url": self.remote.url,
                "transport": "streamable-http",
                "auth": {"type": "header_injection", "headerInjection": injection},
                "headerForward": {"addHeadersFromSecret": {"X-Key": "FORWARDED"}},
            },
            "incomingAuth": {**self.issuer.incoming, "authz": {"type": "cedar", "policies": POLICIES}},
            "tools": {
                "filter": ["shown", "denied", "renamed"],
                "overrides": {"original": {"name": "renamed"}},
            },
            "operational": {"timeouts": {"default": "2s"}},
            "audit": {
                "enabled": True,
                "includeRequestData": True,
                "includeResponseData": True,
                "logFile": str(self.audit),
            },
            "telemetry": {"enablePrometheusMetricsPath": True},
        }

    def token(self, sub: str = "alice", **claims: Any) -> str:
        made = self.issuer.token(sub, **claims)
        self.tokens.append(made)
        return made

    def client(self, era: str = "legacy", token: str | None = "") -> Client:
        return Client(self.program.url, era=era, token=self.token() if token == "" else token)

    async def ask(self, client: Client, method: str, params: Any = None, **headers: str) -> Reply:
        reply = await client.request(method, params, **headers)
        return self.keep(reply)

    def keep(self, reply: Reply) -> Reply:
        self.answers.append(reply.body + str(dict(reply.headers)))
        return reply

    async def stop(self) -> None:
        await self.program.stop()
        await self.remote.stop()
        await self.issuer.__aexit__()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def boundary(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Boundary]:
    """A proxy in front of a scripted remote; at the end, nothing of it holds a secret."""
    made = Boundary(tmp_path_factory.mktemp("boundary"))
    await made.start()
    yield made
    for path in ("/status", "/api/backends/health", "/metrics", "/readyz", "/health"):
        made.answers.append((await made.program.get(path))[1])
    await made.stop()
    made.program.clean()
    written = {"log": made.program.text(), "audit": made.audit.read_text(), "answers": "\n".join(made.answers)}
    assert all(written.values()), "there must be something to look through"
    for where, text in written.items():
        for secret in (INJECTED, FORWARDED):
            assert [spelling for spelling in spellings(secret) if spelling in text] == [], f"{secret} in {where}"
        for token in made.tokens:
            assert token.rsplit(".", 1)[1] not in text, f"a token in {where}"


@pytest_asyncio.fixture(loop_scope="module")
async def remote(boundary: Boundary) -> AsyncIterator[McpScript]:
    """The remote as it behaves by default, and no request yet."""
    boundary.remote.seen.clear()
    yield boundary.remote
    boundary.remote.on.clear()


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_caller_with_a_token_gets_through_with_the_proxys_credentials(era, boundary, remote):
    async with boundary.client(era) as client:
        assert (await boundary.ask(client, "tools/call", {"name": "shown", "arguments": {}})).status == 200
    (call,) = remote.posts("tools/call")
    assert call.headers["authorization"] == f"Bearer {INJECTED}"
    assert call.headers["x-key"] == FORWARDED


@pytest.mark.parametrize(
    "claims",
    [None, {"aud": "another"}, {"exp": 1}, {"iss": "https://another.example"}, {"header": {"kid": "forged"}}],
    ids=["no token", "wrong audience", "expired", "wrong issuer", "unknown key"],
)
@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_caller_without_a_good_token_reaches_nobody(era, claims, boundary, remote):
    async with boundary.client(era) as client:
        remote.seen.clear()
        client.token = boundary.token(**claims) if claims is not None else None
        for method in ("tools/call", "tools/list", "initialize", "vendor/x"):
            reply = await boundary.ask(client, method, {"name": "shown"})
            assert reply.status == 401, method
            assert reply.headers["www-authenticate"].startswith("Bearer ")
        for verb in ("GET", "DELETE"):
            assert boundary.keep(await client.post(b"", client.headers(), verb)).status in (401, 405)
        assert remote.seen == []
        client.token = None


async def test_anothers_session_id_is_of_no_use(boundary, remote):
    async with boundary.client() as alice, boundary.client(token=boundary.token("mallory")) as mallory:
        own, remote_seen = mallory.session_id, len(remote.seen)
        mallory.session_id = alice.session_id
        assert (await boundary.ask(mallory, "tools/call", {"name": "shown"})).status == 404
        stream = mallory.headers() | {"Accept": "text/event-stream"}
        for verb in ("GET", "DELETE"):
            assert boundary.keep(await mallory.post(b"", stream, verb)).status == 404
        assert len(remote.seen) == remote_seen
        mallory.session_id = own
        assert (await boundary.ask(alice, "tools/call", {"name": "shown"})).status == 200


@pytest.mark.parametrize("name", ["denied", "original", "filtered"])
@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_tool_that_is_denied_hidden_or_renamed_is_neither_listed_nor_called(era, name, boundary, remote):
    async with boundary.client(era) as client:
        listed = (await boundary.ask(client, "tools/list")).result["tools"]
        assert [tool["name"] for tool in listed] == ["shown", "renamed"]
        reply = await boundary.ask(client, "tools/call", {"name": name, "arguments": {}})
        assert reply.error["code"] in (403, -32602), reply.body
    assert remote.posts("tools/call") == []


async def test_a_renamed_tool_reaches_the_remote_by_its_own_name(boundary, remote):
    async with boundary.client() as client:
        assert (await boundary.ask(client, "tools/call", {"name": "renamed", "arguments": {}})).status == 200
    (call,) = remote.posts("tools/call")
    assert call.message["params"]["name"] == "original"


@pytest.mark.parametrize("verb", ["POST", "PUT", "PATCH"])
@pytest.mark.parametrize("path", ["/mcp", "/", "/sse", "/mcp/sse", "/messages", "/mcp/../mcp", "//mcp", "/MCP"])
async def test_no_path_and_no_verb_leads_around_the_policy(path, verb, boundary, remote):
    async with boundary.client() as client:
        remote.seen.clear()
        client.url = boundary.program.url + path
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "denied"}}).encode()
        for kind in ("application/json", "text/plain"):
            reply = boundary.keep(await client.post(body, client.headers() | {"Content-Type": kind}, verb))
            assert 400 <= reply.status < 500, reply.body
        assert remote.seen == []
        client.url = boundary.program.url + "/mcp"


@pytest.mark.parametrize(
    "body",
    [
        b'{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call","params":{"name":"denied"}}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"shown","name":"denied"}}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"shown"},"params":{"name":"denied"}}',
        b'[{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"denied"}}]',
    ],
    ids=["another case", "name twice", "params twice", "batch"],
)
async def test_what_two_readers_could_read_in_two_ways_is_refused(body, boundary, remote):
    async with boundary.client() as client:
        remote.seen.clear()
        boundary.keep(await client.post(body, client.headers()))
        assert remote.posts("tools/call") == []


async def test_headers_that_a_client_makes_up_stay_outside(boundary, remote):
    forged = {
        "Cookie": "a=b",
        "X-Forwarded-For": "9.9.9.9",
        "X-Forwarded-Host": "evil.example",
        "Forwarded": "for=9.9.9.9",
        "X-Key": "mine",
        "Proxy-Authorization": "Basic eA==",
    }
    async with boundary.client() as client:
        await boundary.ask(client, "tools/call", {"name": "shown"}, **forged)
    (call,) = remote.posts("tools/call")
    assert call.headers["x-key"] == FORWARDED
    assert [value for name, value in call.raw_headers if name == "authorization"] == [f"Bearer {INJECTED}"]
    assert call.headers.keys().isdisjoint({"cookie", "x-forwarded-host", "forwarded", "proxy-authorization"})
    assert "9.9.9.9" not in boundary.audit.read_text()


@pytest.mark.parametrize("status", [401, 403, 302, 303, 307])
@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_remote_that_refuses_or_sends_away_tells_clients_nothing_of_itself(era, status, boundary, remote):
    """What it was sent comes back in its refusal, with an authorization server of its own."""

    async def refuse(request: Request) -> None:
        told = request.headers["authorization"]
        await request.peer.json(
            {"error": told},
            status,
            WWW_Authenticate=f'Bearer resource_metadata="{EVIL}", error="{told}"',
            Location=EVIL,
        )

    async with boundary.client(era) as client:
        for method in ("tools/call", "tools/list"):
            remote.on[method] = refuse
            reply = await boundary.ask(client, method, {"name": "shown"})
            assert reply.status != status, method
            assert reply.error is not None
            assert "evil.example" not in reply.body + str(dict(reply.headers))
            assert "www-authenticate" not in reply.headers
            assert "location" not in reply.headers


async def test_a_handshake_that_the_remote_refuses_is_502_and_no_challenge(boundary, remote):
    async def refuse(request: Request) -> None:
        await request.peer.json({}, 401, WWW_Authenticate=f'Bearer resource_metadata="{EVIL}"')

    async with boundary.client() as client:
        remote.on["initialize"] = refuse
        reply = await boundary.ask(client, "initialize", OPENING, **{"Mcp-Session-Id": ""})
        assert reply.status == 502
        assert "www-authenticate" not in reply.headers


async def test_an_answer_without_an_end_is_cut_and_the_next_call_works(boundary, remote):
    async def endless(request: Request) -> None:
        await request.peer.raw(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        while True:
            await request.peer.raw(b"2000\r\n" + b" " * 0x2000 + b"\r\n")
            await asyncio.sleep(0.005)

    async with boundary.client() as client:
        remote.on["tools/call"] = endless
        reply = await boundary.ask(client, "tools/call", {"name": "shown"})
        assert reply.error["code"] == -32603
        del remote.on["tools/call"]
        assert (await boundary.ask(client, "tools/call", {"name": "shown"})).status == 200
    assert boundary.program.rss() < 300 * 2**20


async def test_an_outage_of_the_issuer_changes_nothing_for_keys_that_are_known(boundary, remote):
    async with boundary.client() as client:
        boundary.issuer.down = True
        try:
            client.token = boundary.token()
            assert (await boundary.ask(client, "tools/call", {"name": "shown"})).status == 200
            client.token = boundary.token(key=rsa_key("stranger"))
            assert (await boundary.ask(client, "tools/call", {"name": "shown"})).status in (401, 503)
        finally:
            boundary.issuer.down = False
            client.token = boundary.token()


async def test_a_configuration_that_is_refused_leaves_the_boundary_as_it_stands(boundary, remote):
    """A document that an accident left without its policies, or cut short, lets nobody in by accident."""
    broken = boundary.document
    broken["incomingAuth"]["authz"]["policies"] = ["permit(principal, action, resource"]
    boundary.program.write(broken)
    await eventually(lambda: "configuration refused" in boundary.program.text())
    async with boundary.client() as client:
        assert (await boundary.ask(client, "tools/call", {"name": "denied"})).error["code"] == 403
    assert remote.posts("tools/call") == []
    boundary.program.write(boundary.document)


async def test_an_endpoint_on_another_host_gets_neither_the_message_nor_the_credentials(boundary, tmp_path):
    """A remote of 2024-11-05 says where to post: on its own host, or nowhere."""
    remote, other = McpScript(), McpScript()
    await remote.start()
    await other.start()
    Sse(remote, f"http://localhost:{other.port}/messages")
    document = boundary.document
    document["remote"] |= {"url": f"http://127.0.0.1:{remote.port}/sse", "transport": "sse"}
    document["audit"]["logFile"] = str(tmp_path / "audit.log")
    program = Gateway(document, tmp_path, command="proxy", environ=boundary.environ)
    await program.start()
    try:
        async with Client(program.url, era="modern", token=boundary.token()) as client:
            reply = await boundary.ask(client, "tools/call", {"name": "shown"})
            assert reply.error["code"] == -32603
            assert "/messages" not in reply.body
        assert remote.verbs("GET"), "it was asked for its stream"
        assert other.seen == []
    finally:
        await program.stop()
        await remote.stop()
        await other.stop()
    program.clean()
    assert INJECTED not in program.text()


@pytest.mark.skipif(not LONG, reason="TEST_LONG: an unknown key is looked for at most every 30 s")
async def test_a_rotated_key_is_used_without_a_restart_and_the_old_one_for_no_further_token(boundary, remote):
    async with boundary.client() as client:
        (old,) = boundary.issuer.keys
        boundary.issuer.keys[:] = [rsa_key("rotated")]
        client.token = boundary.token()

        async def accepted() -> bool:
            return (await boundary.ask(client, "tools/call", {"name": "shown"})).status == 200

        await eventually(accepted, within=60)
        client.token = boundary.token(key=old)
        assert (await boundary.ask(client, "tools/call", {"name": "shown"})).status == 401
        client.token = boundary.token()
