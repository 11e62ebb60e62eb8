"""CRDs that are older than the operator cost the fields that they lack and nothing else, and the objects say so."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from controllers.shared import skew
from hack.controlplane.crds import documents
from hack.controlplane.handle import Handle
from hack.controlplane.plane import ControlPlane, Options
from hack.controlplane.rest import Kube
from runtime.transport.config import load_endpoint
from tests.envtest.controllers.kit import API, URL, Cluster, Object, conditions_of
from tests.envtest.controllers.lifecycles import shows
from tests.support.operator import launch
from tests.support.process import ROOT

BASES = ROOT / "config" / "crd" / "bases"
OUTDATED = "CRDOutdated=True/StatusFieldsUnknown"
LACKS = {
    "MCPGroup": ("memberCount", "servedCount"),
    "MCPServerEntry": ("observedGeneration",),
    "MCPRemoteEndpoint": ("url",),
    "MCPRemoteProxy": ("message",),
    "MCPExternalAuthConfig": ("configHash",),
    "VirtualMCPServer": ("url", "message"),
}
"""Fields of the status that the older CRDs do not have."""
LACKS_IN_CONDITIONS = {"MCPRemoteEndpoint", "VirtualMCPServer"}
"""Kinds whose older CRDs do not have the conditions' observedGeneration either."""
LACKS_PHASE = {"MCPServerEntry": "Failed", "VirtualMCPServer": "Failed"}
"""Phases that the older CRDs do not have."""


def older(definition: Object) -> Object:
    """Take from a definition what an older version of it would not have."""
    kind = definition["spec"]["names"]["kind"]
    for version in definition["spec"]["versions"]:
        status = version["schema"]["openAPIV3Schema"]["properties"].get("status", {})
        if kind not in LACKS:
            continue
        status.pop("default")
        for field in LACKS[kind]:
            del status["properties"][field]
        if kind in LACKS_IN_CONDITIONS:
            del status["properties"]["conditions"]["items"]["properties"]["observedGeneration"]
        if kind in LACKS_PHASE:
            status["properties"]["phase"]["enum"].remove(LACKS_PHASE[kind])
    return definition


@pytest.fixture(scope="module")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Handle]:
    """A control plane of this module's own, with the older definitions."""
    crds = tmp_path_factory.mktemp("older-crds")
    for path in BASES.glob("*.yaml"):
        (definition,) = documents(path.read_text())
        (crds / path.with_suffix(".json").name).write_text(json.dumps(older(definition)))
    with ControlPlane(Options(crds=(crds,))) as plane:
        answer_all(plane.handle)
        yield plane.handle


def answer_all(control_plane: Handle) -> None:
    """Wait until every kind is served: at first the server answers 429, which kubectl obeys."""
    control_plane.kubectl("get", ",".join(LACKS), "--all-namespaces")


@pytest.fixture
async def cluster(
    admin: Kube, namespace: str, control_plane: Handle, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Cluster]:
    """A namespace in which the operator runs that asks every second whether the CRDs have changed."""
    monkeypatch.setattr(skew, "RECHECK", 1.0)
    operator = await launch(await load_endpoint(str(control_plane.kubeconfig)), namespace, vmcp_dialect="native")
    yield Cluster(admin, namespace, control_plane)
    await operator.stop()


@shows("MCPGroup", OUTDATED)
@shows("MCPServerEntry", OUTDATED)
@shows("MCPRemoteEndpoint", OUTDATED)
@shows("MCPRemoteProxy", OUTDATED)
@shows("MCPExternalAuthConfig", OUTDATED)
@shows("VirtualMCPServer", OUTDATED)
async def test_older_crds_cost_what_they_lack_until_they_are_replaced(cluster: Cluster) -> None:
    await cluster.group()
    await cluster.entry()
    await cluster.entry("broken", remoteUrl="http://169.254.169.254/")
    await cluster.endpoint()
    await cluster.create("MCPRemoteProxy", "r", {"remoteUrl": URL})
    await cluster.auth()
    gateway = {"groupRef": {"name": "g"}, "incomingAuth": {"type": "anonymous"}, "outgoingAuth": {"source": "inline"}}
    await cluster.create("VirtualMCPServer", "v", gateway)
    await cluster.create("VirtualMCPServer", "lost", gateway | {"groupRef": {"name": "nowhere"}})

    outdated = {"CRDOutdated": "True/StatusFieldsUnknown"}
    names = {
        "MCPGroup": "g",
        "MCPServerEntry": "e",
        "MCPRemoteEndpoint": "d",
        "MCPRemoteProxy": "r",
        "MCPExternalAuthConfig": "a",
        "VirtualMCPServer": "v",
    }
    for kind, name in names.items():
        found = await cluster.until(kind, name, **outdated)
        message = conditions_of(found)["CRDOutdated"][1]
        assert all(f"status.{field}" in message for field in LACKS[kind]), message
        assert "Ready" in conditions_of(found), found
    broken = await cluster.until("MCPServerEntry", "broken", **outdated, Valid="False/ConfigInvalid")
    assert broken["status"]["phase"] == "Pending", "what the schema gives by itself, and not the phase of before"
    await cluster.until("VirtualMCPServer", "lost", **outdated, Ready="False/GroupRefNotFound")
    group = await wait_for_status(cluster, "MCPGroup", "g", lambda status: status.get("entryCount") == 2)
    assert group["status"]["phase"] == "Ready"
    await cluster.admin.get("apps/v1", "Deployment", "v", namespace=cluster.namespace)

    await asyncio.to_thread(cluster.control_plane.install_crds, BASES)
    await asyncio.to_thread(answer_all, cluster.control_plane)
    for kind, name in names.items():
        found = await cluster.until(kind, name, CRDOutdated="")
        assert LACKS[kind][-1] in found["status"], found
    await cluster.until("MCPServerEntry", "broken", phase="Failed")
    await cluster.until("VirtualMCPServer", "lost", phase="Failed")
    await wait_for_status(cluster, "MCPGroup", "g", lambda status: status["memberCount"] == 3)


async def wait_for_status(cluster: Cluster, kind: str, name: str, holds: Callable[[Any], bool]) -> Object:
    found = await cluster.admin.wait_for(
        API, kind, name, namespace=cluster.namespace, until=lambda found: bool(found) and holds(found["status"])
    )
    assert found is not None
    return found
