"""`make deploy` and `make undeploy`, `make install` and `make uninstall`: what was made goes, finalizers included."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from pathlib import Path
from typing import Any

from hack.controlplane import GARBAGE_COLLECTION, Kube, Options
from hack.controlplane.handle import Handle
from hack.run.operator import Manager, install, rendered

ROOT = Path(__file__).parents[3]
GROUP = ("toolhive.stacklok.dev/v1beta1", "MCPGroup")
IMAGES = ("IMG=example.com/mcp-operator:1", "VMCP_IMG=example.com/mcp-vmcp:1")


def make(handle: Handle, *words: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run a target as a user with this cluster in the kubeconfig does."""
    environment = os.environ | {"KUBECONFIG": str(handle.kubeconfig)}
    command = ["make", "-s", *words, f"KUBECTL={handle.kubectl_path}"]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )


def left(handle: Handle) -> str:
    """What of an installation is there."""
    kinds = "customresourcedefinitions,clusterroles,clusterrolebindings,namespaces"
    names = handle.kubectl("get", kinds, "-o", "name").stdout.splitlines()
    return " ".join(name for name in names if "toolhive" in name or "mcp" in name)


def going(found: dict[str, Any] | None) -> bool:
    """Whether an object is gone or about to be."""
    return found is None or "deletionTimestamp" in found["metadata"]


async def test_undeploy_removes_everything_while_the_operator_can_still_let_go(make_control_plane):
    plane = await asyncio.to_thread(make_control_plane, Options(controllers=GARBAGE_COLLECTION))
    handle = plane.handle
    done = await asyncio.to_thread(make, handle, "deploy", *IMAGES)
    assert done.returncode == 0, done.stderr
    async with Kube(handle.kubeconfig) as kube, contextlib.AsyncExitStack() as stack:
        system, account = await install(kube, rendered(handle, "default"))
        manager = Manager(handle, system, account)
        stack.callback(manager.process.stop, timeout=20)
        await asyncio.to_thread(manager.start)

        async def follow_namespace() -> None:
            """There is no kubelet: the process ends as its pod would, with the namespace."""
            await kube.wait_for("v1", "Namespace", system, until=going, timeout=120)
            await asyncio.to_thread(manager.process.kill)

        ending = asyncio.create_task(follow_namespace())
        await asyncio.to_thread(handle.kubectl, "apply", "-k", str(ROOT / "config" / "samples"))
        await kube.wait_for(
            GROUP[0],
            "MCPExternalAuthConfig",
            "crm-exchange",
            namespace="default",
            until=lambda found: bool((found or {}).get("metadata", {}).get("finalizers")),
        )
        removed = await asyncio.to_thread(make, handle, "undeploy", *IMAGES, timeout=150)
        assert removed.returncode == 0, removed.stdout + removed.stderr
        await ending
        assert left(handle) == ""


async def test_uninstall_says_what_to_do_when_nobody_removes_finalizers(make_control_plane):
    plane = await asyncio.to_thread(make_control_plane, Options(controllers=GARBAGE_COLLECTION))
    handle = plane.handle
    done = await asyncio.to_thread(make, handle, "install")
    assert done.returncode == 0, done.stderr
    async with Kube(handle.kubeconfig) as kube:
        held = {"name": "g", "namespace": "default", "finalizers": ["toolhive.stacklok.dev/mcpgroup-finalizer"]}
        await kube.create({"apiVersion": GROUP[0], "kind": GROUP[1], "metadata": held, "spec": {}})
        refused = await asyncio.to_thread(make, handle, "uninstall", "PATIENCE=2s")
        assert refused.returncode != 0
        assert "docs/operations.md" in refused.stderr
        # As that page says.
        await kube.patch(*GROUP, "g", {"metadata": {"finalizers": None}}, namespace="default")
        done = await asyncio.to_thread(make, handle, "uninstall")
        assert done.returncode == 0, done.stderr
        assert left(handle) == ""
