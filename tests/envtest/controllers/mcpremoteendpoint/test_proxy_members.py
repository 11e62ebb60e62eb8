"""A proxy of an endpoint as a member: the group counts it, gateways reach it by the URL of its status."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from hack.demo.pod import configuration, materialize
from tests.e2e.vmcp.issuer import Issuer
from tests.e2e.vmcp.kit import Client, EchoBackend, free_port
from tests.envtest.controllers.conftest import MINE
from tests.envtest.controllers.mcpremoteendpoint.conftest import KIND, ProxyCluster
from tests.envtest.controllers.virtualmcpserver.pods import GatewayPod
from tests.support.eventually import eventually

GATEWAY = "VirtualMCPServer"
Start = Callable[..., Awaitable[ProxyCluster]]


@pytest.fixture
async def members(start: Start) -> ProxyCluster:
    return await start(only=(*MINE, "virtualmcpserver"))


@pytest.fixture
async def remote() -> AsyncIterator[EchoBackend]:
    backend = await EchoBackend("remote").start()
    yield backend
    await backend.stop()


async def gateway(cluster: ProxyCluster) -> None:
    spec = {"groupRef": {"name": "g"}, "incomingAuth": {"type": "anonymous"}, "outgoingAuth": {"source": "inline"}}
    await cluster.create(GATEWAY, "v", spec)


async def test_a_gateway_skips_a_proxy_until_it_has_a_url_and_keeps_it_while_that_is_away(
    members: ProxyCluster,
) -> None:
    members.rollouts.clear()
    await members.group()
    await members.oidc()
    await members.proxy()
    await gateway(members)
    waiting = await members.until(GATEWAY, "v", BackendsIncluded="False/MembersSkipped")
    assert "p (NoURL)" in str(waiting["status"]["conditions"])
    await members.finish()
    url = (await members.ready())["status"]["url"]
    await members.until(GATEWAY, "v", BackendsIncluded="True/AllMembersIncluded")
    text = f"url: {url}"
    found = await members.object("v1", "ConfigMap", "v-vmcp-config", lambda one: text in configuration(one).decode())
    assert b"type: proxy" in configuration(found)
    await members.patch(KIND, "p", {"spec": {"remoteUrl": "https://elsewhere.example.com/mcp"}})
    await members.until(KIND, "p", phase="Pending", DeploymentReady="False/DeploymentNotReady")
    await members.come_to_rest()
    await members.until(GATEWAY, "v", BackendsIncluded="True/AllMembersIncluded")
    assert text in configuration(await members.object("v1", "ConfigMap", "v-vmcp-config")).decode()
    group = await members.get("MCPGroup", "g")
    assert group["status"]["remoteEndpoints"] == ["p"]


async def test_a_call_goes_through_gateway_and_proxy_and_both_apply_the_endpoints_auth(
    members: ProxyCluster, remote: EchoBackend, tmp_path: Path
) -> None:
    """One reference, two hops: what the gateway presents to the proxy, the proxy presents to the remote."""
    async with Issuer() as issuer:
        await members.group()
        await members.oidc(issuer=issuer.url, insecureAllowHTTP=True, jwksAllowPrivateIP=True)
        await members.secret("s", token=f"Bearer {issuer.token('service')}")
        injection = {"headerName": "Authorization", "valueSecretRef": {"name": "s", "key": "token"}}
        await members.auth("a", type="headerInjection", headerInjection=injection)
        port = free_port()
        await members.proxy(
            remoteUrl=remote.entry["url"],
            proxy={"oidcConfigRef": {"name": "o", "audience": "gateway"}, "proxyPort": port},
            externalAuthConfigRef={"name": "a"},
        )
        await members.ready()
        await gateway(members)
        await members.until(GATEWAY, "v", BackendsIncluded="True/AllMembersIncluded")
        await members.object("apps/v1", "Deployment", "v", lambda found: "HEADER_INJECTION" in str(found))
        proxy_files = await materialize(
            members.admin, members.namespace, await members.deployment(), tmp_path / "proxy"
        )
        gateway_files = await materialize(
            members.admin, members.namespace, await members.deployment("v"), tmp_path / "gateway"
        )
        host = f"mcp-p-remote-proxy.{members.namespace}.svc.cluster.local:{port}:127.0.0.1"
        # On loopback alone it would only answer to loopback's names, and the gateway calls it by that of the Service.
        command = [
            word.replace("--host=127.0.0.1", "--host=::")
            for word in proxy_files.serve(port=port, resolve=[remote.resolve])
        ]
        proxy = await GatewayPod(command, proxy_files.environ).start()
        front = await GatewayPod(gateway_files.serve(port=0, resolve=[host]), gateway_files.environ).start()
        try:
            await eventually(lambda: front.knows("p"), "the gateway has heard the proxy", within=30)
            async with Client(front.url) as client:
                (tool,) = [name for name in await client.tools() if name.endswith("echo")]
                told = (await client.call(tool, nonce="n")).told
            assert (told["nonce"], told["backend"]) == ("n", "remote")
            assert told["authorization"].startswith("Bearer ")
        finally:
            await front.stop()
            await proxy.stop()
        proxy.clean()
        front.clean()
