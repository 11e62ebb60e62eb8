"""Fixtures of the gateway's tests: the operator with all of its controllers, and short ways to look at gateways."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest

from api.contract import VmcpConfig, load_config
from hack.controlplane.handle import Handle
from hack.controlplane.rest import Kube, KubeError
from hack.demo.pod import configuration
from runtime.util.times import format_time
from tests.envtest.controllers.kit import Cluster, Object

KIND = "VirtualMCPServer"
RBAC = "rbac.authorization.k8s.io/v1"
OWNED = (
    ("apps/v1", "Deployment", "v"),
    ("v1", "Service", "vmcp-v"),
    ("v1", "ConfigMap", "v-vmcp-config"),
    ("v1", "Secret", "v-hmac-secret"),
    ("v1", "ServiceAccount", "v-vmcp"),
    (RBAC, "Role", "v-vmcp"),
    (RBAC, "RoleBinding", "v-vmcp"),
)
"""What the operator makes for the gateway "v"."""


class Gateways(Cluster):
    """A cluster with helpers for gateways.

    Attributes:
        rollouts: while it is set, each rollout is finished at once.
    """

    def __init__(self, admin: Kube, namespace: str, control_plane: Handle, rollouts: asyncio.Event) -> None:
        super().__init__(admin, namespace, control_plane)
        self.rollouts = rollouts

    async def gateway(self, name: str = "v", **spec: Any) -> Object:
        metadata = spec.pop("metadata", {})
        base = {"groupRef": {"name": "g"}, "incomingAuth": {"type": "anonymous"}, "outgoingAuth": {"source": "inline"}}
        return await self.create(KIND, name, base | spec, metadata=metadata)

    async def config(self, name: str = "v", until: Callable[[VmcpConfig], bool] | None = None) -> VmcpConfig:
        """Wait for a configuration."""

        def holds(found: Object | None) -> bool:
            return found is not None and (until is None or until(self.parse(found)))

        return self.parse(await self._wait("v1", "ConfigMap", f"{name}-vmcp-config", holds))

    @staticmethod
    def parse(found: Object) -> VmcpConfig:
        """Read it as a gateway does from its mounted file."""
        return load_config(configuration(found))

    async def deployment(self, name: str = "v", until: Callable[[Object], bool] | None = None) -> Object:
        """Wait for a Deployment."""
        return await self._wait(
            "apps/v1", "Deployment", name, lambda found: found is not None and (until is None or until(found))
        )

    async def owned(self, api: str, kind: str, name: str) -> Object:
        """Wait for a generated object."""
        return await self._wait(api, kind, name, lambda found: found is not None)

    async def without(self, api: str, kind: str, name: str) -> None:
        """Wait until an object is gone."""
        await self.admin.wait_for(
            api, kind, name, namespace=self.namespace, until=lambda found: found is None, timeout=20
        )

    async def pod(
        self, name: str, gateway: str = "v", *, phase: str = "Running", ready: bool = True, **status: Any
    ) -> None:
        """Write a pod of a gateway and its status, as ReplicaSet controller and kubelet would."""
        labels = {"app": "virtualmcpserver", "toolhive-name": gateway}
        spec = {"containers": [{"name": "vmcp", "image": "vmcp"}]}
        await self.create("Pod", name, spec, api="v1", metadata={"labels": labels})
        condition = {"type": "Ready", "status": "True" if ready else "False"}
        await self.admin.patch(
            "v1",
            "Pod",
            name,
            {"status": {"phase": phase, "conditions": [condition], **status}},
            namespace=self.namespace,
            subresource="status",
        )

    async def report(self, backends: dict[str, str], gateway: str = "v", *, circuit: str = "", at: str = "") -> None:
        """Write the status as a running gateway of this project does.

        Args:
            backends: name -> status.
            gateway: whose.
            circuit: state of all circuits; "" = not said.
            at: time of the report; "" = now.
        """
        breaker = {"circuitBreakerState": circuit} if circuit else {}
        body = {
            "apiVersion": "toolhive.stacklok.dev/v1beta1",
            "kind": KIND,
            "metadata": {"name": gateway, "namespace": self.namespace},
            "status": {
                "discoveredBackends": [{"name": name, "status": state} | breaker for name, state in backends.items()],
                "lastReportTime": at or format_time(datetime.now(UTC)),
            },
        }
        await self.admin.apply(body, field_manager="mcp-vmcp", subresource="status")

    async def _wait(self, api: str, kind: str, name: str, holds: Callable[[Object | None], bool]) -> Object:
        found = await self.admin.wait_for(api, kind, name, namespace=self.namespace, until=holds, timeout=20)
        assert found is not None
        return found


@pytest.fixture
async def rollouts(admin: Kube, namespace: str) -> AsyncIterator[asyncio.Event]:
    """Finish each rollout at once while it is set, as a Deployment controller with fast pods would; set at first."""
    on = asyncio.Event()
    on.set()

    async def follow() -> None:
        async for event, found in admin.watch("apps/v1", "Deployment", namespace=namespace):
            if event != "DELETED" and on.is_set():
                with suppress(KubeError):  # the next event tells of whatever came in between
                    await roll_out(admin, found)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(follow())
        yield on
        task.cancel()


async def roll_out(admin: Kube, deployment: Object, **differs: Any) -> None:
    """Write the status of a Deployment as if all of its pods ran its present template; `differs` is put over it."""
    wanted = deployment["spec"].get("replicas", 1)
    status = {
        "observedGeneration": deployment["metadata"]["generation"],
        "replicas": wanted,
        "updatedReplicas": wanted,
        "readyReplicas": wanted,
        "availableReplicas": wanted,
        **differs,
    }
    if status.items() <= deployment.get("status", {}).items():
        return
    name, space = deployment["metadata"]["name"], deployment["metadata"]["namespace"]
    await admin.patch("apps/v1", "Deployment", name, {"status": status}, namespace=space, subresource="status")


@pytest.fixture
async def start(
    admin: Kube,
    namespace: str,
    control_plane: Handle,
    start_operator: Callable[..., Awaitable[Any]],
    rollouts: asyncio.Event,
) -> Callable[..., Awaitable[Gateways]]:
    """Start the operator with options and return the cluster."""

    async def make(**options: Any) -> Gateways:
        await start_operator(**options)
        return Gateways(admin, namespace, control_plane, rollouts)

    return make


@pytest.fixture
async def cluster(start: Callable[..., Awaitable[Gateways]]) -> Gateways:
    """A namespace in which the operator runs with default options, under its generated role."""
    return await start()
