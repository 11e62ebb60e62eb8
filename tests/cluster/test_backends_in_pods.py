"""What backends ask of a gateway, and what users see of them: tokens of callers, and servers that die and come back."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import aiohttp

from hack.controlplane.rest import Object
from tests.cluster.kit import API, LONG, Figure, Pods, entry, gateway, group, served, server
from tests.e2e.vmcp.kit import Client
from tests.support.eventually import eventually

INTERVAL = 5
"""Seconds between two looks at a backend; one failed look is enough."""
CHECKS = {"healthCheckInterval": f"{INTERVAL}s", "healthCheckTimeout": "2s", "unhealthyThreshold": 1}


async def test_a_token_exchange_at_an_issuer_in_a_pod(pods: Pods) -> None:
    """Callers' tokens are checked and exchanged: who has none is refused, and the server sees its own audience."""
    await pods.server("srv", REQUIRED_AUDIENCE="srv")
    issuer = f"http://issuer.{pods.namespace}.svc:8000"
    await pods.issuer(issuer)
    address = (await pods.admin.get("v1", "Service", "issuer", namespace=pods.namespace))["spec"]["clusterIP"]
    oidc = {"issuer": issuer, "jwksAllowPrivateIP": True, "insecureAllowHTTP": True}
    exchange = {"tokenUrl": f"{issuer}/token", "audience": "srv"}
    await pods.apply(
        group(),
        {
            "apiVersion": API,
            "kind": "MCPExternalAuthConfig",
            "metadata": {"name": "exchange"},
            "spec": {"type": "tokenExchange", "tokenExchange": exchange},
        },
        {
            "apiVersion": API,
            "kind": "MCPOIDCConfig",
            "metadata": {"name": "users"},
            "spec": {"type": "inline", "inline": oidc},
        },
        entry("crm", pods.namespace, "srv", externalAuthConfigRef={"name": "exchange"}),
    )
    incoming = {"type": "oidc", "oidcConfigRef": {"name": "users", "audience": "gateway"}}
    # Callers' tokens go out without TLS, and to a private address: both are refused unless the pod says otherwise.
    allowed = {"VMCP_ALLOW_HTTP_TOKEN_URL": "true", "VMCP_ALLOWED_NETWORKS": f"{address}/32"}
    environ = [{"name": name, "value": value} for name, value in allowed.items()]
    template = {"spec": {"containers": [{"name": "vmcp", "env": environ}]}}
    for source in ("inline", "discovered"):
        outgoing = {"source": source}
        await pods.apply(gateway(source, incomingAuth=incoming, outgoingAuth=outgoing, podTemplateSpec=template))
    token = await pods.token()
    for source in ("inline", "discovered"):
        await pods.gateway_is("Ready", source)
        url = await pods.url(source)

        async def called(url: str = url) -> bool:
            with contextlib.suppress(aiohttp.ClientError, AssertionError):
                async with Client(url, era="modern", token=token) as client:
                    return (
                        "crm_echo" in await client.tools()
                        and (await client.call("crm_echo", nonce="x")).told["nonce"] == "x"
                    )
            return False

        await eventually(called, within=LONG, every=0.2)
        async with Client(url, era="modern") as anonymous:
            assert (await anonymous.request("tools/list")).status == 401


async def test_status_columns_and_events_follow_a_server_in_a_pod(pods: Pods, kubectl: Any, figure: Figure) -> None:
    """It is killed, answers 500, and comes back."""
    await pods.server()
    await pods.server("other")
    await pods.apply(
        group(),
        entry("plain", pods.namespace),
        entry("frail", pods.namespace, "other"),
        gateway(config={"operational": {"failureHandling": CHECKS}}),
    )
    await pods.gateway_is("Ready")
    await served(pods, "plain_echo", "frail_echo")
    seconds = {}

    async def change(name: str, usable: str, phase: str, replicas: int, **environ: str) -> None:
        (deployment,) = [body for body in server("other", **environ) if body["kind"] == "Deployment"]
        deployment["spec"]["replicas"] = replicas
        await pods.apply(deployment)
        if replicas:
            await pods.until("apps/v1", "Deployment", "other", _rolled)
        else:
            await pods.until("apps/v1", "Deployment", "other", lambda found: not found["status"].get("replicas"))
        began = time.monotonic()

        def told(found: Object) -> bool:
            status = found["status"]
            return status.get("readyBackends") == usable and status["phase"] == phase

        await pods.until(API, "VirtualMCPServer", "gw", told)
        seconds[name] = round(time.monotonic() - began, 1)

    def shown() -> str:
        return str(kubectl("-n", pods.namespace, "get", "vmcp", "gw", "--no-headers"))

    await change("killed", "1/2", "Degraded", 0)
    found = await pods.admin.get(API, "VirtualMCPServer", "gw", namespace=pods.namespace)
    states = {item["name"]: item["status"] for item in found["status"]["discoveredBackends"]}
    assert states == {"plain": "ready", "frail": "unavailable"}
    assert "1/2" in shown()
    await change("back", "2/2", "Ready", 1)
    assert "2/2" in shown()
    await change("answers 500", "1/2", "Degraded", 1, STATUS="500")
    await change("back again", "2/2", "Ready", 1)
    figure("told after, s", seconds)
    reasons = await reasons_of_events(pods)
    assert {"BackendDown", "BackendRecovered"} <= reasons
    assert max(seconds.values()) <= 2 * INTERVAL, seconds


def _rolled(found: Object) -> bool:
    status = found.get("status", {})
    counts = [status.get(name, 0) for name in ("replicas", "updatedReplicas", "readyReplicas")]
    return bool(status.get("observedGeneration") == found["metadata"]["generation"] and counts == [1] * 3)


async def reasons_of_events(pods: Pods) -> set[str]:
    """Wait for the events of both kinds, which operators write a moment after the status."""
    reasons: set[str] = set()

    async def both() -> bool:
        for event in await pods.admin.list("v1", "Event", namespace=pods.namespace):
            reasons.add(event["reason"])
        return {"BackendDown", "BackendRecovered"} <= reasons

    await eventually(both, within=LONG, every=0.2)
    return reasons
