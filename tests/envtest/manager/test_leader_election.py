"""Two real operators, one real lease, real signals: the audit log of the API server is the judge."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from hack.controlplane.handle import Handle
from hack.controlplane.rest import Kube
from tests.support.eventually import eventually
from tests.support.process import Program

LEASE, RENEW, RETRY = 3.0, 2.0, 0.4
WIDGETS = 40
WIDGET = "test.example.com/v1"
RULES = [
    {"apiGroups": ["test.example.com"], "resources": ["widgets"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": ["test.example.com"], "resources": ["widgets/status"], "verbs": ["patch"]},
    {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch", "create", "patch"]},
    {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"]},
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "update"]},
]
WRITES = {"create", "update", "patch", "delete"}


class Replica:
    """One operator and the user that it runs as."""

    def __init__(self, program: Program, user: str, control_plane: Handle) -> None:
        self.program, self.user = program, user
        self._control_plane = control_plane

    def requests(self) -> Iterator[Mapping[str, Any]]:
        """What it asked of the server."""
        return self._control_plane.audit_events(user=self.user)

    def writes(self, after: float = 0.0) -> list[tuple[float, str, str]]:
        """(time, verb, resource) of its writes that the server finished after a moment."""
        return [
            (seconds(event["stageTimestamp"]), event["verb"], event["objectRef"]["resource"])
            for event in self.requests()
            if event["verb"] in WRITES
            and event["stage"] == "ResponseComplete"
            and seconds(event["stageTimestamp"]) > after
        ]


@pytest.fixture
def replica(control_plane, make_user, namespace):
    @asynccontextmanager
    async def start(name: str) -> AsyncIterator[Replica]:
        kubeconfig = await make_user(name, rules=RULES, namespace=namespace)
        arguments = ["--kubeconfig", str(kubeconfig), "--namespace", namespace]
        arguments += ["--lease", "election", "--times", f"{LEASE},{RENEW},{RETRY}"]
        async with Program("-m", "tests.support.widget_operator", *arguments) as program:
            yield Replica(program, kubeconfig.stem, control_plane)

    return start


async def lease_of(admin: Kube, namespace: str) -> dict[str, Any]:
    return (await admin.get("coordination.k8s.io/v1", "Lease", "election", namespace=namespace))["spec"]


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).astimezone(UTC).timestamp()


def widget(namespace: str, name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": WIDGET, "kind": "Widget", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


@asynccontextmanager
async def load(admin: Kube, namespace: str) -> AsyncIterator[list[int]]:
    """Change widgets, 100 times a second and without end; gives the number of changes so far."""
    count = [0]
    for i in range(WIDGETS):
        await admin.create(widget(namespace, f"w{i}", round=0))

    async def change() -> None:
        while True:
            count[0] += 1
            patch = {"spec": {"round": count[0]}}
            await admin.patch(WIDGET, "Widget", f"w{count[0] % WIDGETS}", patch, namespace=namespace)
            await asyncio.sleep(0.02)  # a busy cluster, not a busy machine

    tasks = [asyncio.create_task(change()) for _ in range(2)]
    try:
        yield count
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def all_seen(admin: Kube, namespace: str) -> bool:
    widgets = await admin.list(WIDGET, "Widget", namespace=namespace)
    maps = {m["metadata"]["name"]: m for m in await admin.list("v1", "ConfigMap", namespace=namespace)}
    return bool(widgets) and all(
        w.get("status", {}).get("seen") == w["metadata"]["generation"]
        and maps[w["metadata"]["name"]]["data"]["generation"] == str(w["metadata"]["generation"])
        for w in widgets
    )


async def test_when_the_leader_is_killed_the_other_takes_over_and_nothing_is_lost(replica, admin, namespace):
    async with replica("a") as a, replica("b") as b:
        async with load(admin, namespace) as changes:
            leader, other = await leader_of(a, b)
            await eventually(lambda: changes[0] > 200)
            leader.program.send(signal.SIGKILL)
            killed = time.time()
            await other.program.log("became leader", timeout=LEASE + 5)
            spec = await lease_of(admin, namespace)
            assert spec["leaseTransitions"] == 1
            # The last renewal was at most one retry period before the kill; then others wait for the whole lease.
            assert seconds(spec["acquireTime"]) >= killed + LEASE - 2 * RETRY
        await eventually(lambda: all_seen(admin, namespace))


async def leader_of(a: Replica, b: Replica) -> tuple[Replica, Replica]:
    """Wait for an election; the leader first."""

    def find() -> tuple[Replica, Replica] | None:
        for one, other in ((a, b), (b, a)):
            messages = [line.get("msg") for line in one.program.lines]
            waiting = any(line.get("msg") == "waiting for the lease" for line in other.program.lines)
            if "became leader" in messages and waiting:
                return one, other
        return None

    found: tuple[Replica, Replica] = await eventually(find)
    return found


async def test_a_leader_that_was_stopped_for_two_leases_writes_nothing_after_it_wakes(
    replica, admin, namespace, control_plane
):
    async with replica("a") as a, replica("b") as b, load(admin, namespace) as changes:
        leader, other = await leader_of(a, b)
        await eventually(lambda: changes[0] > 200 and len(leader.writes()) > 50, every=0.2)
        leader.program.send(signal.SIGSTOP)
        stopped = time.time()
        await other.program.log("became leader", timeout=LEASE + 5)
        acquired = seconds((await lease_of(admin, namespace))["acquireTime"])
        await asyncio.sleep(max(0.0, stopped + 2 * LEASE - time.time()))
        leader.program.send(signal.SIGCONT)
        assert await leader.program.end(10) == 1
        await eventually(lambda: len(other.writes(after=acquired)) > 50, every=0.2)
        assert leader.writes(after=acquired) == []


async def test_a_blocked_main_loop_ends_the_process_before_its_lease_expires(replica, admin, namespace):
    async with replica("a") as a, load(admin, namespace):
        await a.program.log("became leader")
        a.program.send(signal.SIGUSR1)
        await a.program.log("main loop blocked by the test")
        assert await a.program.end(LEASE + 5) == 1
        spec = await lease_of(admin, namespace)
        assert a.program.ended_at < seconds(spec["renewTime"]) + LEASE
        last = await a.program.log("leader election lost: ending the process")
        assert last["main_loop_silent"] is True
        assert any("block" in frame for frame in last["stack"])


async def test_a_graceful_stop_drains_then_releases_the_lease_and_the_next_starts_at_once(
    replica, admin, namespace, control_plane
):
    async with replica("a") as a, replica("b") as b:
        leader, other = await leader_of(a, b)
        await admin.create(widget(namespace, "slow", seconds=1.5))
        await leader.program.line(lambda line: line.get("msg") == "working" and line["name"] == "slow")
        leader.program.send(signal.SIGTERM)
        assert await leader.program.end(10) == 0
        released = await leader.program.log("lease released")
        became = await other.program.log("became leader", timeout=2 * RETRY * 2.2 + 1)
        assert seconds(became["ts"]) - seconds(released["ts"]) <= RETRY * 2.2 + 0.5
        mine = leader.writes()
        assert mine[-1][1:] == ("update", "leases")
        work = [(verb, resource) for _, verb, resource in mine if resource != "leases"]
        assert sorted(work) == [("create", "configmaps"), ("create", "events"), ("patch", "widgets")]
        await eventually(lambda: all_seen(admin, namespace))


async def test_an_idle_operator_asks_for_nothing_but_watches_and_its_lease(
    replica, admin, namespace, control_plane, scale
):
    async with load(admin, namespace) as changes:
        await eventually(lambda: changes[0] >= WIDGETS)
    async with replica("a") as a:
        await a.program.log("became leader")
        await eventually(lambda: all_seen(admin, namespace))
        await asyncio.sleep(1)  # events of the last reconciles
        start = time.time()
        await asyncio.sleep(scale(8, 60))
        asked = {
            (event["verb"], event["objectRef"]["resource"])
            for event in a.requests()
            if seconds(event["requestReceivedTimestamp"]) > start
        }
        assert asked <= {("update", "leases"), ("watch", "widgets"), ("watch", "configmaps")}
        assert ("update", "leases") in asked
