"""Policies that cannot be read for a passing reason leave a gateway as it stands, also right after a restart."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from hack.controlplane.handle import Handle
from hack.controlplane.rest import Kube
from runtime.testing.faultproxy import FaultProxy, ProxiedExchange
from runtime.testing.faults import status
from runtime.transport.config import load_endpoint
from tests.envtest.controllers.kit import conditions_of
from tests.envtest.controllers.lifecycles import shows
from tests.envtest.controllers.virtualmcpserver.conftest import KIND, Gateways
from tests.support.eventually import eventually
from tests.support.operator import launch, trying_again_within

POLICIES = '{"version": "1.0", "type": "cedarv1", "cedar": {"policies": ["permit(principal, action, resource);"]}}'


def reads_policies(exchange: ProxiedExchange) -> bool:
    return exchange.method == "GET" and exchange.path.endswith("/configmaps/p")


@shows(KIND, "ObjectsApplied=False/ReadFailed")
async def test_unread_policies_keep_the_last_verdict_and_count_when_they_can_be_read(
    admin: Kube, namespace: str, control_plane: Handle, operator_kubeconfig: Path
) -> None:
    """The operator tries again within a second here, not within a minute."""
    cluster = Gateways(admin, namespace, control_plane, asyncio.Event())
    endpoint = await load_endpoint(str(operator_kubeconfig))
    before = await launch(endpoint, namespace)
    await cluster.group()
    await cluster.entry()
    await cluster.config_map("p", **{"authz.json": POLICIES})
    own = {"type": "configMap", "configMap": {"name": "p"}}
    await cluster.gateway(incomingAuth={"type": "anonymous", "authzConfig": own})
    await cluster.until(KIND, "v", phase="Pending", AuthConfigured="True/AuthValid")
    await cluster.config(until=lambda config: len(config.backends) == 1)
    await cluster.come_to_rest()
    await before.stop()
    stood = conditions_of(await cluster.get(KIND, "v"))
    async with FaultProxy(endpoint) as proxy:
        rule = proxy.on(reads_policies, status(403, "Forbidden"))
        after = await launch(replace(endpoint, url=proxy.url), namespace, settings=trying_again_within(1.0))
        await eventually(lambda: rule.hits >= 3)
        found = await cluster.until(KIND, "v", phase="Pending", ObjectsApplied="False/ReadFailed")
        said = conditions_of(found)
        assert said | {"ObjectsApplied": ()} == stood | {"ObjectsApplied": ()}
        await cluster.patch(KIND, "v", {"spec": {"replicas": 2}})
        rule.stop()
        await cluster.until(KIND, "v", SessionStorageWarning="True/SessionStorageMissingForReplicas")
        await cluster.until(KIND, "v", AuthConfigured="True/AuthValid", ObjectsApplied="True/ObjectsApplied")
        await after.stop()
