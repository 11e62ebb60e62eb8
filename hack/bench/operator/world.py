"""The world that every contender meets: groups, entries and gateways, made through the API, and when they are settled.

Nothing here knows a contender. "Settled" is what a user would call it: every entry says phase Valid, and the generated
configuration of its group's gateway names it.
"""

from __future__ import annotations

import asyncio
import gzip
import re
import time
from base64 import b64decode
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from hack.controlplane.rest import Kube, KubeError

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


async def create_all(
    kube: Kube, namespace: str, objects: Iterable[Mapping[str, Any]], in_flight: int = IN_FLIGHT
) -> None:
    """Create objects, `in_flight` requests at a time."""
    waiting = iter(objects)

    async def worker() -> None:
        for body in waiting:
            await kube.create({**body, "metadata": {**body["metadata"], "namespace": namespace}})

    async with asyncio.TaskGroup() as tasks:
        for _ in range(in_flight):
            tasks.create_task(worker())


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
            async for event, body in kube.watch(api_version, kind, namespace=namespace):
                take(event, body)
                async with self._moved:
                    self._moved.notify_all()

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
        text = config_text(body)
        revisions = {m[2].decode(): m[1].decode() for m in _URL.finditer(text)}
        for match in _BACKEND.finditer(text):
            name = match[1].decode()
            revision = revisions.get(name, "")
            self.configured[name] = revision
            self.seen_at.setdefault((name, revision), now)

    async def wait_settled(self, total: int, timeout: float) -> None:
        """Return when `total` entries are Valid and configured; raises `TimeoutError`."""
        await self.wait(lambda: len(self.valid) >= total and len(self.configured) >= total, timeout)

    async def wait(self, ready: Any, timeout: float) -> None:
        """Return when `ready()` holds; raises `TimeoutError` after `timeout` seconds."""
        async with asyncio.timeout(timeout), self._moved:
            await self._moved.wait_for(ready)


def config_text(config_map: Mapping[str, Any]) -> bytes:
    """The YAML of a generated configuration, plain or compressed."""
    packed = config_map.get("binaryData", {}).get("config.yaml.gz")
    if packed:
        return gzip.decompress(b64decode(packed))
    return str(config_map.get("data", {}).get("config.yaml", "")).encode()


async def set_up(kube: Kube, namespace: str, size: Size) -> None:
    """Make the namespace, the groups and the gateways."""
    await kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    await create_all(kube, namespace, [group(g) for g in range(size.groups)])
    await create_all(kube, namespace, [gateway(g) for g in range(size.groups)])


async def tear_down(kube: Kube, namespace: str) -> None:
    """Remove everything; finalizers are cut, for the contender may be gone."""
    for kind in ("VirtualMCPServer", "MCPServerEntry", "MCPGroup"):
        path = await kube.path(API, kind, namespace=namespace)
        await kube.request("DELETE", path)
        for item in (await kube.request("GET", path))["items"]:
            where = f"{path}/{item['metadata']['name']}"
            try:
                await kube.request(
                    "PATCH", where, body={"metadata": {"finalizers": None}}, content_type="application/merge-patch+json"
                )
            except KubeError as error:
                if error.status != 404:
                    raise
    for api_version, kind in (("v1", "ConfigMap"), ("apps/v1", "Deployment"), ("v1", "Secret")):
        await kube.request("DELETE", await kube.path(api_version, kind, namespace=namespace))
