"""A status that somebody else keeps writing is not fought over at full rate, and an event names them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from hack.controlplane.handle import Handle
from hack.controlplane.rest import Kube
from tests.conftest import LONG
from tests.envtest.controllers.kit import API, Cluster

SECONDS = 3.0
MOST = 7
"""Writes of the operator in that time, on a slow machine: three at once, and the next after 1, 2, 4 and 8 seconds."""
SPECS: dict[str, dict[str, Any]] = {
    "MCPGroup": {},
    "MCPExternalAuthConfig": {"type": "unauthenticated"},
    "MCPServerEntry": {"remoteUrl": "https://m.example/mcp", "transport": "sse", "groupRef": {"name": "g"}},
    "VirtualMCPServer": {
        "groupRef": {"name": "g"},
        "incomingAuth": {"type": "anonymous"},
        "outgoingAuth": {"source": "inline"},
    },
}


RESOURCES = {kind: f"{kind.lower()}s" for kind in SPECS} | {"MCPServerEntry": "mcpserverentries"}
LONG_ONLY = pytest.mark.skipif(not LONG, reason="TEST_LONG")
KINDS = ["MCPServerEntry", "VirtualMCPServer", *(pytest.param(k, marks=LONG_ONLY) for k in list(SPECS)[:2])]


@pytest.fixture
async def cluster(admin: Kube, namespace: str, control_plane: Handle, start_operator: Any) -> Cluster:
    await start_operator()
    cluster = Cluster(admin, namespace, control_plane)
    for kind, spec in SPECS.items():
        await cluster.create(kind, "g", spec)
    await cluster.until("VirtualMCPServer", "g", BackendsIncluded="True/AllMembersIncluded")
    await cluster.come_to_rest()
    return cluster


@asynccontextmanager
async def contender(cluster: Cluster, kind: str) -> AsyncIterator[list[int]]:
    """Somebody who puts another observedGeneration back as soon as it is gone, as `kubectl patch` in a loop does."""
    theirs: dict[str, Any] = {"observedGeneration": 77}
    writes = [0]

    async def write() -> None:
        await cluster.patch(kind, "g", {"status": theirs}, status=True)
        writes[0] += 1

    async def stick() -> None:
        await write()
        async for _, found in cluster.admin.watch(API, kind, namespace=cluster.namespace):
            if found["status"].get("observedGeneration") != 77:
                await write()

    task = asyncio.create_task(stick())
    try:
        yield writes
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("kind", KINDS)
async def test_against_somebody_who_keeps_writing_a_status_repairs_become_rare_and_an_event_names_them(
    cluster: Cluster, kind: str
) -> None:
    before = len(cluster.status_writes(RESOURCES[kind]))
    async with contender(cluster, kind) as theirs:
        event = await asyncio.wait_for(cluster.event("g", "Warning", "Contested"), 30)
        await asyncio.sleep(SECONDS)  # the behaviour under test is how much is written in this time
    assert re.match(r'the field manager "[\w.-]+" keeps changing status\.observedGeneration of ', event["note"])
    assert "mcp-operator" not in event["note"]
    assert len(cluster.status_writes(RESOURCES[kind])) - before <= MOST
    assert theirs[0] <= MOST + 1
    # Left in peace, the status becomes what it should be without anybody's doing.
    await cluster.admin.wait_for(
        API,
        kind,
        "g",
        namespace=cluster.namespace,
        until=lambda found: found is not None and found["status"].get("observedGeneration") == 1,
        timeout=30,
    )


async def test_a_status_that_was_edited_by_hand_is_repaired_at_once_each_time(cluster: Cluster) -> None:
    for _ in range(2):
        await cluster.patch("MCPServerEntry", "g", {"status": {"phase": "Failed"}}, status=True)
        await cluster.until("MCPServerEntry", "g", timeout=5, phase="Valid")


async def test_two_operators_of_different_versions_do_not_fight_at_full_rate(
    cluster: Cluster, control_plane: Handle, namespace: str
) -> None:
    """The other one writes under the very same name, so that only the event can say what it looks like."""
    async with Kube(control_plane.kubeconfig) as kube:
        path = await kube.path(API, "MCPServerEntry", "g", namespace=namespace, subresource="status")

        async def older() -> None:
            async for _, found in cluster.admin.watch(API, "MCPServerEntry", namespace=namespace):
                if found["status"].get("message") != "as an older version says it":
                    await kube.request(
                        "PATCH",
                        path,
                        body={"status": {"phase": "Pending", "message": "as an older version says it"}},
                        params={"fieldManager": "mcp-operator"},
                        content_type="application/merge-patch+json",
                    )

        task = asyncio.create_task(older())
        try:
            event = await asyncio.wait_for(cluster.event("g", "Warning", "Contested"), 30)
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
    assert 'somebody who writes as this operator does (field manager "mcp-operator"; a second one?)' in event["note"]
