"""A proxy of an endpoint as a member: the group counts it, gateways reach it by the URL of its status."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from hack.demo.pod import configuration
from tests.envtest.controllers.conftest import MINE
from tests.envtest.controllers.mcpremoteendpoint.conftest import KIND, ProxyCluster

GATEWAY = "VirtualMCPServer"
Start = Callable[..., Awaitable[ProxyCluster]]


@pytest.fixture
async def members(start: Start) -> ProxyCluster:
    return await start(only=(*MINE, "virtualmcpserver"))


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
