"""What a running gateway reports of its backends, under its generated Role: status, phase, columns and events."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from api.contract.reports import reporter_lease_name
from runtime.observe.metrics import RECONCILE_TOTAL
from runtime.testing.faultproxy import FaultProxy
from runtime.testing.faults import cut
from runtime.transport.config import load_endpoint
from tests.conftest import Scale
from tests.e2e.vmcp.kit import EchoBackend
from tests.envtest.controllers.kit import API, Object, conditions_of, header
from tests.envtest.controllers.lifecycles import shows
from tests.envtest.controllers.virtualmcpserver.conftest import KIND, Gateways
from tests.envtest.controllers.virtualmcpserver.pods import GatewayPod, start_pod, user_of
from tests.support.eventually import eventually

INTERVAL = 2
"""Seconds between two checks of a backend."""
QUICK = {
    "operational": {
        "failureHandling": {
            "healthCheckInterval": f"{INTERVAL}s",
            "healthCheckTimeout": "1s",
            "unhealthyThreshold": 2,
        }
    }
}
WITHIN = 30.0
"""Seconds to wait on a busy machine; what a report takes is measured elsewhere."""


@pytest.fixture
async def backends() -> AsyncIterator[tuple[EchoBackend, EchoBackend]]:
    found = EchoBackend("one"), EchoBackend("two")
    for backend in found:
        await backend.start()
    yield found
    for backend in found:
        await backend.stop(signal.SIGKILL)


@asynccontextmanager
async def running(cluster: Gateways, directory: Path, *resolve: str, **more: Any) -> AsyncIterator[GatewayPod]:
    pod = await start_pod(cluster, directory, *resolve, **more)
    try:
        yield pod
    finally:
        await pod.stop()
    pod.clean()


async def reported(cluster: Gateways, timeout: float = WITHIN, **wanted: str) -> Object:
    """Wait until the backends are reported in these states, and return the gateway's object."""

    def holds(found: Object | None) -> bool:
        listed = (found or {}).get("status", {}).get("discoveredBackends", [])
        return {item["name"]: item["status"] for item in listed} == wanted

    found = await cluster.admin.wait_for(API, KIND, "v", namespace=cluster.namespace, until=holds, timeout=timeout)
    assert found is not None
    return found


def columns(cluster: Gateways) -> dict[str, str]:
    """What `kubectl get` shows of the gateway."""
    shown = cluster.control_plane.kubectl("get", "vmcp", "v", "-n", cluster.namespace).stdout.splitlines()
    starts = [0] + [i for i in range(2, len(shown[0])) if shown[0][i - 2 : i] == "  " and shown[0][i] != " "]
    cells = [[line[a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)] for line in shown]
    return dict(zip(*cells, strict=True))


@asynccontextmanager
async def broken(port: int) -> AsyncIterator[None]:
    """A server that answers everything with 500."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=500)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port, reuse_address=True).start()
        yield
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("source", ["inline", "discovered"])
async def test_status_phase_columns_and_events_follow_a_backend(
    cluster: Gateways, backends: tuple[EchoBackend, EchoBackend], tmp_path: Path, source: str, scale: Scale
) -> None:
    one, two = backends
    await cluster.group()
    await cluster.secret("keys", k="s3cr3t-value")
    injection = {"headerName": "X-Auth", "valueSecretRef": {"name": "keys", "key": "k"}}
    await cluster.auth("auth", type="headerInjection", headerInjection=injection)
    await cluster.entry("one", remoteUrl=f"{one.entry['url']}?key=in-the-url", externalAuthConfigRef={"name": "auth"})
    await cluster.endpoint("two", remoteUrl=two.entry["url"])
    await cluster.gateway(outgoingAuth={"source": source}, config=QUICK)
    await cluster.config(until=lambda config: source == "discovered" or len(config.backends) == 2)
    await cluster.pod("p")
    async with running(cluster, tmp_path, one.resolve, two.resolve):
        found = (await reported(cluster, one="ready", two="ready"))["status"]
        first, second = found["discoveredBackends"]
        reference = {"authConfigRef": "auth"} if source == "discovered" else {}
        checked = first.pop("lastHealthCheck")
        assert checked.endswith("Z")
        assert first == {
            "name": "one",
            "url": one.entry["url"],
            "status": "ready",
            "authType": "header_injection",
            "circuitBreakerState": "closed",
            "consecutiveFailures": 0,
            "mcpRevision": "2025-11-25",
            **reference,
        }
        assert "authConfigRef" not in second
        assert (found["backendCount"], found["readyBackends"]) == (2, "2/2")
        await cluster.until(KIND, "v", phase="Ready", BackendsReported="True/ReportCurrent", Degraded="")

        await two.stop(signal.SIGKILL)
        began = time.monotonic()
        await reported(cluster, one="ready", two="unavailable")
        took = time.monotonic() - began
        down = await cluster.until(KIND, "v", phase="Degraded", Ready="False/BackendsDegraded")
        assert down["status"]["message"].endswith("1/2 backends available; down: two")
        assert conditions_of(down)["Degraded"] == ("True/BackendsDegraded", "1 of 2 backends are down: two")
        shown = columns(cluster)
        assert (shown["PHASE"], shown["BACKENDS"], shown["READY BACKENDS"]) == ("Degraded", "1", "1/2")
        event = await cluster.event("v", "Warning", "BackendDown")
        assert event["note"].startswith("backend two went down (two: ")
        assert took < 20, "two checks, and a busy machine"

        await two.start()
        await reported(cluster, one="ready", two="ready")
        await cluster.until(KIND, "v", phase="Ready", Degraded="")
        assert (await cluster.event("v", "Normal", "BackendRecovered"))["note"] == "backend two came back"
        assert columns(cluster)["READY BACKENDS"] == "2/2"

        if source == "discovered" and scale.long:
            assert one.process is not None
            one.process.send_signal(signal.SIGSTOP)
            await reported(cluster, one="unavailable", two="ready")
            one.process.send_signal(signal.SIGCONT)
            await reported(cluster, one="ready", two="ready")
            await one.stop(signal.SIGKILL)
            async with broken(one.port):
                found = await reported(cluster, one="unavailable", two="ready")
        everything = str(found)
        assert "s3cr3t-value" not in everything
        assert "in-the-url" not in everything


async def test_a_report_without_news_wakes_nobody_and_what_is_asked_is_what_the_role_allows(
    cluster: Gateways, backends: tuple[EchoBackend, EchoBackend], tmp_path: Path
) -> None:
    one, _ = backends
    await cluster.group()
    await cluster.endpoint("one", remoteUrl=one.entry["url"])
    await cluster.gateway(outgoingAuth={"source": "discovered"}, config=QUICK)
    await cluster.pod("p")
    async with running(cluster, tmp_path, one.resolve):
        await reported(cluster, one="ready")
        await cluster.until(KIND, "v", phase="Ready", BackendsReported="True/ReportCurrent")
        status = (await cluster.get(KIND, "v"))["status"]
        await cluster.come_to_rest()
        before = reconciles()
        for minute in range(3):
            # As the gateway does every five minutes: the same states, later times.
            moment = f"2099-01-01T00:0{minute}:00Z"
            again = [item | {"lastHealthCheck": moment} for item in status["discoveredBackends"]]
            own = [c for c in status["conditions"] if c["type"] == "BackendsDiscovered"]
            fields = {
                "backendCount": 1,
                "readyBackends": "1/1",
                "lastReportTime": moment,
                "discoveredBackends": again,
                "conditions": own,
            }
            body = {"apiVersion": API, "kind": KIND, "metadata": {"name": "v", "namespace": cluster.namespace}}
            await cluster.admin.apply(body | {"status": fields}, field_manager="mcp-vmcp", subresource="status")
        await cluster.assert_idle(1.0)
        assert reconciles() == before
    user = user_of(cluster.namespace, "v")
    asked: set[tuple[str, str]] = set()
    for event in cluster.control_plane.audit_events(user=user):
        reference = event.get("objectRef") or {}
        resource = "/".join(filter(None, (reference.get("resource", ""), reference.get("subresource", ""))))
        asked.add((event["verb"], resource))
    role = await cluster.owned("rbac.authorization.k8s.io/v1", "Role", "v-vmcp")
    allowed = {(verb, kind) for rule in role["rules"] for kind in rule["resources"] for verb in rule["verbs"]}
    assert asked <= allowed
    # A server without streaming lists (KEP-3157) is asked for lists; `get` of these kinds is what users' tools expect.
    unused = {(verb, kind) for verb, kind in allowed - asked if verb not in ("get", "list")}
    assert unused == set(), "nothing is allowed that is not used"


@shows(KIND, "BackendsReported=True/ReportCurrent", "BackendsReported=False/ReporterGone")
async def test_a_report_is_out_of_date_once_no_pod_is_ready(cluster: Gateways) -> None:
    await cluster.group()
    await cluster.endpoint("d", remoteUrl="https://d.example.com/mcp")
    await cluster.gateway()
    await cluster.pod("p")
    await cluster.report({"d": "unavailable"}, circuit="open")
    await cluster.until(KIND, "v", phase="Degraded", BackendsReported="True/ReportCurrent")
    await cluster.until("MCPRemoteEndpoint", "d", phase="Failed", Ready="False/BackendUnavailable")
    await cluster.admin.delete("v1", "Pod", "p", namespace=cluster.namespace)
    await cluster.until(KIND, "v", phase="Pending", BackendsReported="False/ReporterGone")
    await cluster.until("MCPRemoteEndpoint", "d", phase="Ready")
    await cluster.pod("q")
    await cluster.until(KIND, "v", phase="Degraded", BackendsReported="True/ReportCurrent")


@shows(KIND, "BackendsReported=False/ReportOverdue")
async def test_a_report_that_is_too_old_counts_no_more_until_the_next_one(cluster: Gateways) -> None:
    await cluster.group()
    await cluster.gateway()
    await cluster.pod("p")
    await cluster.report({"e": "unavailable"}, at="2020-01-01T00:00:00Z")
    await cluster.until(KIND, "v", phase="Ready", BackendsReported="False/ReportOverdue")
    await cluster.report({"e": "unavailable"})
    await cluster.until(KIND, "v", phase="Degraded", BackendsReported="True/ReportCurrent")


@shows(KIND, "BackendsDiscovered=True/ReportTruncated")
async def test_a_report_of_many_backends_fits_and_says_what_it_leaves_out(
    cluster: Gateways, tmp_path: Path, scale: Scale
) -> None:
    """Backends that nobody answers for, and whose URLs are long."""
    await cluster.group()
    await cluster.gateway(outgoingAuth={"source": "discovered"})
    count, path = scale(400, 1000), "/x" * 240
    tasks = [
        cluster.entry(f"member-{number:04}", remoteUrl=f"http://closed.example:9{path}/mcp") for number in range(count)
    ]
    for start in range(0, count, 50):
        await asyncio.gather(*tasks[start : start + 50])
    await cluster.pod("p")

    def all_counted(found: Object | None) -> bool:
        return (found or {}).get("status", {}).get("readyBackends") == f"0/{count}"

    async with running(cluster, tmp_path, "closed.example:9:127.0.0.1"):
        found = await cluster.admin.wait_for(API, KIND, "v", namespace=cluster.namespace, until=all_counted, timeout=90)
        assert found is not None
        assert conditions_of(found)["BackendsDiscovered"][0] == "True/ReportTruncated"
        assert len(found["status"]["discoveredBackends"]) < count
        names = [f"member-{number:04}" for number in range(count)]
        for start in range(200, count, 50):
            await asyncio.gather(*(cluster.delete("MCPServerEntry", name) for name in names[start : start + 50]))
        await cluster.until(KIND, "v", timeout=60, BackendsDiscovered="True/BackendsDiscovered")


async def test_one_replica_reports_and_another_takes_over_when_it_is_killed(
    cluster: Gateways, backends: tuple[EchoBackend, EchoBackend], tmp_path: Path
) -> None:
    one, two = backends
    await cluster.group()
    await cluster.endpoint("one", remoteUrl=one.entry["url"])
    await cluster.endpoint("two", remoteUrl=two.entry["url"])
    await cluster.gateway(outgoingAuth={"source": "discovered"}, config=QUICK)
    await cluster.pod("p")
    resolve = one.resolve, two.resolve
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    async with running(cluster, tmp_path / "a", *resolve) as first:
        await reported(cluster, one="ready", two="ready")
        holder = await holder_of(cluster)
        async with running(cluster, tmp_path / "b", *resolve) as second:
            await second.serves("one", "two")
            await first.stop(signal.SIGKILL)
            await two.stop(signal.SIGKILL)
            await reported(cluster, timeout=60.0, one="ready", two="unavailable")
            taken = await holder_of(cluster)
            assert taken != holder
        # In good order the lease is given back at once.
        assert await holder_of(cluster) == ""
    owner = (await cluster.get(KIND, "v"))["metadata"]["uid"]
    assert [one["uid"] for one in (await lease_of(cluster))["metadata"]["ownerReferences"]] == [owner], "goes with it"


def reconciles() -> float:
    """Reconciles of all controllers of this process so far."""
    samples = (sample for metric in RECONCILE_TOTAL.collect() for sample in metric.samples)
    return sum(sample.value for sample in samples if sample.name.endswith("_total"))


async def lease_of(cluster: Gateways) -> Object:
    return await cluster.admin.get(
        "coordination.k8s.io/v1", "Lease", reporter_lease_name("v"), namespace=cluster.namespace
    )


async def holder_of(cluster: Gateways) -> str:
    return str((await lease_of(cluster))["spec"].get("holderIdentity") or "")


async def test_without_an_api_server_it_goes_on_serving_and_reports_when_there_is_one_again(
    cluster: Gateways, backends: tuple[EchoBackend, EchoBackend], tmp_path: Path
) -> None:
    one, _ = backends
    await cluster.group()
    await cluster.entry(
        "one", remoteUrl=one.entry["url"], headerForward={"addHeadersFromSecret": [header("X-Key", "keys", "k")]}
    )
    await cluster.secret("keys", k="one")
    await cluster.gateway(outgoingAuth={"source": "discovered"}, config=QUICK)
    await cluster.pod("p")
    endpoint = await load_endpoint(str(cluster.control_plane.kubeconfig))
    async with FaultProxy(endpoint) as proxy, running(cluster, tmp_path, one.resolve, server=proxy.url) as pod:
        await reported(cluster, one="ready")
        proxy.on(lambda _: True, cut())
        proxy.reset_streams()
        await one.stop(signal.SIGKILL)

        async def noticed() -> bool:
            (backend,) = (await pod.status())["backends"]
            return bool(backend["health"] == "unhealthy")

        await eventually(noticed, within=WITHIN)
        assert (await pod.readiness())[0] == 200
        proxy.clear()
        await reported(cluster, timeout=60.0, one="unavailable")
