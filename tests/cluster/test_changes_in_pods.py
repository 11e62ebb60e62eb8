"""What changes while clients call: members, Secrets, authorities, groups, pods, the manager."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import subprocess
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from hack.cluster.layout import default_layout
from hack.cluster.programs import CTR
from hack.controlplane.rest import Kube, KubeError, Object
from tests.cluster.kit import (
    API,
    LONG,
    MANAGER,
    SYSTEM,
    Figure,
    Load,
    Pods,
    endpoint,
    entry,
    gateway,
    group,
    load,
    served,
)
from tests.cluster.pki import authority
from tests.e2e.vmcp.kit import Client
from tests.envtest.controllers.kit import certificate, header
from tests.support.eventually import eventually

CLIENTS = 16


def secret(name: str, **data: str) -> Object:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}


def bundle(pem: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "pki"}, "data": {"ca.crt": pem}}


async def _world(pods: Pods, source: str) -> str:
    """Run three servers, one behind TLS and one that wants a header, and a gateway; return the authority."""
    host = f"tls.{pods.namespace}.svc"
    ca, key_pair = authority(host)
    await pods.apply(secret("tls", **key_pair), secret("keys", k="v1"), bundle(ca))
    await asyncio.gather(
        pods.server(),
        pods.server("other"),
        pods.server("tls", tls="tls"),
        pods.server("keyed", REQUIRED_HEADER="X-Key"),
    )
    forward = {"addHeadersFromSecret": [header("X-Key", "keys", "k")]}
    reference = {"configMapRef": {"name": "pki", "key": "ca.crt"}}
    await pods.apply(
        group(),
        {**group(), "metadata": {"name": "elsewhere"}},
        entry("plain", pods.namespace),
        entry("secure", pods.namespace, caBundleRef=reference, remoteUrl=f"https://{host}:8000/mcp"),
        endpoint("keyed", pods.namespace, "keyed", headerForward=forward),
        gateway(outgoingAuth={"source": source}),
    )
    await pods.gateway_is("Ready")
    await served(pods, "plain_echo", "secure_echo", "keyed_echo")
    return ca


async def _tells(url: str, tool: str, **wanted: Any) -> bool:
    """Whether a call is answered, and by whom it should be."""
    with contextlib.suppress(aiohttp.ClientError, AssertionError, KeyError, ValueError):
        async with Client(url, era="modern") as client:
            told = (await client.call(tool, nonce="n")).told
            return all(told[name] == value for name, value in wanted.items())
    return False


async def _lists(url: str, tool: str) -> bool:
    async with Client(url, era="modern") as client:
        return tool in await client.tools()


@pytest.mark.parametrize("source", ["discovered", "inline"])
async def test_changes_are_served_within_seconds_and_cost_others_nothing(
    pods: Pods, figure: Figure, source: str
) -> None:
    right = await _world(pods, source)
    url, namespace = await pods.url(), pods.namespace
    before = {pod["metadata"]["uid"] for pod in await pods.gateway_pods()}
    late = entry("late", namespace)
    moved = entry("late", namespace, "other", groupRef={"name": "elsewhere"})

    async def remove() -> None:
        await pods.admin.delete(API, "MCPServerEntry", "late", namespace=namespace)

    async def unlisted() -> bool:
        return not await _lists(url, "late_echo")

    async def refused() -> bool:
        return not await _tells(url, "secure_echo")

    steps: list[tuple[str, Callable[[], Awaitable[Any]], Callable[[], Awaitable[bool]]]] = [
        ("added", lambda: pods.apply(late), lambda: _tells(url, "late_echo", backend="server")),
        (
            "changed",
            lambda: pods.apply(entry("late", namespace, "other")),
            lambda: _tells(url, "late_echo", backend="other"),
        ),
        ("group changed", lambda: pods.apply(moved), unlisted),
        ("moved back", lambda: pods.apply(late), lambda: _tells(url, "late_echo", backend="server")),
        ("removed", remove, unlisted),
        ("Secret rotated", lambda: pods.apply(secret("keys", k="v2")), lambda: _tells(url, "keyed_echo", key="v2")),
    ]

    async def trust(pem: str) -> None:
        await pods.apply(bundle(pem))
        if (
            source == "inline"
        ):  # the kubelet refreshes the mounted bundle when it is due, or when something touches the pod
            await _touch(pods)

    steps += [
        ("CA replaced by another", lambda: trust(certificate()), refused),
        ("right CA again", lambda: trust(right), lambda: _tells(url, "secure_echo")),
    ]
    seconds = {}
    async with load(url, "plain_echo", clients=CLIENTS) as seen, Client(url) as session:
        for name, change, done in steps:
            began = time.monotonic()
            await change()
            await eventually(done, within=LONG, every=0.05)
            seconds[name] = round(time.monotonic() - began, 2)
        if source == "discovered":
            first = (await session.call("plain_count")).told["count"]
            assert (await session.call("plain_count")).told["count"] == first + 1, "the session goes on"
    figure(f"{source}: served after, s", seconds)
    figure(f"{source}: p50, s", statistics.median(seconds.values()))
    figure(f"{source}: calls to others answered / failed", (len(seen.answered), len(seen.failures)))
    assert not seen.failures, seen.failures[:5]
    if source == "discovered":
        assert {pod["metadata"]["uid"] for pod in await pods.gateway_pods()} == before
        assert await pods.restarts() == 0
    else:
        seconds.pop("Secret rotated")  # rolls the pods, as the contract says
    assert max(seconds.values()) <= 5, seconds
    assert statistics.median(seconds.values()) <= 1, seconds


async def _touch(pods: Pods) -> None:
    """Do what `kubectl annotate --overwrite pods -l toolhive-name=gw refreshed=...` does."""
    for pod in await pods.gateway_pods():
        change = {"metadata": {"annotations": {"refreshed": str(time.monotonic_ns())}}}
        await pods.admin.patch("v1", "Pod", pod["metadata"]["name"], change, namespace=pods.namespace)


async def _rolled(pods: Pods, replicas: int) -> None:
    def holds(found: Object) -> bool:
        status, spec = found.get("status", {}), found["spec"]
        counts = [status.get(name, 0) for name in ("replicas", "updatedReplicas", "readyReplicas")]
        current = status.get("observedGeneration") == found["metadata"]["generation"]
        return bool(current and spec.get("replicas") == replicas and counts == [replicas] * 3)

    await pods.until("apps/v1", "Deployment", "gw", holds)


async def _more(seen: Load, calls: int = 50) -> None:
    goal = len(seen.answered) + calls
    await eventually(lambda: len(seen.answered) >= goal, within=LONG, every=0.1)


async def _evict(pods: Pods, name: str) -> None:
    """Do what a drain does to each pod: ask again while the budget says no."""
    path = await pods.admin.path("v1", "Pod", name, namespace=pods.namespace, subresource="eviction")
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": pods.namespace}}

    async def evicted() -> bool:
        try:
            await pods.admin.request("POST", path, body=body)
        except KubeError as error:
            if error.status != 429:
                raise
            return False
        return True

    await eventually(evicted, within=LONG, every=0.5)


async def test_no_call_is_lost_when_pods_come_and_go(pods: Pods, figure: Figure) -> None:
    await pods.server()
    await pods.apply(group(), entry("plain", pods.namespace), gateway(replicas=1))
    await pods.gateway_is("Ready")
    await served(pods, "plain_echo")
    lost = {}
    async with load(await pods.url(), "plain_echo", clients=CLIENTS) as seen:

        async def step(name: str, replicas: int, change: Awaitable[Any]) -> None:
            failed = len(seen.failures)
            await change
            await _rolled(pods, replicas)
            await _more(seen)
            lost[name] = len(seen.failures) - failed

        def scaled(replicas: int, **spec: Any) -> Awaitable[Any]:
            return pods.apply(gateway(replicas=replicas, **spec))

        await step("1 to 3", 3, scaled(3))
        names = [pod["metadata"]["name"] for pod in await pods.gateway_pods()]
        await step("a pod deleted", 3, pods.admin.delete("v1", "Pod", names[0], namespace=pods.namespace))
        await step("a pod evicted", 3, _evict(pods, names[1]))
        template = {"metadata": {"annotations": {"rolled": "yes"}}}
        await step("rolled", 3, scaled(3, podTemplateSpec=template))
        await step("3 to 1", 1, scaled(1, podTemplateSpec=template))
    figure("lost calls", lost)
    figure("answered", len(seen.answered))
    figure("longest gap, s", round(seen.longest_gap, 2))
    assert not seen.failures, seen.failures[:5]


def _kill(pod: Object) -> None:
    """End a container's processes by SIGKILL, as the kernel does when memory is short."""
    layout = default_layout()
    container = pod["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    place = ["-a", str(layout.containerd_socket), "-n", "k8s.io"]
    subprocess.run([str(layout.bin / CTR), *place, "tasks", "kill", "-s", "SIGKILL", container], check=True)


@pytest.fixture
async def two_managers(deployed: None, admin: Kube) -> Any:
    async def scale(replicas: int) -> None:
        await admin.patch("apps/v1", "Deployment", MANAGER, {"spec": {"replicas": replicas}}, namespace=SYSTEM)
        await admin.wait_for(
            "apps/v1",
            "Deployment",
            MANAGER,
            namespace=SYSTEM,
            timeout=LONG,
            until=lambda found: (
                found is not None
                and found["status"].get("readyReplicas") == found["status"].get("replicas") == replicas
            ),
        )

    await scale(2)
    yield
    await scale(1)


async def test_the_second_manager_works_soon_after_the_first_is_killed(
    two_managers: None, pods: Pods, figure: Figure
) -> None:
    lease = await pods.admin.get(
        "coordination.k8s.io/v1", "Lease", "toolhive-operator-leader-election", namespace=SYSTEM
    )
    holder = lease["spec"]["holderIdentity"]
    (leader,) = [
        pod
        for pod in await pods.admin.list("v1", "Pod", namespace=SYSTEM)
        if holder.startswith(pod["metadata"]["name"])
    ]
    _kill(leader)
    began = time.monotonic()
    await pods.apply(group())
    await pods.until(API, "MCPGroup", "g", lambda found: found.get("status", {}).get("phase") == "Ready")
    took = time.monotonic() - began
    figure("works again after kill -9 of the leader, s", round(took, 1))
    assert took <= 20


async def test_a_deleted_gateway_leaves_nothing_and_a_namespace_with_everything_in_it_ends(
    pods: Pods, figure: Figure
) -> None:
    await _world(pods, "discovered")
    await pods.apply(gateway("second", replicas=2))
    await pods.gateway_is("Ready", "second")
    await pods.admin.delete(API, "VirtualMCPServer", "second", namespace=pods.namespace)

    async def nothing() -> bool:
        return not [left async for left in _left(pods, "second")]

    await eventually(nothing, within=LONG, every=0.2)
    began = time.monotonic()
    await pods.tear_down()
    took = time.monotonic() - began
    figure("a namespace with everything running ends after, s", round(took, 1))
    await pods.set_up()  # for the fixture to remove


async def _left(pods: Pods, name: str) -> Any:
    kinds = (
        *(("v1", kind) for kind in ("Pod", "Service", "ConfigMap", "Secret", "ServiceAccount")),
        ("apps/v1", "Deployment"),
        ("apps/v1", "ReplicaSet"),
        ("policy/v1", "PodDisruptionBudget"),
        ("networking.k8s.io/v1", "NetworkPolicy"),
        ("coordination.k8s.io/v1", "Lease"),
        *(("rbac.authorization.k8s.io/v1", kind) for kind in ("Role", "RoleBinding")),
    )
    for api, kind in kinds:
        for found in await pods.admin.list(api, kind, namespace=pods.namespace):
            if name in found["metadata"]["name"].split("-"):
                yield kind, found["metadata"]["name"]
