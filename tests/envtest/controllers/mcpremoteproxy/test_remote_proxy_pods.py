"""What the operator writes for an MCPRemoteProxy is fed to the program itself, alone and behind a gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from hack.demo.pod import configuration, materialize
from tests.e2e.vmcp.issuer import Issuer
from tests.e2e.vmcp.kit import Client, EchoBackend, free_port
from tests.envtest.controllers.conftest import MINE
from tests.envtest.controllers.kit import encoded, header
from tests.envtest.controllers.mcpremoteendpoint.test_proxy_pods import pod_of, status_without_token
from tests.envtest.controllers.mcpremoteproxy.conftest import KIND, RemoteProxyCluster
from tests.envtest.controllers.virtualmcpserver.pods import GatewayPod
from tests.support.eventually import eventually

GATEWAY = "VirtualMCPServer"


@pytest.fixture
async def remote() -> AsyncIterator[EchoBackend]:
    backend = await EchoBackend("remote").start()
    yield backend
    await backend.stop()


async def test_a_client_with_a_token_calls_the_remote_through_the_pod_that_the_operator_described(
    proxies: RemoteProxyCluster, remote: EchoBackend, tmp_path: Path
) -> None:
    async with Issuer() as issuer:
        await proxies.oidc(issuer=issuer.url, insecureAllowHTTP=True, jwksAllowPrivateIP=True)
        await proxies.secret("s", k="key-of-before")
        await proxies.create("MCPToolConfig", "t", {"toolsFilter": ["echo"]})
        policy = 'permit(principal, action == Action::"call_tool", resource) when { context.claim_team == "docs" };'
        await proxies.proxy(
            remoteUrl=remote.entry["url"],
            oidcConfigRef={"name": "o", "audience": "gateway"},
            authzConfig={"type": "inline", "inline": {"policies": [policy]}},
            toolConfigRef={"name": "t"},
            headerForward={"addHeadersFromSecret": [header("X-Key", "s", "k")]},
            audit={"enabled": True},
        )
        await proxies.ready()
        first = await pod_of(proxies, tmp_path / "first", remote.resolve)
        try:
            assert await status_without_token(first.url) == 401
            async with Client(first.url, token=issuer.token(team="docs")) as client:
                assert await client.tools() == ["echo"]
                told = (await client.call("echo", nonce="n")).told
                assert (told["nonce"], told["backend"], told["key"]) == ("n", "remote", "key-of-before")
            async with Client(first.url, token=issuer.token(team="sales")) as client:
                assert (await client.call("echo", nonce="n")).message.get("error")
        finally:
            await first.stop()
        before = (await proxies.deployment())["metadata"]["generation"]
        await proxies.patch("Secret", "s", {"data": encoded(k="key-of-today")})
        await proxies.deployment(until=lambda found: found["metadata"]["generation"] > before)
        second = await pod_of(proxies, tmp_path / "second", remote.resolve)
        try:
            async with Client(second.url, token=issuer.token(team="docs")) as client:
                assert (await client.call("echo", nonce="n")).told["key"] == "key-of-today"
        finally:
            await second.stop()
        for pod in (first, second):
            pod.clean()
            assert "key-of" not in pod.text()


async def test_a_gateway_reaches_a_proxy_by_the_url_of_its_status(
    start: Callable[..., Awaitable[RemoteProxyCluster]], remote: EchoBackend, tmp_path: Path
) -> None:
    cluster = await start(only=(*MINE, "virtualmcpserver"))
    cluster.rollouts.clear()
    port = free_port()
    await cluster.group()
    await cluster.proxy(remoteUrl=remote.entry["url"], oidcConfigRef=None, groupRef={"name": "g"}, proxyPort=port)
    spec = {"groupRef": {"name": "g"}, "incomingAuth": {"type": "anonymous"}, "outgoingAuth": {"source": "inline"}}
    await cluster.create(GATEWAY, "v", spec)
    waiting = await cluster.until(GATEWAY, "v", BackendsIncluded="False/MembersSkipped")
    assert "p (NoURL)" in str(waiting["status"]["conditions"])
    await cluster.finish()
    url = (await cluster.ready())["status"]["url"]
    await cluster.until(GATEWAY, "v", BackendsIncluded="True/AllMembersIncluded")
    text = f"url: {url}"
    found = await cluster.object("v1", "ConfigMap", "v-vmcp-config", lambda one: text in configuration(one).decode())
    assert b"type: proxy" in configuration(found)
    proxy_files = await materialize(cluster.admin, cluster.namespace, await cluster.deployment(), tmp_path / "proxy")
    gateway_files = await materialize(
        cluster.admin, cluster.namespace, await cluster.deployment("v"), tmp_path / "gateway"
    )
    host = f"mcp-p-remote-proxy.{cluster.namespace}.svc.cluster.local:{port}:127.0.0.1"
    # On loopback alone it would only answer to loopback's names, and the gateway calls it by that of the Service.
    command = [
        word.replace("--host=127.0.0.1", "--host=::") for word in proxy_files.serve(port=port, resolve=[remote.resolve])
    ]
    proxy = await GatewayPod(command, proxy_files.environ).start()
    front = await GatewayPod(gateway_files.serve(port=0, resolve=[host]), gateway_files.environ).start()
    try:
        await eventually(lambda: front.knows("p"), "the gateway has heard the proxy", within=30)
        async with Client(front.url) as client:
            (tool,) = [name for name in await client.tools() if name.endswith("echo")]
            assert (await client.call(tool, nonce="n")).told["backend"] == "remote"
    finally:
        await front.stop()
        await proxy.stop()
    proxy.clean()
    front.clean()
    # An edit that no pod serves yet takes the url away; a running gateway keeps the backend.
    await cluster.patch(KIND, "p", {"spec": {"remoteUrl": "https://elsewhere.example.com/mcp"}})
    await cluster.until(KIND, "p", phase="Pending", DeploymentReady="False/DeploymentNotReady")
    await cluster.come_to_rest()
    await cluster.until(GATEWAY, "v", BackendsIncluded="True/AllMembersIncluded")
    assert text in configuration(await cluster.object("v1", "ConfigMap", "v-vmcp-config")).decode()
