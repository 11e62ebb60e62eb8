"""A gateway of many members that nobody calls: what it holds, what it takes, and what it asks."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from pathlib import Path

from tests.conftest import Scale
from tests.e2e.vmcp.kit import EchoBackend
from tests.envtest.controllers.kit import API, Object, header
from tests.envtest.controllers.virtualmcpserver.conftest import KIND, Gateways
from tests.envtest.controllers.virtualmcpserver.pods import start_pod, user_of
from tests.support.eventually import at_rest

RENEWED = ("update", "leases")
RENEWAL = 4.5
"""Seconds between two renewals of the lease, at least."""


def resident(pid: int) -> float:
    """MiB of memory of a process that no other has."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))


def processor(pid: int) -> float:
    """Seconds of processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def asked(cluster: Gateways) -> list[tuple[str, str]]:
    """What the gateway asked of the API server so far, watches aside: verb and resource."""
    events = cluster.control_plane.audit_events(user=user_of(cluster.namespace, "v"))
    return [(event["verb"], event["objectRef"]["resource"]) for event in events if event["verb"] != "watch"]


async def test_an_idle_gateway_asks_for_its_lease_alone_and_stays_small(
    cluster: Gateways, tmp_path: Path, scale: Scale
) -> None:
    """Every member has a Secret of its own, so each is a watch of its own."""
    echo = await EchoBackend("echo").start()
    await cluster.group()
    count = scale(20, 200)

    async def member(number: int) -> None:
        await cluster.secret(f"key-{number}", k=f"value-{number}")
        forward = {"addHeadersFromSecret": [header("X-Key", f"key-{number}", "k")]}
        await cluster.entry(f"m{number:03}", remoteUrl=echo.entry["url"], headerForward=forward)

    for start in range(0, count, 20):
        await asyncio.gather(*(member(number) for number in range(start, min(start + 20, count))))
    await cluster.gateway(outgoingAuth={"source": "discovered"})
    await cluster.pod("p")
    pod = await start_pod(cluster, tmp_path, echo.resolve)

    def all_ready(found: Object | None) -> bool:
        return (found or {}).get("status", {}).get("readyBackends") == f"{count}/{count}"

    try:
        await cluster.admin.wait_for(API, KIND, "v", namespace=cluster.namespace, until=all_ready, timeout=60)
        await at_rest(lambda: [one for one in asked(cluster) if one != RENEWED], within=90, pause=scale(2, 10))
        began, spent, before = time.monotonic(), processor(pod.pid), len(asked(cluster))
        await asyncio.sleep(scale(6, 60))  # the behaviour under test is that nothing happens in this time
        seconds, spent = time.monotonic() - began, processor(pod.pid) - spent
        since = Counter(asked(cluster)[before:])
        assert since.keys() <= {RENEWED}
        assert since.total() <= seconds / RENEWAL + 1
        # What is measured on a quiet machine stands in docs/limits.md; these bounds are for what would grow by a kind.
        assert resident(pod.pid) <= 150
        assert spent <= 0.05 * seconds
    finally:
        await pod.stop()
        await echo.stop()
