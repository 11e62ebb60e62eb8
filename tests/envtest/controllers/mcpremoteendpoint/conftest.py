"""Fixtures of the endpoints' tests: a cluster with helpers for proxies."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from api.contract.proxy import ProxyConfig, parse_proxy
from hack.controlplane.handle import Handle
from hack.controlplane.rest import Kube
from tests.envtest.controllers.conftest import MINE
from tests.envtest.controllers.kit import Cluster, Object
from tests.envtest.controllers.virtualmcpserver.conftest import roll_out, rollouts

__all__ = ["rollouts"]

KIND = "MCPRemoteEndpoint"
ISSUER = "https://login.example.com"
OWNED = (
    ("apps/v1", "Deployment", "p"),
    ("v1", "Service", "mcp-p-remote-proxy"),
    ("v1", "ConfigMap", "p-runconfig"),
    ("v1", "ServiceAccount", "p-remote-proxy-runner"),
)
"""What the operator makes for the proxy "p"."""


class ProxyCluster(Cluster):
    """A cluster with helpers for proxies.

    Attributes:
        rollouts: while it is set, each rollout is finished at once.
    """

    def __init__(self, admin: Kube, namespace: str, control_plane: Handle, rollouts: asyncio.Event) -> None:
        super().__init__(admin, namespace, control_plane)
        self.rollouts = rollouts

    async def oidc(self, name: str = "o", issuer: str = ISSUER, **inline: Any) -> Object:
        return await self.create("MCPOIDCConfig", name, {"type": "inline", "inline": {"issuer": issuer, **inline}})

    async def proxy(self, name: str = "p", proxy: Object | None = None, **spec: Any) -> Object:
        config = {"oidcConfigRef": {"name": "o", "audience": "a"}} | (proxy or {})
        return await self.endpoint(name, type="proxy", proxyConfig=config, **spec)

    async def ready(self, name: str = "p") -> Object:
        return await self.until(KIND, name, phase="Ready", Ready="True/EndpointReady")

    async def object(
        self, api: str, kind: str, name: str, until: Callable[[Object], bool] = lambda found: True
    ) -> Object:
        """Wait for a generated object."""

        def holds(found: Object | None) -> bool:
            return found is not None and until(found)

        found = await self.admin.wait_for(api, kind, name, namespace=self.namespace, until=holds, timeout=20)
        assert found is not None
        return found

    async def deployment(self, name: str = "p", until: Callable[[Object], bool] = lambda found: True) -> Object:
        return await self.object("apps/v1", "Deployment", name, until)

    async def document(self, name: str = "p", until: Callable[[ProxyConfig], bool] = lambda found: True) -> ProxyConfig:
        """Wait for a document, read as the program reads it."""
        found = await self.object("v1", "ConfigMap", f"{name}-runconfig", lambda found: until(_document(found)))
        return _document(found)

    async def finish(self, name: str = "p", **differs: Any) -> None:
        """Finish the present rollout."""
        await roll_out(self.admin, await self.deployment(name), **differs)


def _document(found: Object) -> ProxyConfig:
    return parse_proxy(found["data"]["proxy.yaml"])


@pytest.fixture
async def start(
    admin: Kube,
    namespace: str,
    control_plane: Handle,
    start_operator: Callable[..., Awaitable[Any]],
    rollouts: asyncio.Event,
) -> Callable[..., Awaitable[ProxyCluster]]:
    """Start the operator with options and return the cluster."""

    async def make(**options: Any) -> ProxyCluster:
        await start_operator(**{"only": MINE} | options)
        return ProxyCluster(admin, namespace, control_plane, rollouts)

    return make


@pytest.fixture
async def proxies(start: Callable[..., Awaitable[ProxyCluster]]) -> ProxyCluster:
    """A namespace in which the operator runs with default options, under its generated role."""
    return await start()
