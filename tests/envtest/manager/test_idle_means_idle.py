"""With every kind settled the operator asks the API server for nothing and nothing moves; nor after a restart."""

from __future__ import annotations

import asyncio
import copy
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime
from typing import Any

from hack.controlplane.handle import Handle
from hack.controlplane.rest import Kube
from tests.support.operator import OPERATOR_USER, lease_role
from tests.support.process import Program, eventually
from tests.support.samples import API, apply, samples, settled

OWN = ("MCPGroup", "MCPServerEntry", "VirtualMCPServer", "MCPExternalAuthConfig", "MCPRemoteEndpoint")
KINDS = [
    *((API, kind) for kind in OWN),
    ("v1", "ConfigMap"),
    ("v1", "Service"),
    ("v1", "ServiceAccount"),
    ("v1", "Secret"),
    ("apps/v1", "Deployment"),
    ("rbac.authorization.k8s.io/v1", "Role"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    ("events.k8s.io/v1", "Event"),
]


def world(namespace: str) -> list[dict[str, Any]]:
    """The samples, broken ones included, with more of the kinds that they have once: a bad one, and a stock gateway."""
    bodies = samples(namespace)
    stock = copy.deepcopy(next(b for b in bodies if b["kind"] == "VirtualMCPServer" and "outgoingAuth" in b["spec"]))
    stock["metadata"] |= {"name": "stock", "annotations": {"toolhive.stacklok.dev/vmcp-dialect": "toolhive"}}
    endpoint = copy.deepcopy(next(b for b in bodies if b["kind"] == "MCPRemoteEndpoint"))
    endpoint["metadata"]["name"] = "broken-endpoint"
    endpoint["spec"] |= {"remoteUrl": "http://localhost", "groupRef": {"name": "playground"}}
    auth = copy.deepcopy(next(b for b in bodies if b["kind"] == "MCPExternalAuthConfig"))
    auth["metadata"]["name"] = "broken-auth"
    auth["spec"] = {"type": "awsSts", "awsSts": {"region": "eu-west-1"}}
    return [*bodies, stock, endpoint, auth]


async def versions(admin: Kube, namespace: str) -> dict[str, str]:
    """resourceVersion of every object of the namespace."""
    return {
        f"{kind}/{item['metadata']['name']}": item["metadata"]["resourceVersion"]
        for api, kind in KINDS
        for item in await admin.list(api, kind, namespace=namespace)
    }


async def rest(admin: Kube, namespace: str) -> dict[str, str]:
    """Wait until nothing changes any more, and return what stands then."""

    async def calm() -> dict[str, str] | None:
        before = await versions(admin, namespace)
        await asyncio.sleep(2)
        return before if before == await versions(admin, namespace) else None

    found: dict[str, str] = await eventually(calm, timeout=60)
    return found


def requests(control_plane: Handle, namespace: str, since: float) -> dict[str, list[str]]:
    """Verbs of the operator's requests in a namespace, by resource."""
    found: dict[str, list[str]] = defaultdict(list)
    for event in control_plane.audit_events(user=OPERATOR_USER):
        at = datetime.fromisoformat(event["requestReceivedTimestamp"]).timestamp()
        target = event.get("objectRef", {})  # a question about API groups has none
        if target.get("namespace") == namespace and at > since and event["verb"] != "watch":
            found[target["resource"]].append(event["verb"])
    return found


async def test_settled_objects_of_every_kind_cost_no_request_but_watches_and_the_lease(
    operator_program: Callable[..., Program],
    admin: Kube,
    namespace: str,
    control_plane: Handle,
    scale: Callable[[int, int], int],
) -> None:
    for body in lease_role(namespace):
        await admin.create(body)
    bodies = world(namespace)
    assert {body["kind"] for body in bodies} >= set(OWN)
    async with operator_program("--leader-elect") as program:
        await program.log("manager started")
        await apply(admin, bodies)
        await settled(admin, bodies)
        before, start = await rest(admin, namespace), time.time()
        for kind in OWN:
            assert sum(place.startswith(f"{kind}/") for place in before) >= 2, f"two of {kind}"
        assert await admin.list("v1", "Pod", namespace=namespace) == []
        await asyncio.sleep(scale(10, 60))  # the behaviour under test is that nothing happens in this time
        asked = requests(control_plane, namespace, start)
        assert "update" in asked.pop("leases")
        assert asked == {}, "by kind"
        assert await versions(admin, namespace) == before
    async with operator_program() as again:
        # Another process decides on the same input: if a byte of any object differed, its version would.
        await again.log("manager started")
        assert await rest(admin, namespace) == before
    assert requests(control_plane, namespace, start).keys() - {"leases"}, "it did look at them"
