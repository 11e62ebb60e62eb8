"""Other writers win races against the operator: it decides anew soon, and a deletion ends what it was about to say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from hack.controlplane.handle import Handle
from hack.controlplane.rest import Kube
from runtime.testing.faultproxy import FaultProxy, ProxiedExchange
from runtime.testing.faults import held, status
from runtime.transport.config import load_endpoint
from tests.envtest.controllers.kit import Cluster
from tests.support.eventually import eventually
from tests.support.operator import launch

CONFLICT = status(409, "Conflict")
LOST = 5
"""Conflicts in a row: what the runtime takes for races that one may lose. Longer fights are its own tests."""


@dataclass
class Race:
    """A running operator, a proxy before its server, and what it logged."""

    cluster: Cluster
    proxy: FaultProxy
    logs: list[Any]

    @property
    def errors(self) -> list[Any]:
        return [line for line in self.logs if line["log_level"] in ("error", "critical")]


@pytest.fixture
async def race(admin: Kube, namespace: str, control_plane: Handle, operator_kubeconfig: Path) -> AsyncIterator[Race]:
    endpoint = await load_endpoint(str(operator_kubeconfig))
    with capture_logs() as logs:
        async with FaultProxy(endpoint) as proxy:
            operator = await launch(replace(endpoint, url=proxy.url), namespace)
            yield Race(Cluster(admin, namespace, control_plane), proxy, logs)
            await operator.stop()


def status_of(plural: str, name: str) -> Callable[[ProxiedExchange], bool]:
    return lambda e: e.method == "PATCH" and e.path.endswith(f"/{plural}/{name}/status")


def write_of(plural: str, name: str) -> Callable[[ProxiedExchange], bool]:
    return lambda e: e.method == "PATCH" and e.path.endswith(f"/{plural}/{name}")


GATEWAY = {"groupRef": {"name": "g"}, "incomingAuth": {"type": "anonymous"}, "outgoingAuth": {"source": "inline"}}
KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "group's status": ("mcpgroups", "MCPGroup", {}),
    "entry's status": (
        "mcpserverentries",
        "MCPServerEntry",
        {"remoteUrl": "https://e.example", "transport": "sse", "groupRef": {"name": "g"}},
    ),
    "endpoint's status": (
        "mcpremoteendpoints",
        "MCPRemoteEndpoint",
        {"type": "direct", "remoteUrl": "https://e.example", "transport": "sse", "groupRef": {"name": "g"}},
    ),
    "auth config's status": ("mcpexternalauthconfigs", "MCPExternalAuthConfig", {"type": "unauthenticated"}),
    "gateway's status": ("virtualmcpservers", "VirtualMCPServer", GATEWAY),
}


@pytest.mark.parametrize("what", KINDS)
async def test_conflicts_of_a_status_are_tried_again_soon_and_are_no_errors(race: Race, what: str) -> None:
    plural, kind, spec = KINDS[what]
    await race.cluster.group()
    rule = race.proxy.on(status_of(plural, "o"), CONFLICT, times=LOST)
    await race.cluster.create(kind, "o", spec)
    await race.cluster.admin.wait_for(
        "toolhive.stacklok.dev/v1beta1",
        kind,
        "o",
        namespace=race.cluster.namespace,
        until=lambda found: bool((found or {}).get("status", {}).get("conditions")),
        timeout=20,
    )
    assert rule.hits == LOST
    assert race.errors == []


@pytest.mark.parametrize(("plural", "name"), [("configmaps", "o-vmcp-config"), ("deployments", "o")])
async def test_conflicts_of_an_owned_object_are_tried_again_soon_and_are_no_errors(
    race: Race, plural: str, name: str
) -> None:
    await race.cluster.group()
    rule = race.proxy.on(write_of(plural, name), CONFLICT, times=LOST)
    await race.cluster.create("VirtualMCPServer", "o", GATEWAY)
    await race.cluster.until("VirtualMCPServer", "o", ObjectsApplied="True/ObjectsApplied")
    assert rule.hits == LOST
    assert race.errors == []


@pytest.mark.parametrize("what", KINDS)
async def test_an_object_that_is_deleted_before_its_status_is_written_ends_quietly(race: Race, what: str) -> None:
    plural, kind, spec = KINDS[what]
    await race.cluster.group()
    release = asyncio.Event()
    rule = race.proxy.on(status_of(plural, "o"), held(release), times=1)
    await race.cluster.create(kind, "o", spec)
    await eventually(lambda: rule.hits)
    # Whoever removes finalizers by hand can make an object vanish at any moment.
    if (await race.cluster.get(kind, "o"))["metadata"].get("finalizers"):
        await race.cluster.patch(kind, "o", {"metadata": {"finalizers": []}})
    await race.cluster.delete(kind, "o")
    await race.cluster.until(kind, "o", gone=True)
    release.set()
    write = next(e for e in race.proxy.exchanges if status_of(plural, "o")(e))
    await eventually(lambda: write.status)
    assert write.status == 404
    # The same worker judges another object of the kind, so the lost one has ended by then.
    await race.cluster.create(kind, "another", spec)
    await race.cluster.admin.wait_for(
        "toolhive.stacklok.dev/v1beta1",
        kind,
        "another",
        namespace=race.cluster.namespace,
        until=lambda found: bool((found or {}).get("status", {}).get("conditions")),
    )
    assert race.errors == []
