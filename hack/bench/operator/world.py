"""The world that every contender meets: groups, entries and gateways, made through the API, and when they are settled.

Nothing here knows a contender. "Settled" is what a user would call it: every entry says phase Valid, and the generated
configuration of its group's gateway names it.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any

from hack.controlplane.rest import Kube, KubeError
from hack.demo.pod import configuration

API = "toolhive.stacklok.dev/v1beta1"
IN_FLIGHT = 32
_BACKEND = re.compile(rb"name: (bench-\d+-\d+)\s")
_URL = re.compile(rb"url: https://(v\d+)\.(bench-\d+-\d+)\.example\.com/mcp")


@dataclass(frozen=True)
class Size:
    """So many groups, each with one inline gateway and so many entries."""

    groups: int
    entries: int

    @property
    def total(self) -> int:
        """Entries in all groups."""
        return self.groups * self.entries

    def __str__(self) -> str:
        return f"{self.groups}x{self.entries}"


def group(index: int) -> dict[str, Any]:
    """An MCPGroup."""
    return {"apiVersion": API, "kind": "MCPGroup", "metadata": {"name": f"bench-{index}"}, "spec": {}}


def gateway(index: int) -> dict[str, Any]:
    """A VirtualMCPServer in static mode: its configuration lists the backends."""
    spec = {
        "groupRef": {"name": f"bench-{index}"},
        "incomingAuth": {"type": "anonymous"},
        "outgoingAuth": {"source": "inline"},
    }
    return {"apiVersion": API, "kind": "VirtualMCPServer", "metadata": {"name": f"bench-{index}"}, "spec": spec}


def entry(group_index: int, index: int, revision: int = 0) -> dict[str, Any]:
    """A plain MCPServerEntry; `revision` changes its URL."""
    name = f"bench-{group_index}-{index}"
    spec = {
        "remoteUrl": f"https://v{revision}.{name}.example.com/mcp",
        "transport": "streamable-http",
        "groupRef": {"name": f"bench-{group_index}"},
    }
    return {"apiVersion": API, "kind": "MCPServerEntry", "metadata": {"name": name}, "spec": spec}


def entries(size: Size) -> Iterator[dict[str, Any]]:
    """All entries of a size."""
    return (entry(g, i) for g in range(size.groups) for i in range(size.entries))


STATUS: dict[str, Any] = {
    "observedGeneration": 1,
    "phase": "Valid",
    "conditions": [
        {
            "type": kind,
            "status": "True",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
            "message": "x" * 40,
            "reason": "Ok",
            "observedGeneration": 1,
        }
        for kind in "ABCDEF"
    ],
}
"""A status of an entry, of the size that operators write."""


async def create_all(
    kube: Kube, namespace: str, objects: Iterable[Mapping[str, Any]], in_flight: int = IN_FLIGHT
) -> None:
    """Create objects, `in_flight` requests at a time."""

    async def create(body: Mapping[str, Any]) -> None:
        await kube.create({**body, "metadata": {**body["metadata"], "namespace": namespace}})

    await _in_parallel(create, objects, in_flight)


@dataclass
class Observer:
    """Follows the entries and the generated configurations of one namespace by watches.

    Attributes:
        valid: names of the entries whose phase is Valid.
        configured: the URL revision of each entry that some configuration names.
        config_writes: how many configuration objects were seen written.
    """

    valid: set[str] = field(default_factory=set)
    configured: dict[str, str] = field(default_factory=dict)
    seen_at: dict[tuple[str, str], float] = field(default_factory=dict)
    config_writes: int = 0
    _moved: asyncio.Condition = field(default_factory=asyncio.Condition)

    @asynccontextmanager
    async def following(self, kube: Kube, namespace: str) -> AsyncIterator[Observer]:
        """Watch until the block ends."""
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(self._follow(kube, namespace, API, "MCPServerEntry")),
                tasks.create_task(self._follow(kube, namespace, "v1", "ConfigMap")),
            ]
            try:
                yield self
            finally:
                for task in running:
                    task.cancel()

    async def _follow(self, kube: Kube, namespace: str, api_version: str, kind: str) -> None:
        take = self._entry if kind == "MCPServerEntry" else self._config
        while True:
            try:
                async with aclosing(kube.watch(api_version, kind, namespace=namespace)) as events:
                    async for event, body in events:
                        if event == "ERROR":  # a busy server's cache lags behind what it has written: watch again
                            await asyncio.sleep(0.1)
                            break
                        take(event, body)
                        async with self._moved:
                            self._moved.notify_all()
            except KubeError as error:
                if error.status != HTTPStatus.TOO_MANY_REQUESTS:  # "storage is (re)initializing", after its start
                    raise
                await asyncio.sleep(0.1)

    def _entry(self, event: str, body: Mapping[str, Any]) -> None:
        name = body["metadata"]["name"]
        if event != "DELETED" and body.get("status", {}).get("phase") == "Valid":
            self.valid.add(name)
        else:
            self.valid.discard(name)

    def _config(self, event: str, body: Mapping[str, Any]) -> None:
        if event == "DELETED" or not body["metadata"]["name"].endswith("-vmcp-config"):
            return
        now = time.monotonic()
        self.config_writes += 1
        text = configuration(body)
        revisions = {m[2].decode(): m[1].decode() for m in _URL.finditer(text)}
        for match in _BACKEND.finditer(text):
            name = match[1].decode()
            revision = revisions.get(name, "")
            self.configured[name] = revision
            self.seen_at.setdefault((name, revision), now)

    async def wait(self, ready: Any, timeout: float) -> None:
        """Return when `ready()` holds; raises `TimeoutError` after `timeout` seconds."""
        async with asyncio.timeout(timeout), self._moved:
            await self._moved.wait_for(ready)


async def set_up(kube: Kube, namespace: str, size: Size) -> None:
    """Make the namespace, the groups and the gateways."""
    await kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    await create_all(kube, namespace, [group(g) for g in range(size.groups)])
    await create_all(kube, namespace, [gateway(g) for g in range(size.groups)])


async def tear_down(kube: Kube, namespace: str) -> None:
    """Remove everything; finalizers are cut, for the contender may be gone."""
    for kind in ("VirtualMCPServer", "MCPServerEntry", "MCPGroup"):
        path = await kube.path(API, kind, namespace=namespace)
        await _in_parallel(partial(_remove, kube, path), (await kube.request("GET", path))["items"])
    for api_version, kind in (("v1", "ConfigMap"), ("apps/v1", "Deployment"), ("v1", "Secret")):
        await kube.request("DELETE", await kube.path(api_version, kind, namespace=namespace))


async def _remove(kube: Kube, path: str, item: Mapping[str, Any]) -> None:
    where = f"{path}/{item['metadata']['name']}"
    try:
        if item["metadata"].get("finalizers"):
            none = {"metadata": {"finalizers": None}}
            await kube.request("PATCH", where, body=none, content_type="application/merge-patch+json")
        await kube.request("DELETE", where)
    except KubeError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise


async def _in_parallel(
    act: Callable[[Mapping[str, Any]], Awaitable[None]], items: Iterable[Mapping[str, Any]], in_flight: int = IN_FLIGHT
) -> None:
    waiting = iter(items)

    async def worker() -> None:
        for item in waiting:
            await act(item)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(in_flight):
            tasks.create_task(worker())
