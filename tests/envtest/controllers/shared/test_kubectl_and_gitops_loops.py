"""What people and GitOps tools write with kubectl of three minor versions neither drifts nor grows."""

from __future__ import annotations

import asyncio
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack.controlplane.handle import Handle
from hack.controlplane.programs import kubernetes_version
from hack.controlplane.rest import Kube
from tests.conftest import LONG, Scale
from tests.envtest.controllers.kit import API, URL, Cluster
from tests.support.gotools import build

NEWEST = kubernetes_version()
OLDER = [pytest.param(v, marks=pytest.mark.skipif(not LONG, reason="TEST_LONG")) for v in ("1.34.13", "1.35.10")]
"""Built from Go modules, which takes minutes the first time."""
REMOTE = {"remoteUrl": URL, "transport": "sse", "groupRef": {"name": "g"}}
SPECS: dict[str, dict[str, Any]] = {
    "MCPGroup": {"description": "a"},
    "MCPExternalAuthConfig": {"type": "unauthenticated"},
    "MCPServerEntry": REMOTE | {"externalAuthConfigRef": {"name": "g"}},
    "MCPRemoteEndpoint": REMOTE | {"type": "direct"},
    "VirtualMCPServer": {
        "groupRef": {"name": "g"},
        "incomingAuth": {"type": "anonymous"},
        "outgoingAuth": {"source": "inline"},
    },
}
NAMES = {"MCPRemoteEndpoint": "d"}
"""Of each object; a name may be used once among the members."""


@dataclass(frozen=True)
class Kubectl:
    """kubectl of one version, in one namespace."""

    program: Path
    handle: Handle
    namespace: str

    def __call__(self, *arguments: str, stdin: str | None = None, ok: tuple[int, ...] = (0,), **env: str) -> str:
        cache = self.handle.directory / f"cache-{self.program.name}"
        done = subprocess.run(
            [str(self.program), f"--cache-dir={cache}", *arguments, "-n", self.namespace],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env=self.handle.environment() | env,
        )
        assert done.returncode in ok, done.stderr
        return done.stdout


@pytest.fixture
def kubectl(request: pytest.FixtureRequest, control_plane: Handle, namespace: str) -> Kubectl:
    version: str = request.param
    if version == NEWEST:
        program = control_plane.kubectl_path
    else:
        program = build("kubectl", modfile=f"v{version.rpartition('.')[0]}.mod", version=version)
    return Kubectl(program, control_plane, namespace)


@pytest.fixture
async def everything(admin: Kube, namespace: str, control_plane: Handle, start_operator: Any) -> Cluster:
    await start_operator()
    return Cluster(admin, namespace, control_plane)


def manifests(namespace: str) -> str:
    return yaml.safe_dump_all(
        {
            "apiVersion": API,
            "kind": kind,
            "metadata": {"name": NAMES.get(kind, "g"), "namespace": namespace},
            "spec": spec,
        }
        for kind, spec in SPECS.items()
    )


async def settled(cluster: Cluster) -> None:
    for kind in SPECS:
        if kind != "VirtualMCPServer":
            await cluster.until(kind, NAMES.get(kind, "g"), Ready=READY[kind])
    await cluster.until("VirtualMCPServer", "g", BackendsIncluded="True/AllMembersIncluded")
    await cluster.come_to_rest()


READY = {
    "MCPGroup": "True/GroupReady",
    "MCPExternalAuthConfig": "True/ConfigReady",
    "MCPServerEntry": "True/EntryReady",
    "MCPRemoteEndpoint": "True/EndpointReady",
}


async def versions(cluster: Cluster) -> dict[str, str]:
    """resourceVersion of everything that the user or the operator wrote."""
    found = {}
    generated = [("apps/v1", "Deployment"), ("v1", "Service"), ("v1", "ConfigMap"), ("v1", "ServiceAccount")]
    for api, kind in [*((API, kind) for kind in SPECS), *generated]:
        for item in await cluster.admin.list(api, kind, namespace=cluster.namespace):
            metadata = item["metadata"]
            found[f"{kind}/{metadata['name']}"] = metadata["resourceVersion"]
    return found


@pytest.mark.parametrize("kubectl", [*OLDER, NEWEST], indirect=True)
@pytest.mark.parametrize("way", [("apply",), ("apply", "--server-side")], ids=["client-side", "server-side"])
async def test_what_is_applied_again_changes_nothing_and_edits_are_taken_up(
    everything: Cluster, kubectl: Kubectl, way: tuple[str, ...]
) -> None:
    text = manifests(everything.namespace)
    await asyncio.to_thread(kubectl, *way, "-f", "-", stdin=text)
    await settled(everything)
    before = await versions(everything)
    await asyncio.to_thread(kubectl, *way, "-f", "-", stdin=text)
    flags = way[1:]
    assert await asyncio.to_thread(kubectl, "diff", *flags, "-f", "-", stdin=text) == "", "nothing drifts"
    await everything.come_to_rest()
    assert await versions(everything) == before
    editor = "sed -i s/mcp.example.com/other.example.com/"
    await asyncio.to_thread(kubectl, "edit", "mcpserverentry/g", KUBE_EDITOR=editor)
    found = await everything.until("MCPServerEntry", "g", Ready="True/EntryReady")
    assert found["spec"]["remoteUrl"] == "https://other.example.com/mcp"
    done = await asyncio.to_thread(kubectl, "wait", "--for=condition=Ready", "mcpserverentry/g", "--timeout=20s")
    assert "condition met" in done
    # The edit is another field manager's: taking the field back must be asked for.
    forced = [*flags, "--force-conflicts"] if flags else []
    shown = await asyncio.to_thread(kubectl, "diff", *forced, "-f", "-", stdin=text, ok=(1,))
    changed = [line for line in shown.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    assert all("remoteUrl" in line or "generation" in line for line in changed), "only the user's own edit differs"
    await asyncio.to_thread(kubectl, "apply", *forced, "-f", "-", stdin=text)
    assert await asyncio.to_thread(kubectl, "diff", *flags, "-f", "-", stdin=text) == ""


@pytest.mark.parametrize("kubectl", [NEWEST], indirect=True)
@pytest.mark.parametrize("way", [("apply",), ("apply", "--server-side")], ids=["client-side", "server-side"])
async def test_a_loop_that_applies_every_second_makes_nothing_grow(
    everything: Cluster, kubectl: Kubectl, way: tuple[str, ...], scale: Scale
) -> None:
    """As a GitOps tool does it, with its own field manager, for some seconds or for five minutes."""
    text = manifests(everything.namespace)
    await asyncio.to_thread(kubectl, *way, "-f", "-", stdin=text)
    await settled(everything)
    before, asked = await versions(everything), len(list(everything.requests()))
    end = time.monotonic() + scale(5, 300)
    while time.monotonic() < end:
        began = time.monotonic()
        await asyncio.to_thread(kubectl, *way, "-f", "-", stdin=text)
        await asyncio.sleep(max(0.0, 1.0 - (time.monotonic() - began)))
    assert await versions(everything) == before
    assert [f"{e['verb']} {e['requestURI']}" for e in everything.requests()][asked:] == []
