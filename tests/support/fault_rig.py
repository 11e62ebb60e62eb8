"""What the fault tests stand on: an informer behind a proxy, and a second, undisturbed way to the same server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from hack.controlplane.handle import Handle
from runtime._kit.backoff import BackoffSettings
from runtime.cache import Cache, Change, Informer, ReflectorSettings
from runtime.client import Client
from runtime.testing.faultproxy import FaultProxy
from runtime.transport import Endpoint, Transport, TransportSettings, load_endpoint
from runtime.wire import Key, Record, Resource
from tests.support.eventually import eventually

WIDGET = Resource("test.example.com", "v1", "Widget", "widgets")
CONFIG_MAP = Resource("", "v1", "ConfigMap", "configmaps")
SECRET = Resource("", "v1", "Secret", "secrets")

QUICK = ReflectorSettings(
    backoff=BackoffSettings(base=0.05, cap=1.0, reset_after=5.0),
    silence=30.0,
    fresh=20.0,
    end_bookmark=0.7,
    relist_pause=0.1,
    short_watch=0.05,
)
"""The rules of production with times that a test can wait for."""


class View:
    """What a handler knows from nothing but the changes it was told; every contradiction is an error."""

    def __init__(self) -> None:
        self.objects: dict[Key, Record] = {}
        self.changes: list[Change] = []
        self.contradictions: list[str] = []

    def __call__(self, change: Change) -> None:
        self.changes.append(change)
        match change.type:
            case "added":
                if change.new.key in self.objects:
                    self.contradictions.append(f"added twice: {change.new!r}")
                self.objects[change.new.key] = change.new
            case "updated":
                if self.objects.get(change.new.key) != change.old:
                    self.contradictions.append(f"updated from a state that was never told: {change.old!r}")
                self.objects[change.new.key] = change.new
            case "deleted":
                if self.objects.pop(change.old.key, None) is None:
                    self.contradictions.append(f"deleted, but unknown: {change.old!r}")

    def count(self, kind: str, name: str) -> int:
        return sum(1 for change in self.changes if change.type == kind and (change.new or change.old).key.name == name)


@dataclass
class Rig:
    """One informer on the widgets of one namespace, through the proxy."""

    proxy: FaultProxy
    transport: Transport
    cache: Cache
    client: Client
    direct: Client
    namespace: str
    informer: Informer
    view: View = field(default_factory=View)

    def key(self, name: str) -> Key:
        return Key(self.namespace, name)

    async def make(self, *names: str, **spec: Any) -> None:
        """Create widgets past the proxy."""
        for name in names:
            await self.direct.create(WIDGET, {"metadata": {"name": name, "namespace": self.namespace}, "spec": spec})

    async def change(self, name: str, **spec: Any) -> None:
        await self.direct.merge_patch(WIDGET, self.key(name), {"spec": spec})

    async def remove(self, *names: str) -> None:
        for name in names:
            await self.direct.delete(WIDGET, self.key(name))

    def names(self) -> list[str]:
        return [record.key.name for record in self.cache.reader.list(WIDGET)]

    async def in_step(self, *, within: float = 20.0) -> None:
        """Wait until the cache and the handler's view equal the server, and the handler was never told nonsense."""
        truth = {record.key: record for record in await self.direct.list_live(WIDGET, namespace=self.namespace)}

        def equal() -> bool:
            cached = {record.key: record for record in self.cache.reader.list(WIDGET)}
            return cached == truth == self.view.objects

        await eventually(equal, f"the cache equals the server: {sorted(truth)} but {self.names()}", within=within)
        assert self.view.contradictions == []

    async def synced(self) -> None:
        await eventually(lambda: self.informer.has_synced, "the informer is in sync")


@asynccontextmanager
async def rig(
    plane: Handle | Endpoint,
    namespace: str,
    *,
    settings: ReflectorSettings = QUICK,
    before: Callable[[FaultProxy], None] = lambda _: None,
    existing: Iterable[str] = (),
) -> AsyncIterator[Rig]:
    """Start proxy, cache and clients.

    Args:
        plane: the control plane.
        namespace: of the test.
        settings: of the reflectors.
        before: adds rules before the informer starts.
        existing: widgets that are there before it starts.
    """
    endpoint = plane if isinstance(plane, Endpoint) else await load_endpoint(str(plane.kubeconfig))
    straight = Transport(endpoint)
    async with FaultProxy(endpoint) as proxy:
        before(proxy)
        transport = Transport(Endpoint(url=proxy.url), settings=TransportSettings(call_timeout=20.0, attempts=4))
        cache = Cache(transport, settings=settings, namespaces=[namespace])
        made = Rig(
            proxy=proxy,
            transport=transport,
            cache=cache,
            client=Client(transport, cache, field_manager="faults"),
            direct=Client(straight, None, field_manager="other"),
            namespace=namespace,
            informer=cache.declare(WIDGET),
        )
        made.informer.add_handler(made.view)
        await made.make(*existing)
        running = asyncio.create_task(cache.run())
        try:
            yield made
            assert not running.done(), running.exception()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await transport.close()
            await straight.close()
