"""With every sample settled the operator asks the API server for nothing, and nothing moves."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime

from hack.controlplane.rest import Kube
from tests.support.operator import OPERATOR_USER, lease_role
from tests.support.process import eventually
from tests.support.samples import API, apply, samples, settled

KINDS = [
    *(
        (API, k)
        for k in ("MCPGroup", "MCPServerEntry", "MCPRemoteEndpoint", "MCPExternalAuthConfig", "VirtualMCPServer")
    ),
    ("v1", "ConfigMap"),
    ("v1", "Service"),
    ("v1", "ServiceAccount"),
    ("v1", "Secret"),
    ("apps/v1", "Deployment"),
    ("rbac.authorization.k8s.io/v1", "Role"),
    ("events.k8s.io/v1", "Event"),
]


async def versions(admin: Kube, namespace: str) -> dict[str, str]:
    """resourceVersion of every object of the namespace."""
    return {
        f"{kind}/{item['metadata']['name']}": item["metadata"]["resourceVersion"]
        for api, kind in KINDS
        for item in await admin.list(api, kind, namespace=namespace)
    }


async def test_settled_samples_cost_no_request_but_watches_and_the_lease(
    operator_program, admin: Kube, namespace: str, control_plane, scale
):
    for body in lease_role(namespace):
        await admin.create(body)
    bodies = samples(namespace)
    async with operator_program("--leader-elect") as program:
        await program.log("manager started")
        await apply(admin, bodies)
        await settled(admin, bodies)

        async def calm() -> bool:
            before = await versions(admin, namespace)
            await asyncio.sleep(2)
            return before == await versions(admin, namespace)

        await eventually(calm, timeout=60)
        before, start = await versions(admin, namespace), time.time()
        await asyncio.sleep(scale(10, 60))
        requests = [
            (event["verb"], event["objectRef"]["resource"])
            for event in control_plane.audit_events(user=OPERATOR_USER)
            if event["objectRef"].get("namespace") == namespace
            and datetime.fromisoformat(event["requestReceivedTimestamp"]).timestamp() > start
        ]
        assert [request for request in requests if request[0] != "watch" and request[1] != "leases"] == []
        assert ("update", "leases") in requests
        assert await versions(admin, namespace) == before
