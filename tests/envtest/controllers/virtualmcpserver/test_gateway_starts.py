"""What the operator writes is fed to the gateway itself, started as its Deployment starts it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hack.demo.pod import Pod, materialize
from tests.envtest.controllers.kit import certificate, header
from tests.envtest.controllers.virtualmcpserver.conftest import KIND, Gateways
from tests.support.eventually import eventually
from tests.support.process import Program

NOWHERE = "mcp.example.com:443:127.0.0.1"
"""The backend's address: nobody listens, and nothing leaves this machine."""
FILLER = {"metadata": {"filler": "word " * 200_000}}


class Running:
    """A gateway process on the files of its pod."""

    def __init__(self, program: Program, cluster: Gateways, root: Path, port: int) -> None:
        self._program, self._cluster, self._root = program, cluster, root
        self.url = f"http://127.0.0.1:{port}"

    async def status(self) -> dict[str, Any]:
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}/status") as answer:
            found: dict[str, Any] = await answer.json()
            return found

    async def mounts_are_refreshed(self) -> None:
        """Do what the kubelet does about once a minute."""
        await mounted(self._cluster, self._root)

    async def accepts(self, generation: int) -> None:
        """Wait until the gateway runs its configuration number `generation`, none refused."""

        async def accepted() -> bool:
            config = (await self.status())["config"]
            assert not config["refused"], self._program.raw[-3:]
            return bool(config["generation"] == generation)

        await eventually(accepted)


async def mounted(cluster: Gateways, root: Path) -> Pod:
    return await materialize(cluster.admin, cluster.namespace, await cluster.deployment(), root)


@pytest.fixture
def serving(tmp_path: Path) -> Callable[[Gateways], Any]:
    """Start the gateway of a cluster from its Deployment, with nothing but what the Deployment gives it."""

    @asynccontextmanager
    async def start(cluster: Gateways) -> AsyncIterator[Running]:
        pod = await mounted(cluster, tmp_path)
        command = pod.serve(port=0, resolve=[NOWHERE])
        environ = {"PATH": os.environ["PATH"], **pod.environ}
        async with Program(*command[1:], environ=environ, inherit=False) as program:
            line = await program.line(lambda line: line.get("event") == "listening", what="listening")
            yield Running(program, cluster, tmp_path, line["port"])

    return start


async def test_a_packed_configuration_starts_a_gateway_and_replaces_a_plain_one_under_it(
    cluster: Gateways, serving: Callable[[Gateways], Any]
) -> None:
    await cluster.group()
    await cluster.entry()
    await cluster.until("MCPServerEntry", "e", phase="Valid")
    await cluster.gateway(config=FILLER)
    await cluster.until(KIND, "v", ConfigPublished="True/ConfigCompressed")
    async with serving(cluster) as gateway:
        await gateway.accepts(1)
        await cluster.patch(KIND, "v", {"spec": {"config": {"metadata": None}}})
        await cluster.until(KIND, "v", ConfigPublished="True/ConfigWritten")
        await gateway.mounts_are_refreshed()
        await gateway.accepts(2)
        await cluster.patch(KIND, "v", {"spec": {"config": FILLER}})
        await cluster.until(KIND, "v", ConfigPublished="True/ConfigCompressed")
        await gateway.mounts_are_refreshed()
        await gateway.accepts(3)


async def test_a_gateway_starts_with_the_headers_and_authorities_that_its_members_bring(
    cluster: Gateways, serving: Callable[[Gateways], Any]
) -> None:
    await cluster.group()
    await cluster.secret("keys", k="v")
    await cluster.config_map("pki", **{"ca.crt": certificate()})
    bundle = {"configMapRef": {"name": "pki", "key": "ca.crt"}}
    await cluster.entry("e", caBundleRef=bundle, headerForward={"addHeadersFromSecret": [header("X-Key", "keys", "k")]})
    await cluster.until("MCPServerEntry", "e", phase="Valid")
    await cluster.gateway()
    await cluster.config(until=lambda config: len(config.backends) == 1)
    await cluster.deployment(until=lambda found: "ca-bundle-e" in str(found))
    async with serving(cluster) as gateway:
        await gateway.accepts(1)
        assert [backend["name"] for backend in (await gateway.status())["backends"]] == ["e"]


async def test_everything_applied_at_once_is_written_once_for_all_members(cluster: Gateways) -> None:
    await cluster.create("MCPGroup", "g")
    await cluster.secret("keys", k="v")
    await cluster.config_map("pki", **{"ca.crt": certificate()})
    bundle = {"configMapRef": {"name": "pki", "key": "ca.crt"}}
    secret = {"addHeadersFromSecret": [header("X-Key", "keys", "k")]}
    await cluster.gateway()
    for number in range(10):
        await cluster.entry(f"plain-{number}")
        await cluster.entry(f"secure-{number}", caBundleRef=bundle)
        await cluster.endpoint(f"keyed-{number}", headerForward=secret)
    await cluster.gateway("late")
    await cluster.until(KIND, "late", BackendsIncluded="True/AllMembersIncluded", ObjectsApplied="True/ObjectsApplied")
    await cluster.come_to_rest()
    found = await cluster.deployment("late")
    assert found["metadata"]["generation"] == 1
    document = await cluster.owned("v1", "ConfigMap", "late-vmcp-config")
    writes = {entry["time"] for entry in document["metadata"]["managedFields"]}
    assert writes == {document["metadata"]["creationTimestamp"]}
    events = await cluster.admin.list("events.k8s.io/v1", "Event", namespace=cluster.namespace)
    assert not [
        event["note"]
        for event in events
        if event["reason"] == "MembersSkipped" and event["regarding"]["name"] == "late"
    ]


async def test_a_member_that_nobody_judges_does_not_hold_a_gateway_up(start: Callable[..., Any]) -> None:
    cluster = await start(only=("mcpgroup", "virtualmcpserver"))
    await cluster.group()
    await cluster.entry()
    await cluster.gateway()
    await cluster.until(KIND, "v", BackendsIncluded="False/MembersSkipped", ObjectsApplied="True/ObjectsApplied")
