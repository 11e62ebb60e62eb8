"""Gateways in real pods: the first apply, the end of a pod, changes, and what is said of what does not start."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from tests.cluster.kit import API, LONG, Figure, Load, Pods, endpoint, entry, gateway, group, load, served
from tests.e2e.vmcp.kit import Client
from tests.envtest.controllers.kit import certificate, header
from tests.support.eventually import eventually

FIRST_APPLIES = 6


async def test_a_first_apply_of_everything_at_once_starts_without_a_crash(pods: Pods, figure: Figure) -> None:
    """Group, members with a Secret and with an authority, and the gateway, in one file, as users do."""
    await pods.server()
    bundle = {"configMapRef": {"name": "pki", "key": "ca.crt"}}
    secret = {"addHeadersFromSecret": [header("X-Key", "keys", "k")]}
    everything = [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": {"k": "v"}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "pki"}, "data": {"ca.crt": certificate()}},
        group(),
        entry("plain", pods.namespace),
        entry("secure", pods.namespace, caBundleRef=bundle),
        endpoint("keyed", pods.namespace, headerForward=secret),
        gateway(),
    ]
    seconds, revisions, crashes = [], [], 0
    for _ in range(FIRST_APPLIES):
        start = time.monotonic()
        await pods.apply(*everything)
        await pods.gateway_is("Ready")
        seconds.append(round(time.monotonic() - start, 1))
        await served(pods, "plain_echo", "secure_echo", "keyed_echo")
        crashes += await pods.restarts()
        deployment = await pods.admin.get("apps/v1", "Deployment", "gw", namespace=pods.namespace)
        revisions.append(int(deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"]))
        for body in reversed(everything):
            await pods.admin.delete(
                body["apiVersion"], body["kind"], body["metadata"]["name"], namespace=pods.namespace
            )
        await eventually(lambda: _gone(pods), within=LONG, every=0.1)
    figure("Ready after apply, s", seconds)
    assert crashes == 0
    assert revisions == [1] * FIRST_APPLIES, "the first template has what the configuration needs"


async def _gone(pods: Pods) -> bool:
    kinds = ("MCPGroup", "VirtualMCPServer")
    left = [
        await pods.admin.find(API, kind, name, namespace=pods.namespace)
        for kind, name in zip(kinds, ("g", "gw"), strict=True)
    ]
    return not any(left) and not await pods.gateway_pods()


async def _plain(pods: Pods, **spec: Any) -> str:
    await pods.server()
    await pods.apply(group(), entry("plain", pods.namespace), gateway(**spec))
    await pods.gateway_is("Ready")
    await served(pods, "plain_echo")
    return await pods.url()


async def test_the_only_pod_is_deleted_and_no_call_is_lost(pods: Pods, figure: Figure) -> None:
    url = await _plain(pods)
    async with load(url, "plain_echo") as seen:
        await _some(seen, 20)
        (old,) = await pods.gateway_pods()
        await pods.admin.delete("v1", "Pod", old["metadata"]["name"], namespace=pods.namespace)

        async def replaced() -> bool:
            return [pod["metadata"]["uid"] for pod in await pods.gateway_pods()] not in (
                [],
                [old["metadata"]["uid"]],
            ) and all(pod["metadata"]["uid"] != old["metadata"]["uid"] for pod in await pods.gateway_pods())

        await eventually(replaced, within=LONG, every=0.1)
        await _some(seen, 20)
    figure("longest gap when the only pod is deleted, s", round(seen.longest_gap, 2))
    figure("failed tries", len(seen.failures))
    assert seen.longest_gap < 10, seen.failures[:5]


async def _some(seen: Load, more: int) -> None:
    """Wait for so many answers from here on."""
    goal = len(seen.answered) + more

    async def reached() -> bool:
        return len(seen.answered) >= goal

    await eventually(reached, within=LONG, every=0.1)


async def test_a_call_of_25_seconds_survives_the_end_of_its_pod(pods: Pods) -> None:
    url = await _plain(pods)
    async with Client(url, era="modern") as client:
        calling = asyncio.create_task(client.call("plain_slow", nonce="late", seconds=25))
        status = f"{url}/status"

        async def under_way() -> bool:
            return not calling.done() and bool(status)

        await eventually(under_way, within=LONG, every=0.1)
        await asyncio.wait({calling}, timeout=1)  # it is with the backend now
        (old,) = await pods.gateway_pods()
        await pods.admin.delete("v1", "Pod", old["metadata"]["name"], namespace=pods.namespace)
        assert (await asyncio.wait_for(calling, 60)).told["nonce"] == "late"


async def test_a_packed_configuration_is_read_by_pods_and_replaces_a_plain_one(pods: Pods) -> None:
    await _plain(pods, config={"metadata": {"filler": "word " * 200_000}})
    assert await pods.restarts() == 0
    found = await pods.gateway_is("Ready")
    reasons = [condition["reason"] for condition in found["status"]["conditions"]]
    assert "ConfigCompressed" in reasons


async def test_a_member_that_is_added_is_served_without_a_restart(pods: Pods, figure: Figure) -> None:
    """With kubelet's default syncFrequency of a minute."""
    await _plain(pods)
    (before,) = await pods.gateway_pods()
    start = time.monotonic()
    await pods.apply(entry("late", pods.namespace))
    await served(pods, "late_echo")
    figure("a member is served after, s", round(time.monotonic() - start, 1))
    (after,) = await pods.gateway_pods()
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert await pods.restarts() == 0


async def test_a_gateway_that_cannot_start_says_why_and_one_that_finds_its_members_does(pods: Pods) -> None:
    template = {"spec": {"containers": [{"name": "vmcp", "args": ["serve", "--config=/nowhere.yaml"]}]}}
    await pods.apply(
        group(), gateway(podTemplateSpec=template), gateway("found", outgoingAuth={"source": "discovered"})
    )
    await pods.gateway_is("Ready", "found")
    assert await pods.restarts("found") == 0

    def explained(found: dict[str, Any]) -> bool:
        status = found.get("status", {})
        return status.get("phase") == "Failed" and "/nowhere.yaml cannot be read" in status.get("message", "")

    await pods.until(API, "VirtualMCPServer", "gw", explained)


async def test_the_manager_was_ready_all_the_time(pods: Pods) -> None:
    """The last test: quiet kinds had a minute and more to be silent in."""
    found = await pods.admin.list("v1", "Pod", namespace="mcp-operator-system")
    (manager,) = [
        pod for pod in found if pod["metadata"].get("labels", {}).get("control-plane") == "controller-manager"
    ]
    events = await pods.admin.list("v1", "Event", namespace="mcp-operator-system")
    red = [event["message"] for event in events if event["reason"] == "Unhealthy" and "Readiness" in event["message"]]
    (status,) = manager["status"]["containerStatuses"]
    assert status["restartCount"] == 0
    assert not [message for message in red if "no sign of life" in message or "503" in message], red
