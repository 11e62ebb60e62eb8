"""The generated role is enough, and not more than enough: the API server's audit log is compared with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from controllers.mcpgroup.controller import FINALIZER
from hack import gen_rbac
from hack.controlplane.handle import Handle
from hack.controlplane.rest import Kube
from tests.support.operator import OPERATOR_USER, ROOT
from tests.support.samples import API, apply, samples, settled

RBAC = "rbac.authorization.k8s.io/v1"
Permission = tuple[str, str, str]
"""Verb, API group, resource with subresource."""


def granted() -> set[Permission]:
    """What the role allows, one by one."""
    role = yaml.safe_load((ROOT / "config" / "rbac" / "role.yaml").read_text(encoding="utf-8"))
    return {
        (verb, group, resource)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


async def handed_on(admin: Kube, namespace: str) -> set[Permission]:
    """What stands in the Roles that the operator made: it must hold that itself, whether it uses it or not."""
    return {
        (verb, group, resource)
        for role in await admin.list("rbac.authorization.k8s.io/v1", "Role", namespace=namespace)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def asked(control_plane: Handle, namespace: str) -> Iterator[tuple[Permission, bool]]:
    """Every request of the operator in a namespace, and whether it was forbidden; other tests run at the same time."""
    for event in control_plane.audit_events(user=OPERATOR_USER, namespace=namespace):
        reference = event["objectRef"]
        if reference["resource"] == "leases":
            continue
        subresource = f"/{reference['subresource']}" if "subresource" in reference else ""
        group, resource = reference.get("apiGroup", ""), reference["resource"] + subresource
        forbidden = event.get("annotations", {}).get("authorization.k8s.io/decision") == "forbid"
        yield (event["verb"], group, resource), forbidden or event.get("responseStatus", {}).get("code") == 403
        if event["verb"] == "patch" and event.get("responseStatus", {}).get("code") == 201:
            yield ("create", group, resource), False  # an apply that creates needs both; only the patch is logged


def test_the_files_are_current():
    permissions = gen_rbac.collect()
    assert gen_rbac.ROLE.read_text(encoding="utf-8") == gen_rbac.render_role(permissions)
    assert gen_rbac.PAGE.read_text(encoding="utf-8") == gen_rbac.render_page(permissions)


def test_the_role_is_of_the_rules_and_has_no_wildcards():
    assert granted() == {
        (verb, rule_group, resource)
        for _, rule in gen_rbac.declared()
        for rule_group in (rule.group,)
        for resource in rule.resources
        for verb in rule.verbs
    }
    assert not any("*" in part for permission in granted() for part in permission)


async def test_everything_that_a_user_may_do_needs_nothing_more_and_uses_all_of_it(
    operator_program, admin: Kube, namespace: str, control_plane: Handle
):
    bodies = samples(namespace)
    async with operator_program() as program:
        await program.log("manager started")
        await apply(admin, bodies)
        await settled(admin, bodies)
        needed = await handed_on(admin, namespace)
        await _edit_by_hand(admin, namespace)
        await _leave_a_finalizer(admin, namespace)
        needed |= await _change_modes(admin, namespace)
        await _delete_all(admin, bodies)

    forbidden = sorted({permission for permission, no in asked(control_plane, namespace) if no})
    assert forbidden == []

    used = {permission for permission, no in asked(control_plane, namespace) if not no}
    unused = names(granted() - needed - used)
    justified = set(gen_rbac.unused_but_needed())
    assert unused <= justified, f"granted, never used, not justified: {sorted(unused - justified)}"
    assert justified <= names(granted()), "justified, but not granted"


def names(permissions: set[Permission]) -> set[str]:
    """As the table in docs/reference/rbac.md writes them."""
    return {f"{verb} {resource}.{group}" if group else f"{verb} {resource}" for verb, group, resource in permissions}


async def _edit_by_hand(admin: Kube, namespace: str) -> None:
    """Damage what the operator made; it repairs each."""
    made = [
        ("apps/v1", "Deployment", {"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 1}}}}),
        ("v1", "Service", {"spec": {"ports": None}}),
        ("v1", "ConfigMap", {}),
        ("v1", "Secret", {"metadata": {"ownerReferences": None}}),  # as backup tools restore it
    ]
    for api, kind, patch in made:
        for found in await admin.list(api, kind, namespace=namespace):
            if not found["metadata"].get("ownerReferences"):
                continue
            name, version = found["metadata"]["name"], found["metadata"]["resourceVersion"]
            if kind == "ConfigMap":
                patch = {"data": dict.fromkeys(found["data"], "broken: true")}
            if kind == "Service":
                await admin.delete(api, kind, name, namespace=namespace)
            else:
                version = (await admin.patch(api, kind, name, patch, namespace=namespace))["metadata"][
                    "resourceVersion"
                ]
            await admin.wait_for(
                api,
                kind,
                name,
                namespace=namespace,
                until=lambda f, v=version: f is not None and f["metadata"]["resourceVersion"] != v,
            )


async def _leave_a_finalizer(admin: Kube, namespace: str) -> None:
    """Move in from ToolHive's operator, which holds each group; that is taken off."""
    group, *_ = await admin.list(API, "MCPGroup", namespace=namespace)
    name, held = group["metadata"]["name"], {"metadata": {"finalizers": [FINALIZER]}}
    await admin.patch(API, "MCPGroup", name, held, namespace=namespace)
    await admin.wait_for(
        API, "MCPGroup", name, namespace=namespace, until=lambda f: f is not None and "finalizers" not in f["metadata"]
    )


async def _change_modes(admin: Kube, namespace: str) -> set[Permission]:
    """Sources, dialects, an own account: Roles change, come and go. Returns what stood in them."""
    seen: set[Permission] = set()
    modes: list[dict[str, Any]] = [
        {"spec": {"outgoingAuth": {"source": "inline"}}},
        {"metadata": {"annotations": {"toolhive.stacklok.dev/vmcp-dialect": "toolhive"}}},
        {"spec": {"outgoingAuth": {"source": "discovered"}}},
        {"spec": {"serviceAccount": "my-own"}},
    ]
    for replicas in (2, 1):
        spec = {"replicas": replicas, "outgoingAuth": {"source": "inline"}}
        await admin.patch(API, "VirtualMCPServer", "engineering", {"spec": spec}, namespace=namespace)
        await admin.wait_for(
            "policy/v1",
            "PodDisruptionBudget",
            "vmcp-engineering",
            namespace=namespace,
            until=lambda found, wanted=replicas > 1: (found is not None) is wanted,
        )
    for wish in ("enabled", "disabled"):
        metadata = {"annotations": {"toolhive.stacklok.dev/network-policy": wish}}
        await admin.patch(API, "VirtualMCPServer", "engineering", {"metadata": metadata}, namespace=namespace)
        await admin.wait_for(
            "networking.k8s.io/v1",
            "NetworkPolicy",
            "vmcp-engineering",
            namespace=namespace,
            until=lambda found, wanted=wish == "enabled": (found is not None) is wanted,
        )
    for patch in modes:
        body = await admin.patch(API, "VirtualMCPServer", "engineering", patch, namespace=namespace)
        await settled(admin, [body])
        seen |= await handed_on(admin, namespace)
    for kind, api in (("ServiceAccount", "v1"), ("Role", RBAC), ("RoleBinding", RBAC)):
        await admin.wait_for(api, kind, "engineering-vmcp", namespace=namespace, until=lambda found: found is None)
    return seen


async def _delete_all(admin: Kube, bodies: list[dict[str, Any]]) -> None:
    """References before and after what refers to them; every finalizer lets go."""
    for body in bodies:
        where = body["metadata"]["namespace"]
        await admin.delete(body["apiVersion"], body["kind"], body["metadata"]["name"], namespace=where)
    for body in bodies:
        await admin.wait_for(
            body["apiVersion"],
            body["kind"],
            body["metadata"]["name"],
            namespace=body["metadata"]["namespace"],
            until=lambda found: found is None,
        )
