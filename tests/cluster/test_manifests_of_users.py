"""ToolHive's kinds as users write them, applied with kubectl, and SDK clients that call what comes of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hack.controlplane.rest import Object
from tests.cluster.kit import API, LONG, MANAGER, PROGRAMS, SYSTEM, Pods
from tests.cluster.pki import authority
from tests.support.eventually import eventually

MANIFESTS = Path(__file__).with_name("manifests")
CALLED = {
    "notes_author": "client asked notes",
    "vault_whose": "client asked vault",
    "search_add": "4",
    "search_whose": "client asked search",
    "tickets_add": "4",
    "tickets_whose": "client asked search",
    "crm_add": "4",
    "crm_whose": "client asked crm",
}
"""What the manifests show of the servers' tools: a filter, an override, and a policy hide or change some of them."""
VERSIONS = {1: "2025-11-25", 2: "2026-07-28"}
"""By line of the SDK: the protocol's version that it speaks with a gateway."""


@pytest.fixture
def dialect(deployed: None, kubectl: Any, request: pytest.FixtureRequest) -> Iterator[str]:
    """Let the manager talk to gateways in this dialect."""
    if request.param == "native":
        yield request.param
        return

    def patch(change: dict[str, Any]) -> None:
        place = ["-n", SYSTEM, "patch", "deployment", MANAGER, "--type=json", "-p", json.dumps([change])]
        kubectl(*place)
        kubectl("-n", SYSTEM, "rollout", "status", f"deployment/{MANAGER}", "--timeout=120s")

    place = "/spec/template/spec/containers/0/args/0"
    patch({"op": "add", "path": place, "value": f"--vmcp-dialect={request.param}"})
    yield request.param
    patch({"op": "remove", "path": place})


async def _servers(pods: Pods) -> None:
    """Run what the manifests describe, servers of both lines of the SDK; and the secrets that nobody keeps in files."""
    pem, key_pair = authority("vault")
    await pods.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "vault-tls"}, "stringData": key_pair},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "private-ca"}, "data": {"ca.crt": pem}},
    )
    await asyncio.gather(
        pods.sdk_server("notes"),
        pods.sdk_server("vault", line=1, tls="vault-tls"),
        pods.sdk_server("search", REQUIRED_HEADER="X-Api-Key: swordfish"),
        pods.sdk_server("crm", line=1, REQUIRED_AUDIENCE="crm"),
        pods.sdk_server("client"),  # a pod to run clients in
        pods.issuer("http://issuer:8000"),
    )


@pytest.mark.parametrize("dialect", ["native", "toolhive"], indirect=True)
async def test_gateways_of_plain_manifests_become_ready_and_sdk_clients_in_a_pod_call_every_tool(
    dialect: str, pods: Pods, kubectl: Any
) -> None:
    await _servers(pods)
    native = dialect == "native"
    files = [file for file in sorted(MANIFESTS.glob("*.yaml")) if native or file.name != "proxy.yaml"]
    kubectl("-n", pods.namespace, "apply", *(f"--filename={file}" for file in files))
    token = await pods.token()

    async def called(url: str, line: int) -> Object:
        program = (PROGRAMS / "sdk_client.py").read_text()
        command = [f"/sdk{line}/bin/python", "-", f"{url}/mcp", token]
        place = ["-n", pods.namespace, "exec", "-i", "deployment/client", "--"]
        return json.loads(await asyncio.to_thread(kubectl, *place, *command, text=program))

    async def tells(url: str, line: int, wanted: Object) -> bool:
        assert await called(url, line) == wanted
        return True

    for name in ("inline", "discovered"):
        found = await pods.gateway_is("Ready", name)
        url = found["status"]["url"]
        expected = CALLED
        if not native and name == "discovered":  # ToolHive's gateways do not find this kind by themselves
            expected = {tool: text for tool, text in CALLED.items() if not tool.startswith("search_")}
            (left_out,) = [item for item in found["status"]["conditions"] if item["type"] == "BackendsIncluded"]
            assert "search (NotSupported)" in left_out["message"]
        for line, version in VERSIONS.items():
            wanted = {"version": version, "tools": expected}
            await eventually(partial(tells, url, line, wanted), within=LONG, every=0.5)
        assert await pods.restarts(name) == 0
    if native:
        ready = await pods.until(
            API, "MCPRemoteEndpoint", "diary", lambda found: found.get("status", {}).get("phase") == "Ready"
        )
        assert (await called(ready["status"]["url"].removesuffix("/mcp"), 2))["tools"] == {
            "add": "4",
            "whose": "client asked notes",
        }
