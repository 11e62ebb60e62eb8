"""As docs/deploying.md says: with WATCH_NAMESPACE, RoleBindings in those namespaces are all the rights that the
operator needs."""

from __future__ import annotations

import asyncio
import contextlib
import re
from pathlib import Path

import yaml

from hack.controlplane import Kube, Options
from hack.run.operator import Manager, install, rendered

ROOT = Path(__file__).parents[3]
GATEWAY = ("toolhive.stacklok.dev/v1beta1", "VirtualMCPServer", "playground")


def role_binding() -> dict:
    """The RoleBinding that the page shows."""
    page = (ROOT / "docs" / "deploying.md").read_text(encoding="utf-8")
    shown = [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)]
    (binding,) = (document for document in shown if document.get("kind") == "RoleBinding")
    return binding


def applied(gateway) -> bool:
    conditions = (gateway or {}).get("status", {}).get("conditions") or []
    return any(c["type"] == "ObjectsApplied" and c["status"] == "True" for c in conditions)


async def test_one_namespace_is_served_without_any_right_outside_of_it(make_control_plane):
    plane = await asyncio.to_thread(make_control_plane, Options(crds=(ROOT / "config" / "crd" / "bases",)))
    handle = plane.handle
    objects = [body for body in rendered(handle, "default") if body["kind"] != "ClusterRoleBinding"]
    binding = role_binding()
    namespace = binding["metadata"]["namespace"]
    async with Kube(handle.kubeconfig) as kube, contextlib.AsyncExitStack() as stack:
        system, account = await install(kube, objects)
        for name in (namespace, "team-b"):
            await kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        await kube.create(binding)
        manager = Manager(handle, system, account, environment=(f"WATCH_NAMESPACE={namespace}",))
        stack.callback(manager.process.stop, timeout=20)
        await asyncio.to_thread(manager.start)
        for name in ("team-b", namespace):
            await asyncio.to_thread(handle.kubectl, "apply", "-n", name, "-k", str(ROOT / "config" / "samples"))
        await kube.wait_for(*GATEWAY, namespace=namespace, until=applied, timeout=30)
        other = await kube.get(*GATEWAY, namespace="team-b")
        assert "conditions" not in other.get("status", {})
        assert "forbidden" not in manager.process.log.read_text(encoding="utf-8")
