"""With every kind settled the operator asks the API server for nothing and nothing moves; nor after a restart."""

from __future__ import annotations

import asyncio
import copy
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from hack.controlplane.handle import Handle
from hack.controlplane.rest import Kube
from tests.support.eventually import eventually
from tests.support.operator import OPERATOR_USER, lease_role
from tests.support.process import Program
from tests.support.samples import API, apply, samples, settled

OWN = ("MCPGroup", "MCPServerEntry", "VirtualMCPServer", "MCPExternalAuthConfig", "MCPRemoteEndpoint", "MCPRemoteProxy")
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
    proxy = copy.deepcopy(next(b for b in bodies if b["kind"] == "MCPRemoteProxy"))
    proxy["metadata"]["name"] = "broken-proxy"
    proxy["spec"]["remoteUrl"] = "http://localhost"
    auth = copy.deepcopy(next(b for b in bodies if b["kind"] == "MCPExternalAuthConfig"))
    auth["metadata"]["name"] = "broken-auth"
    auth["spec"] = {"type": "awsSts", "awsSts": {"region": "eu-west-1"}}
    return [*bodies, stock, endpoint, proxy, auth]


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

    found: dict[str, str] = await eventually(calm, within=60)
    return found


def requests(control_plane: Handle, namespace: str, since: float) -> dict[str, list[str]]:
    """Verbs of the operator's requests, by resource, or by path where it asked for none, such as discovery.

    Other tests' operators have the same user. What they ask outside of any namespace is told apart by their tokens.
    """
    events = list(control_plane.audit_events(user=OPERATOR_USER))
    ours = {_token(event) for event in events if event.get("objectRef", {}).get("namespace") == namespace}
    found: dict[str, list[str]] = defaultdict(list)
    for event in events:
        at = datetime.fromisoformat(event["requestReceivedTimestamp"]).timestamp()
        if _token(event) in ours and at > since and event["verb"] != "watch":
            target = event.get("objectRef", {})  # a question about API groups has none
            found[target.get("resource", event["requestURI"])].append(event["verb"])
    return found


def _token(event: Mapping[str, Any]) -> str:
    """The identity of the token that a request came with; every process that runs tests has one of its own."""
    (identity,) = event["user"]["extra"]["authentication.kubernetes.io/credential-id"]
    return str(identity)


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
    looked = requests(control_plane, namespace, start).keys()
    assert {"virtualmcpservers", "mcpgroups", "deployments"} <= looked, "it did look at them"
    assert any(place.startswith("/apis/") for place in looked), "what it asks outside of namespaces is counted, too"
