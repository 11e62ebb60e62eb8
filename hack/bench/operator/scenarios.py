"""What is measured, contender by contender.

Whatever waits has a bound. A contender that does not keep it gets a `failure` that says so, and the run goes on.
"""

from __future__ import annotations

import asyncio
import math
import os
import statistics
import tempfile
import time
from asyncio.subprocess import PIPE, STDOUT
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import psutil

from hack.bench.operator.audit import AuditLog
from hack.bench.operator.contenders import ROOT, Contender
from hack.bench.operator.world import API, IN_FLIGHT, STATUS, Observer, Size, create_all, entries, entry, tear_down
from hack.bench.operator.world import set_up as make_world
from hack.controlplane.handle import Handle
from hack.controlplane.rest import Kube, KubeError
from hack.demo.pod import materialize

QUIET = 3.0
"""Seconds without a request after which a contender has come to rest."""
ENTRIES = "entry"
"""Part of the name of the controllers of entries, in this operator and in others."""
LONGEST_UNREST = 20.0
"""Seconds after which this is not waited for any longer."""


@dataclass
class Figures:
    """What one contender did in one scenario. Times in seconds, memory in MiB."""

    settle: float = math.nan
    memory: float = math.nan
    cpu: float = math.nan
    requests: Counter[str] = field(default_factory=Counter)
    config_writes: int = 0
    server: float = math.nan
    """Processor time of kube-apiserver and etcd meanwhile."""
    reconciles: float = math.nan
    """Of entries."""
    latencies: list[float] = field(default_factory=list)
    failure: str = ""

    def percentile(self, share: float) -> float:
        """A percentile of the latencies."""
        if len(self.latencies) < 2:
            return math.nan
        return statistics.quantiles(self.latencies, n=100, method="inclusive")[round(share * 100) - 1]


@dataclass
class Steady:
    """The phases of the steady scenario; `failure` ends it."""

    burst: Figures = field(default_factory=Figures)
    cold: Figures = field(default_factory=Figures)
    idle: Figures = field(default_factory=Figures)
    churn: Figures = field(default_factory=Figures)
    failure: str = ""


@dataclass(frozen=True)
class Bench:
    """Where the measurements happen.

    Attributes:
        plane: the control plane.
        kube: a client that is nobody's contender.
        logs: directory of the contenders' logs.
        timeout: seconds for a contender to settle.
        servers: process ids of kube-apiserver and etcd.
    """

    plane: Handle
    kube: Kube
    logs: Path
    timeout: float
    servers: tuple[int, ...] = ()

    def server_cpu(self) -> float:
        """Processor time that the servers have used so far, seconds."""
        times = [psutil.Process(pid).cpu_times() for pid in self.servers]
        return float(sum(each.user + each.system for each in times))

    @property
    def audit(self) -> AuditLog:
        """The audit log."""
        assert self.plane.audit_log is not None
        return AuditLog(self.plane.audit_log)

    async def floor(self, size: Size) -> Figures:
        """A bare client doing N creates and N status writes, 32 in flight: what the API server itself needs.

        `settle` is NaN when that did not end within the bound of a contender.
        """
        figures = Figures()
        namespace = self._namespace(f"floor-{size}")
        await make_world(self.kube, namespace, size)
        start, server = time.monotonic(), self.server_cpu()
        waiting = entries(size)

        async def worker() -> None:
            for body in waiting:
                made = await self.kube.create({**body, "metadata": {**body["metadata"], "namespace": namespace}})
                await self.kube.update({**made, "status": STATUS}, subresource="status")

        try:
            async with asyncio.timeout(self.timeout), asyncio.TaskGroup() as tasks:
                for _ in range(IN_FLIGHT):
                    tasks.create_task(worker())
            figures.settle, figures.server = time.monotonic() - start, self.server_cpu() - server
        except TimeoutError:
            pass
        finally:
            await tear_down(self.kube, namespace)
        return figures

    async def start(self, contender: Contender) -> Figures:
        """From the start of the process to the first status: one entry, nothing else."""
        figures = Figures()

        async def run() -> None:
            async with self._running(f"start-{contender.name}", contender, Size(1, 1)) as (namespace, seen):
                await create_all(self.kube, namespace, entries(Size(1, 1)))
                begin = time.monotonic()
                contender.start(self.plane, namespace, self.logs)
                await self._until(contender, seen, lambda: bool(seen.valid))
                figures.settle, figures.cpu = time.monotonic() - begin, contender.cpu()
                figures.memory = contender.memory()

        figures.failure = await self._failure_of(run())
        return figures

    async def burst(self, contender: Contender, size: Size) -> Figures:
        """N entries created at once, until every one is Valid, in status and in the configuration."""
        figures = Figures()

        async def run() -> None:
            async with self._running(f"burst-{contender.name}-{size}", contender, size) as (namespace, seen):
                await self._burst(contender, namespace, seen, size, figures)

        figures.failure = await self._failure_of(run())
        return figures

    async def steady(self, contender: Contender, size: Size, *, seconds: float, rate: float) -> Steady:
        """A burst; then on its settled objects a cold start, idle, and `rate` changes per second for `seconds`."""
        result = Steady()

        async def run() -> None:
            async with self._running(f"steady-{contender.name}-{size}", contender, size) as (namespace, seen):
                await self._burst(contender, namespace, seen, size, result.burst)
                await self._restart(contender, namespace, seen, result.cold)
                await self._idle(contender, result.idle, seconds)
                await self._churn(contender, namespace, seen, size, result.churn, seconds=seconds, rate=rate)

        result.failure = await self._failure_of(run())
        return result

    async def _failure_of(self, work: Awaitable[None]) -> str:
        """Return why the work did not get to its end; empty when it did."""
        try:
            await work
        except (TimeoutError, RuntimeError, KubeError, aiohttp.ClientError, ExceptionGroup) as error:
            return explain(error) or f"not within {self.timeout:.0f} s"
        return ""

    def _namespace(self, name: str) -> str:
        """A namespace of its own: a scenario may be repeated, and what could not be removed may be left."""
        return f"{name}-{self.audit.mark() % 1_000_000}"

    @asynccontextmanager
    async def _running(self, namespace: str, contender: Contender, size: Size) -> AsyncIterator[tuple[str, Observer]]:
        """A world and its observer; at the end the contender is stopped, and the world removed."""
        namespace = self._namespace(namespace)
        await make_world(self.kube, namespace, size)
        try:
            async with Observer().following(self.kube, namespace) as seen:
                yield namespace, seen
        finally:
            await contender.stop()
            await tear_down(self.kube, namespace)

    async def _burst(self, contender: Contender, namespace: str, seen: Observer, size: Size, figures: Figures) -> None:
        contender.start(self.plane, namespace, self.logs)
        await self._groups_ready(contender, namespace, size)
        await self._rest(contender)
        mark, configs = self.audit.mark(), seen.config_writes
        start, cpu, before = time.monotonic(), contender.cpu(), await contender.reconciles(ENTRIES)
        server = self.server_cpu()
        try:
            async with asyncio.timeout(self.timeout):
                await create_all(self.kube, namespace, entries(size))
                await self._until(
                    contender, seen, lambda: len(seen.valid) >= size.total and len(seen.configured) >= size.total
                )
            figures.settle = time.monotonic() - start
            await self._rest(contender)  # rollouts and lists in status may come later
            figures.memory, figures.cpu = contender.memory(), contender.cpu() - cpu
            figures.server = self.server_cpu() - server
            # Before the first one there is no count.
            figures.reconciles = await contender.reconciles(ENTRIES) - (0.0 if math.isnan(before) else before)
            if contender.feeds_our_gateway:
                await self._consume(namespace)
        except TimeoutError:
            raise TimeoutError(
                f"not settled after {self.timeout:.0f} s: {len(seen.valid)} of {size.total} Valid, "
                f"{len(seen.configured)} configured{await complaints(self.kube, namespace)}"
            ) from None
        finally:
            figures.requests, figures.config_writes = (
                self.audit.requests(contender.name, mark),
                seen.config_writes - configs,
            )

    async def _consume(self, namespace: str) -> None:
        """Feed one gateway what was written for it, as its pod would see it; after the clock has stopped.

        Raises:
            RuntimeError: the gateway refuses it.
        """
        deployment = await self.kube.find("apps/v1", "Deployment", "bench-0", namespace=namespace)
        if deployment is None:
            raise RuntimeError("there is no Deployment bench-0")
        with tempfile.TemporaryDirectory(prefix="bench-pod-") as root:
            pod = await materialize(self.kube, namespace, deployment, Path(root))
            process = await asyncio.create_subprocess_exec(
                *pod.validate(), env={"PATH": os.environ["PATH"], **pod.environ}, cwd=ROOT, stdout=PIPE, stderr=STDOUT
            )
            said, _ = await process.communicate()
        if process.returncode:
            raise RuntimeError(f"the gateway refuses its configuration: {said.decode(errors='replace')[-500:]}")

    async def _restart(self, contender: Contender, namespace: str, seen: Observer, cold: Figures) -> None:
        """Stop and start it over settled objects; the clock stops when a change made meanwhile is in the config."""
        await contender.stop()
        await self._change(namespace, 0, 0, revision=1)
        mark, start = self.audit.mark(), time.monotonic()
        contender.start(self.plane, namespace, self.logs)
        await self._until(contender, seen, lambda: seen.configured.get("bench-0-0") == "v1")
        cold.settle, cold.cpu = time.monotonic() - start, contender.cpu()
        await self._rest(contender)
        cold.memory = contender.memory()
        cold.requests = self.audit.requests(contender.name, mark)

    async def _idle(self, contender: Contender, idle: Figures, seconds: float) -> None:
        mark, cpu = self.audit.mark(), contender.cpu()
        await asyncio.sleep(seconds)
        idle.requests = self.audit.requests(contender.name, mark)
        idle.cpu, idle.memory = contender.cpu() - cpu, contender.memory()

    async def _churn(
        self,
        contender: Contender,
        namespace: str,
        seen: Observer,
        size: Size,
        churn: Figures,
        *,
        seconds: float,
        rate: float,
    ) -> None:
        written: dict[tuple[str, str], float] = {}
        mark, begin, cpu = self.audit.mark(), time.monotonic(), contender.cpu()
        for n in range(int(seconds * rate)):
            group_index, index = n % size.groups, (n * 7919) % size.entries
            revision = 2 + n
            await asyncio.sleep(max(0.0, begin + n / rate - time.monotonic()))
            await self._change(namespace, group_index, index, revision)
            written[f"bench-{group_index}-{index}", f"v{revision}"] = time.monotonic()
        last = list(written)[-1]
        await self._until(contender, seen, lambda: last in seen.seen_at)
        churn.settle, churn.cpu = time.monotonic() - begin, contender.cpu() - cpu
        churn.memory = contender.memory()
        churn.requests = self.audit.requests(contender.name, mark)
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

    async def _rest(self, contender: Contender) -> None:
        """Wait until it asks for nothing any more; one that never rests is not waited for."""
        end = time.monotonic() + LONGEST_UNREST
        while time.monotonic() < end:
            mark = self.audit.mark()
            await asyncio.sleep(QUIET)
            contender.check_alive()
            if not self.audit.requests(contender.name, mark):
                return

    async def _until(self, contender: Contender, seen: Observer, ready: object) -> None:
        """Wait, and notice a contender that died."""
        waiting = asyncio.ensure_future(seen.wait(ready, self.timeout))
        try:
            while not waiting.done():
                await asyncio.wait([waiting], timeout=1.0)
                contender.check_alive()
            await waiting
        finally:
            waiting.cancel()


async def complaints(kube: Kube, namespace: str) -> str:
    """Return the words with which gateways say that their configuration cannot be written; "" for none."""
    found = await kube.list(API, "VirtualMCPServer", namespace=namespace)
    conditions = [item for gateway in found for item in gateway.get("status", {}).get("conditions") or ()]
    said = {item["reason"] for item in conditions if item["type"] == "ConfigPublished" and item["status"] == "False"}
    return f", ConfigPublished says {' and '.join(sorted(said))}" if said else ""


def explain(error: Exception) -> str:
    """Return one line about a failure, of a group the first."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return " ".join(str(error).split())[-300:]
