"""What is measured, contender by contender."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hack.bench.operator.contenders import Contender, requests_of
from hack.bench.operator.world import API, Observer, Size, create_all, entry, set_up, tear_down
from hack.controlplane.handle import Handle
from hack.controlplane.rest import Kube


@dataclass
class Figures:
    """What one contender did in one scenario. Times in seconds, memory in MiB."""

    settle: float = float("nan")
    memory: float = float("nan")
    cpu: float = float("nan")
    requests: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    failure: str = ""

    def percentile(self, share: float) -> float:
        """A percentile of the latencies."""
        if len(self.latencies) < 2:
            return float("nan")
        return statistics.quantiles(self.latencies, n=100, method="inclusive")[round(share * 100) - 1]


@dataclass(frozen=True)
class Bench:
    """Where the measurements happen."""

    plane: Handle
    kube: Kube
    logs: Path
    timeout: float

    async def floor(self, size: Size) -> float:
        """A bare client doing N creates and N status writes, 32 in flight: what the API server itself needs."""
        namespace = f"floor-{size}"
        await set_up(self.kube, namespace, size)
        start = time.monotonic()
        await self._create_and_write_status(namespace, size)
        took = time.monotonic() - start
        await tear_down(self.kube, namespace)
        return took

    async def _create_and_write_status(self, namespace: str, size: Size) -> None:
        waiting = _entries(size)
        generation: dict[str, Any] = {"observedGeneration": 1, "phase": "Valid"}
        condition = {
            "status": "True",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
            "message": "x" * 40,
            "reason": "Ok",
        }
        generation["conditions"] = [{**condition, "type": t, "observedGeneration": 1} for t in "ABCDEF"]

        async def worker() -> None:
            for body in waiting:
                made = await self.kube.create({**body, "metadata": {**body["metadata"], "namespace": namespace}})
                await self.kube.update({**made, "status": generation}, subresource="status")

        async with asyncio.TaskGroup() as tasks:
            for _ in range(32):
                tasks.create_task(worker())

    async def burst(self, contender: Contender, size: Size) -> Figures:
        """N entries created at once, until every one is Valid, in status and in the configuration."""
        figures = Figures()
        namespace = f"burst-{contender.name}-{size}"
        await set_up(self.kube, namespace, size)
        _, line = requests_of(self.plane, contender.name, 0)
        contender.start(self.plane, namespace, self.logs)
        try:
            await self._groups_ready(contender, namespace, size)
            async with Observer().following(self.kube, namespace) as seen:
                start, cpu = time.monotonic(), contender.cpu()
                await create_all(self.kube, namespace, _entries(size))
                await self._settled(contender, seen, size.total)
                figures.settle = time.monotonic() - start
                figures.cpu = contender.cpu() - cpu
            figures.memory = contender.memory()
        except (TimeoutError, RuntimeError) as error:
            figures.failure = str(error) or f"not settled after {self.timeout:.0f} s"
        await contender.stop()
        figures.requests, _ = requests_of(self.plane, contender.name, line)
        await tear_down(self.kube, namespace)
        return figures

    async def steady(self, contender: Contender, size: Size, *, seconds: float, rate: float) -> dict[str, Figures]:
        """On settled objects: cold start, then idle, then `rate` changes per second for `seconds`."""
        cold, idle, churn = Figures(), Figures(), Figures()
        namespace = f"steady-{contender.name}-{size}"
        await set_up(self.kube, namespace, size)
        await create_all(self.kube, namespace, _entries(size))
        async with Observer().following(self.kube, namespace) as seen:
            start = time.monotonic()
            contender.start(self.plane, namespace, self.logs)
            try:
                await self._settled(contender, seen, size.total)
                await self._restart(contender, namespace, seen, cold)
                await self._idle(contender, idle, seconds)
                await self._churn(namespace, seen, size, churn, seconds=seconds, rate=rate)
                churn.memory = contender.memory()
            except (TimeoutError, RuntimeError) as error:
                cold.failure = str(error) or f"not settled after {time.monotonic() - start:.0f} s"
        await contender.stop()
        await tear_down(self.kube, namespace)
        return {"cold start": cold, "idle": idle, "churn": churn}

    async def _restart(self, contender: Contender, namespace: str, seen: Observer, cold: Figures) -> None:
        """Stop and start it over settled objects; the clock stops when a change made meanwhile is in the config."""
        await contender.stop()
        await self._change(namespace, 0, 0, revision=1)
        _, line = requests_of(self.plane, contender.name, 0)
        start = time.monotonic()
        contender.start(self.plane, namespace, self.logs)
        await seen.wait(lambda: seen.configured.get("bench-0-0") == "v1", self.timeout)
        cold.settle, cold.memory = time.monotonic() - start, contender.memory()
        cold.requests, _ = requests_of(self.plane, contender.name, line)

    async def _idle(self, contender: Contender, idle: Figures, seconds: float) -> None:
        await asyncio.sleep(3)  # let the last writes of the start come to rest
        _, line = requests_of(self.plane, contender.name, 0)
        cpu = contender.cpu()
        await asyncio.sleep(seconds)
        idle.requests, _ = requests_of(self.plane, contender.name, line)
        idle.cpu, idle.memory = contender.cpu() - cpu, contender.memory()

    async def _churn(
        self, namespace: str, seen: Observer, size: Size, churn: Figures, *, seconds: float, rate: float
    ) -> None:
        written: dict[tuple[str, str], float] = {}
        begin = time.monotonic()
        for n in range(int(seconds * rate)):
            group_index, index = n % size.groups, (n * 7919) % size.entries
            revision = 2 + n
            await asyncio.sleep(max(0.0, begin + n / rate - time.monotonic()))
            await self._change(namespace, group_index, index, revision)
            written[f"bench-{group_index}-{index}", f"v{revision}"] = time.monotonic()
        last = list(written)[-1]
        await seen.wait(lambda: last in seen.seen_at, self.timeout)
        churn.settle = time.monotonic() - begin
        churn.latencies = [max(0.0, seen.seen_at[k] - t) for k, t in written.items() if k in seen.seen_at]

    async def _change(self, namespace: str, group_index: int, index: int, revision: int) -> None:
        body = entry(group_index, index, revision)
        path = await self.kube.path(API, "MCPServerEntry", body["metadata"]["name"], namespace=namespace)
        patch = {"spec": {"remoteUrl": body["spec"]["remoteUrl"]}}
        await self.kube.request("PATCH", path, body=patch, content_type="application/merge-patch+json")

    async def _groups_ready(self, contender: Contender, namespace: str, size: Size) -> None:
        """Groups settle before the clock starts: the burst is about entries, not about start-up."""
        path = await self.kube.path(API, "MCPGroup", namespace=namespace)
        async with asyncio.timeout(self.timeout):
            while True:
                contender.check_alive()
                items = (await self.kube.request("GET", path))["items"]
                if sum(g.get("status", {}).get("phase") == "Ready" for g in items) == size.groups:
                    return
                await asyncio.sleep(0.1)

    async def _settled(self, contender: Contender, seen: Observer, total: int) -> None:
        """Wait, and notice a contender that died."""
        waiting = asyncio.ensure_future(seen.wait_settled(total, self.timeout))
        while not waiting.done():
            await asyncio.wait([waiting], timeout=1.0)
            try:
                contender.check_alive()
            except RuntimeError:
                waiting.cancel()
                raise
        await waiting


def _entries(size: Size) -> Iterator[dict[str, Any]]:
    return (entry(g, i) for g in range(size.groups) for i in range(size.entries))
