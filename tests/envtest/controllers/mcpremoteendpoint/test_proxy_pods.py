"""What the operator writes for a proxy is fed to the program itself, started as its Deployment starts it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from hack.demo.pod import materialize
from tests.e2e.vmcp.issuer import Issuer
from tests.e2e.vmcp.kit import Client, EchoBackend
from tests.envtest.controllers.kit import encoded, header
from tests.envtest.controllers.mcpremoteendpoint.conftest import ProxyCluster
from tests.envtest.controllers.virtualmcpserver.pods import GatewayPod


@pytest.fixture
async def remote() -> AsyncIterator[EchoBackend]:
    backend = await EchoBackend("remote").start()
    yield backend
    await backend.stop()


async def pod_of(cluster: ProxyCluster, directory: Path, *resolve: str) -> GatewayPod:
    """Start the program with the command, the files and the variables of its Deployment, and nothing else."""
    pod = await materialize(cluster.admin, cluster.namespace, await cluster.deployment(), directory)
    return await GatewayPod(pod.serve(port=0, resolve=resolve), pod.environ | {"HOME": str(directory)}).start()


async def status_without_token(url: str) -> int:
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    async with aiohttp.ClientSession() as session, session.post(f"{url}/mcp", json=message) as answer:
        return answer.status


async def test_a_client_with_a_token_calls_the_remote_through_the_pod_that_the_operator_described(
    proxies: ProxyCluster, remote: EchoBackend, tmp_path: Path
) -> None:
    async with Issuer() as issuer:
        await proxies.group()
        await proxies.oidc(issuer=issuer.url, insecureAllowHTTP=True, jwksAllowPrivateIP=True)
        injection = {"headerName": "X-Key", "valueSecretRef": {"name": "s", "key": "k"}}
        await proxies.auth("a", type="headerInjection", headerInjection=injection)
        await proxies.secret("s", k="key-of-before", h="forwarded")
        await proxies.create(
            "MCPToolConfig", "t", {"toolsFilter": ["said"], "toolsOverride": {"echo": {"name": "said"}}}
        )
        policy = 'permit(principal, action == Action::"call_tool", resource) when { context.claim_team == "docs" };'
        policies = {"type": "inline", "inline": {"policies": [policy]}}
        await proxies.proxy(
            remoteUrl=remote.entry["url"],
            proxy={"oidcConfigRef": {"name": "o", "audience": "gateway"}, "authzConfig": policies},
            externalAuthConfigRef={"name": "a"},
            toolConfigRef={"name": "t"},
            headerForward={"addHeadersFromSecret": [header("X-Tenant", "s", "h")]},
        )
        await proxies.ready()
        first = await pod_of(proxies, tmp_path / "first", remote.resolve)
        try:
            assert await status_without_token(first.url) == 401
            async with Client(first.url, token=issuer.token(team="docs")) as client:
                assert await client.tools() == ["said"]
                told = (await client.call("said", nonce="n")).told
                assert (told["nonce"], told["backend"], told["key"]) == ("n", "remote", "key-of-before")
            async with Client(first.url, token=issuer.token(team="sales")) as client:
                assert (await client.call("said", nonce="n")).message.get("error")
        finally:
            await first.stop()
        before = (await proxies.deployment())["metadata"]["generation"]
        await proxies.patch("Secret", "s", {"data": encoded(k="key-of-today", h="forwarded")})
        await proxies.deployment(until=lambda found: found["metadata"]["generation"] > before)
        second = await pod_of(proxies, tmp_path / "second", remote.resolve)
        try:
            async with Client(second.url, token=issuer.token(team="docs")) as client:
                told = (await client.call("said", nonce="n")).told
                assert told["key"] == "key-of-today"
        finally:
            await second.stop()
        for pod in (first, second):
            pod.clean()
            assert "key-of" not in pod.text()
