"""Fixtures of the tests of MCPRemoteProxies: a cluster with helpers for them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from hack.controlplane.handle import Handle
from hack.controlplane.rest import Kube
from tests.envtest.controllers.conftest import MINE
from tests.envtest.controllers.kit import URL, Object
from tests.envtest.controllers.mcpremoteendpoint.conftest import ProxyCluster
from tests.envtest.controllers.virtualmcpserver.conftest import rollouts

__all__ = ["rollouts"]

KIND = "MCPRemoteProxy"


class RemoteProxyCluster(ProxyCluster):
    """A cluster with helpers for MCPRemoteProxies."""

    async def proxy(self, name: str = "p", proxy: Object | None = None, **spec: Any) -> Object:
        base = {"remoteUrl": URL, "oidcConfigRef": {"name": "o", "audience": "a"}}
        return await self.create(KIND, name, base | (proxy or {}) | spec)

    async def ready(self, name: str = "p") -> Object:
        return await self.until(KIND, name, phase="Ready", Ready="True/DeploymentReady")


@pytest.fixture
async def start(
    admin: Kube,
    namespace: str,
    control_plane: Handle,
    start_operator: Callable[..., Awaitable[Any]],
    rollouts: asyncio.Event,
) -> Callable[..., Awaitable[RemoteProxyCluster]]:
    """Start the operator with options and return the cluster."""

    async def make(**options: Any) -> RemoteProxyCluster:
        await start_operator(**{"only": MINE} | options)
        return RemoteProxyCluster(admin, namespace, control_plane, rollouts)

    return make


@pytest.fixture
async def proxies(start: Callable[..., Awaitable[RemoteProxyCluster]]) -> RemoteProxyCluster:
    """A namespace in which the operator runs with default options, under its generated role."""
    return await start()
