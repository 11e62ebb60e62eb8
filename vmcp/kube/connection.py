"""The connection to the API server, and everything that is followed through it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from runtime import ForbiddenError, NotFoundError, Reader, Resource
from runtime.cache import Cache
from runtime.cache.handlers import Change
from runtime.transport.config import ConfigurationError, load_endpoint
from runtime.transport.session import Transport
from vmcp.kube.identity import Identity
from vmcp.kube.named import FOLLOWING, NamedObjects
from vmcp.version import VERSION

GROUP_REF = "spec.groupRef.name"
"""Index of members: the group that they name."""

__all__ = ["GROUP_REF", "ClusterConnection", "ConfigurationError"]


class ClusterConnection:
    """One API server, as one gateway sees it.

    Attributes:
        identity: Whose gateway this is.
        transport: The connections.
        reader: Cached reads of what `watch_group` declared.
        named: Objects that are followed by name.
        version: Grows with each change of anything.
        on_change: Called after each.
    """

    def __init__(self, identity: Identity, transport: Transport) -> None:
        """Take the connections. Nothing is asked before `run`."""
        self.identity = identity
        self.version = 0
        self.transport = transport
        self._cache = Cache(transport, namespaces=(identity.namespace,), settings=FOLLOWING)
        self.reader: Reader = self._cache.reader
        self.named = NamedObjects(transport, identity.namespace, self._changed)
        self._kinds: tuple[Resource, ...] = ()
        self._optional: frozenset[Resource] = frozenset()
        self._running: asyncio.TaskGroup | None = None
        self.on_change: Callable[[], None] = lambda: None

    @classmethod
    async def open(cls, identity: Identity, environ: Mapping[str, str]) -> ClusterConnection:
        """Find the API server: `KUBECONFIG`, or the pod's ServiceAccount. It need not be there yet.

        Raises:
            ConfigurationError: There is no usable configuration of one.
        """
        endpoint = await load_endpoint(environ=environ)
        return cls(identity, Transport(endpoint, user_agent=f"mcp-vmcp/{VERSION}"))

    def watch_group(self) -> None:
        """Follow everything that makes members backends, from now on; only while `run` runs."""
        if self._kinds:
            return
        assert self._running is not None, "run() runs"
        from vmcp.kube import kinds  # the models of the API are for gateways that need them

        for kind in kinds.MEMBER_KINDS:
            self._cache.declare(kind, indexes={GROUP_REF: None}, read_your_writes=False)
        self._cache.declare(kinds.AUTH_CONFIG, read_your_writes=False)
        self._cache.declare(kinds.TOOL_CONFIG, read_your_writes=False)
        self._cache.declare(kinds.GROUP, metadata_only=True, read_your_writes=False)
        self._kinds = (*kinds.MEMBER_KINDS, kinds.AUTH_CONFIG, kinds.TOOL_CONFIG, kinds.GROUP)
        self._optional = kinds.OPTIONAL
        for kind in self._kinds:
            self._cache.informer(kind).add_handler(self._heard, name="group")
            self._running.create_task(self._announce(kind), name=f"first list of {kind}")

    async def run(self) -> None:
        """Follow the API server until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._running = group
            group.create_task(self._cache.run(), name="cache")

    def waiting_for(self) -> list[Resource]:
        """Return the kinds that were not read yet and that cannot be done without."""
        return [kind for kind in self._kinds if not self._cache.informer(kind).has_synced and not self._is_spared(kind)]

    def refused(self) -> list[Resource]:
        """Return the kinds that the API server does not let this gateway read, or does not have."""
        errors = (ForbiddenError, NotFoundError)
        return [kind for kind in self._kinds if isinstance(self._cache.informer(kind).error, errors)]

    async def close(self) -> None:
        """End everything."""
        await self.named.close()
        await self.transport.close()

    def _is_spared(self, kind: Resource) -> bool:
        return kind in self._optional and isinstance(self._cache.informer(kind).error, (ForbiddenError, NotFoundError))

    async def _announce(self, kind: Resource) -> None:
        await self._cache.informer(kind).wait_synced()
        self._changed()

    def _heard(self, change: Change) -> None:
        if change.old is None or change.new is None or change.old != change.new:
            self._changed()

    def _changed(self) -> None:
        self.version += 1
        self.on_change()
