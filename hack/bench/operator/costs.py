"""What single operations cost: ways to write a status, and reads that follow a write.

Both use this project's client and cache, so that nothing but the way differs. The load and the server share the
machine, so the server's processor time per write says more than the writes per second.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import orjson
import psutil

from hack.bench.operator.world import API, IN_FLIGHT, STATUS, Size, create_all, entries, set_up, tear_down
from hack.controlplane.rest import Kube
from runtime import Key, Record, Resource
from runtime.cache import Cache
from runtime.client import Client
from runtime.transport import Transport, load_endpoint

ENTRY = Resource("toolhive.stacklok.dev", "v1beta1", "MCPServerEntry", "mcpserverentries")


@dataclass(frozen=True)
class WriteCost:
    """One way to write, over many objects.

    Attributes:
        way: as printed.
        per_second: writes per second, 32 in flight.
        server_ms: processor time of kube-apiserver per write.
        client_ms: processor time of the client per write.
        size: bytes of an object afterwards, managedFields included.
    """

    way: str
    per_second: float
    server_ms: float
    client_ms: float
    size: int = 0


@dataclass(frozen=True)
class StaleReads:
    """Cached reads that directly follow an own write."""

    cache: str
    reads: int
    stale: int

    @property
    def share(self) -> float:
        """Part of the reads that showed a state from before the write."""
        return self.stale / self.reads


class Write(Protocol):
    """Writes the status number `number` of a record's object."""

    def __call__(self, record: Record, number: int) -> Awaitable[Record]:
        """Write."""


async def write_costs(kube: Kube, kubeconfig: Path, apiserver: int, count: int) -> list[WriteCost]:
    """Write the status of `count` entries in each way; `apiserver` is the process id of kube-apiserver."""
    results: list[WriteCost] = []
    transport = Transport(await load_endpoint(str(kubeconfig)), user_agent="costs")
    client = Client(transport, None, field_manager="costs")
    try:
        for number, (way, write) in enumerate(_ways(client)):
            namespace = f"writes-{number}"
            await set_up(kube, namespace, Size(1, 0))
            await create_all(kube, namespace, entries(Size(1, count)))
            records = await client.list_live(ENTRY, namespace=namespace)
            if way.endswith("nothing new"):  # the same status again
                records = await _each(records, partial(write, number=0))
            cost = await _measure(way, write, records, psutil.Process(apiserver))
            results.append(replace(cost, size=await _size_of_first(kube, namespace)))
            await tear_down(kube, namespace)
    finally:
        await transport.close()
    return results


def _ways(client: Client) -> Iterable[tuple[str, Write]]:
    async def merge(record: Record, number: int) -> Record:
        version = record.meta.resource_version
        patch = {"status": _status(number)}
        return await client.merge_patch(ENTRY, record.key, patch, resource_version=version, subresource="status")

    async def update(record: Record, number: int) -> Record:
        body = {**record.as_dict(), "status": _status(number)}
        return await client.update(ENTRY, body, subresource="status")

    async def apply(record: Record, number: int) -> Record:
        meta = {"name": record.key.name, "namespace": record.key.namespace}
        body = {"apiVersion": API, "kind": ENTRY.kind, "metadata": meta, "status": _status(number)}
        return await client.apply(ENTRY, body, field_manager="costs", subresource="status")

    yield "merge patch", merge
    yield "update", update
    yield "apply", apply
    yield "merge patch, nothing new", merge
    yield "apply, nothing new", apply


def _status(number: int) -> dict[str, Any]:
    return STATUS | {"observedGeneration": number}


async def _measure(way: str, write: Write, records: Sequence[Record], server: psutil.Process) -> WriteCost:
    number = 0 if way.endswith("nothing new") else 1
    start, own, theirs = time.monotonic(), time.process_time(), _cpu(server)
    await _each(records, partial(write, number=number))
    took = time.monotonic() - start
    count = len(records)
    return WriteCost(
        way,
        count / took,
        (_cpu(server) - theirs) * 1000 / count,
        (time.process_time() - own) * 1000 / count,
    )


async def _each(records: Sequence[Record], act: Callable[[Record], Awaitable[Record]]) -> list[Record]:
    waiting = iter(records)

    async def worker() -> list[Record]:
        return [await act(record) for record in waiting]

    async with asyncio.TaskGroup() as tasks:
        workers = [tasks.create_task(worker()) for _ in range(IN_FLIGHT)]
    return [record for worker in workers for record in worker.result()]


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def stale_reads(kube: Kube, kubeconfig: Path, count: int, rounds: int) -> list[StaleReads]:
    """Change entries and read each from the cache at once: with read-your-writes, and with a plain cache."""
    results = []
    for name, own in (("plain cache", False), ("read your writes", True)):
        namespace = f"reads-{'own' if own else 'plain'}"
        await set_up(kube, namespace, Size(1, 0))
        await create_all(kube, namespace, entries(Size(1, count)))
        transport = Transport(await load_endpoint(str(kubeconfig)), user_agent="reads")
        cache = Cache(transport, namespaces=[namespace])
        cache.declare(ENTRY, read_your_writes=own)
        running = asyncio.create_task(cache.run())
        try:
            async with asyncio.timeout(60):
                await cache.wait_synced()
            client = Client(transport, cache, field_manager="reads")
            stale = [await _write_and_read(client, cache, namespace, count, number) for number in range(rounds)]
            results.append(StaleReads(name, count * rounds, sum(stale)))
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await transport.close()
            await tear_down(kube, namespace)
    return results


async def _write_and_read(client: Client, cache: Cache, namespace: str, count: int, number: int) -> int:
    """Change each entry once; return how many were read as they had been before."""
    stale = 0
    waiting = iter(range(count))

    async def worker() -> None:
        nonlocal stale
        for index in waiting:
            key = Key(namespace, f"bench-0-{index}")
            written = await client.merge_patch(ENTRY, key, {"status": _status(number)}, subresource="status")
            seen = cache.reader.get(ENTRY, key)
            stale += seen is None or seen.version < written.version

    async with asyncio.TaskGroup() as tasks:
        for _ in range(8):
            tasks.create_task(worker())
    return stale


async def _size_of_first(kube: Kube, namespace: str) -> int:
    return len(orjson.dumps(await kube.get(API, ENTRY.kind, "bench-0-0", namespace=namespace)))
