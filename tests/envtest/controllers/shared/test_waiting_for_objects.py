"""Tools that know no kind see what is done, what is on its way, and what only a user can mend.

Judged by kstatus itself, as Flux and Helm use it, and by the waits of docs/gitops.md.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from api.v1beta1 import KINDS
from hack.controlplane.handle import Handle, KubectlError
from hack.controlplane.rest import Kube
from tests.envtest.controllers.kit import URL, Cluster, Object
from tests.envtest.controllers.virtualmcpserver.conftest import roll_out
from tests.support.eventually import eventually
from tests.support.gotools import Judgement, judge

PAGE = Path(__file__).resolve().parents[4] / "docs" / "gitops.md"
WAITS = re.search(r"<!-- waits -->\n```\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
INLINE = {"source": "inline"}
ANONYMOUS = {"groupRef": {"name": "g"}, "incomingAuth": {"type": "anonymous"}, "outgoingAuth": INLINE}
REMOTE = {"remoteUrl": URL, "transport": "sse", "groupRef": {"name": "g"}}
GOOD: dict[str, Object] = {
    "MCPGroup": {},
    "MCPExternalAuthConfig": {"type": "unauthenticated"},
    "MCPServerEntry": REMOTE,
    "MCPRemoteEndpoint": REMOTE | {"type": "direct"},
    "MCPRemoteProxy": REMOTE,
    "VirtualMCPServer": ANONYMOUS,
}
BLOCKED = "http://169.254.169.254/"
BROKEN: dict[str, tuple[Object, Object, str]] = {
    "MCPExternalAuthConfig": (
        {"type": "tokenExchange", "tokenExchange": {"tokenUrl": "nonsense", "audience": "x"}},
        {"tokenExchange": {"tokenUrl": "https://sts.example.com"}},
        "InvalidConfig",
    ),
    "MCPServerEntry": (REMOTE | {"remoteUrl": BLOCKED}, {"remoteUrl": URL}, "RemoteURLInvalid"),
    "MCPRemoteEndpoint": (
        REMOTE | {"type": "direct", "remoteUrl": BLOCKED},
        {"remoteUrl": URL},
        "RemoteURLInvalid",
    ),
    "MCPRemoteProxy": (REMOTE | {"remoteUrl": BLOCKED}, {"remoteUrl": URL}, "RemoteURLInvalid"),
    "VirtualMCPServer": (
        ANONYMOUS | {"config": {"aggregation": {"conflictResolution": "priority"}}},
        {"config": {"aggregation": None}},
        "ValidationFailed",
    ),
}
"""A spec that cannot work, the patch that mends it, and the reason that is said meanwhile."""
PODS = {"MCPRemoteProxy": "toolhive", "VirtualMCPServer": "vmcp"}
"""Kinds that are in use once their pods are ready, with the name of the container."""
RUNS = {"ready": True, "restartCount": 0, "image": "x", "imageID": "x", "state": {"running": {}}}


@pytest.fixture
async def everything(admin: Kube, namespace: str, control_plane: Handle, start_operator: Any) -> Cluster:
    """A namespace in which all controllers run."""
    await start_operator()
    return Cluster(admin, namespace, control_plane)


async def settled(cluster: Cluster, kind: str, name: str, status: str) -> Judgement:
    """Wait until kstatus says what is expected of an object."""

    async def says() -> Judgement:
        (found,) = judge([await cluster.get(kind, name)])
        assert found.status == status, f"kstatus says {found}"
        return found

    judgement: Judgement = await eventually(says, f"{kind} {name} is {status}", every=0.1)
    return judgement


async def test_an_object_that_the_operator_has_not_seen_is_in_progress(
    admin: Kube, namespace: str, control_plane: Handle
) -> None:
    """No operator runs: kstatus takes an object without any status for one that is done."""
    cluster = Cluster(admin, namespace, control_plane)
    for kind, spec in GOOD.items():
        await cluster.create(kind, "x", spec)
    found = judge([await cluster.get(kind, "x") for kind in GOOD])
    assert [judgement.status for judgement in found] == ["InProgress"] * len(GOOD)


@pytest.mark.parametrize("kind", BROKEN)
async def test_a_mistake_is_failed_and_its_correction_is_current(everything: Cluster, kind: str) -> None:
    await everything.group()
    spec, mend, reason = BROKEN[kind]
    await everything.create(kind, "x", spec)
    await settled(everything, kind, "x", "Failed")
    stalled = everything.control_plane.kubectl(
        "wait", "--for=condition=Stalled", f"{kind}/x", "-n", everything.namespace, "--timeout=5s"
    )
    assert "condition met" in stalled.stdout
    (why,) = [c for c in (await everything.get(kind, "x"))["status"]["conditions"] if c["type"] == "Stalled"]
    assert why["reason"] == reason
    await everything.patch(kind, "x", {"spec": mend})
    # Nothing runs pods here: what runs in pods stays on its way.
    await settled(everything, kind, "x", "Current" if kind not in PODS else "InProgress")


async def test_what_is_only_not_there_yet_is_in_progress(admin, namespace, control_plane, start_operator) -> None:
    """The group's status is written here as its controller would write it when it cannot list."""
    await start_operator(only=["mcpserverentry", "mcpremoteendpoint"])
    cluster = Cluster(admin, namespace, control_plane)
    await cluster.create("MCPGroup", "g")
    await cluster.entry("x")
    await cluster.endpoint("x2")
    await cluster.until("MCPServerEntry", "x", Ready="False/GroupRefNotReady", Stalled="")
    await cluster.until("MCPRemoteEndpoint", "x2", Ready="False/GroupRefNotReady", Stalled="")
    await settled(cluster, "MCPServerEntry", "x", "InProgress")
    await settled(cluster, "MCPRemoteEndpoint", "x2", "InProgress")


async def test_the_waits_of_the_docs_end_when_everything_is_in_order(everything: Cluster) -> None:
    assert WAITS is not None
    for kind, spec in GOOD.items():
        await everything.create(kind, "g" if kind == "MCPGroup" else kind.lower(), spec)
    waits = WAITS[1].splitlines()
    assert {wait.split()[-1].partition("/")[0] for wait in waits} == {kind.lower() for kind in GOOD}
    assert set(GOOD) == {str(k.model_fields["kind"].default) for k in KINDS if k.definition.reconciled}
    for kind, container in PODS.items():
        await _make_ready(everything, kind, container)
    for wait in waits:
        plural = wait.split()[-1].partition("/")[0]
        arguments = wait.replace("NAME", "g" if plural == "mcpgroup" else plural).split()[1:]
        done = await asyncio.to_thread(
            everything.control_plane.kubectl, *arguments, "-n", everything.namespace, "--timeout=20s"
        )
        assert "condition met" in done.stdout
    for kind in GOOD:
        await settled(everything, kind, "g" if kind == "MCPGroup" else kind.lower(), "Current")


async def _make_ready(cluster: Cluster, kind: str, container: str) -> None:
    """Stand in for kubelet and Deployment controller: a pod of the object that is ready, and a finished rollout."""
    name = kind.lower()
    await cluster.until(kind, name, ObjectsApplied="True/ObjectsApplied")
    deployment = await cluster.admin.get("apps/v1", "Deployment", name, namespace=cluster.namespace)
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    pod = {"containers": [{"name": container, "image": "x"}]}
    await cluster.create("Pod", name, pod, api="v1", metadata={"labels": labels})
    status = {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [{"name": container, **RUNS}],
    }
    await cluster.admin.patch("v1", "Pod", name, {"status": status}, namespace=cluster.namespace, subresource="status")
    await roll_out(cluster.admin, deployment)


async def test_a_wait_for_ready_does_not_end_on_a_mistake(cluster: Cluster) -> None:
    await cluster.group()
    await cluster.entry("x", remoteUrl=BLOCKED)
    await cluster.until("MCPServerEntry", "x", phase="Failed")
    with pytest.raises(KubectlError, match="timed out"):
        cluster.control_plane.kubectl(
            "wait", "--for=condition=Ready", "mcpserverentry/x", "-n", cluster.namespace, "--timeout=1s"
        )
