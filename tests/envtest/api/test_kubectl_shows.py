"""kubectl explains every field and shows the columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hack.controlplane.rest import Kube, KubeError
from tests.envtest.api.samples import KINDS, Builder, fields_of
from tests.support.eventually import eventually

GROUP = "toolhive.stacklok.dev"
VERSIONS = [(kind, version) for kind in KINDS for version in ("v1beta1", "v1alpha1")]
SERVED = [pair for pair in VERSIONS if pair != ("MCPRemoteEndpoint", "v1alpha1")]


def described(schema: dict, path: str) -> Iterator[tuple[str, str]]:
    for name, child in schema.get("properties", {}).items():
        here = f"{path}.{name}" if path else name
        yield here, child.get("description", "")
        suffix = ""
        while "items" in child or isinstance(child.get("additionalProperties"), dict):
            suffix += "[]" if "items" in child else "{}"
            child = child.get("items") or child["additionalProperties"]
        yield from described(child, here + suffix)


@pytest.mark.parametrize(("kind", "version"), SERVED)
async def test_the_server_publishes_a_description_of_every_field(admin: Kube, kind: str, version: str) -> None:
    """`kubectl explain` prints what /openapi/v3 says."""

    async def published() -> dict[str, Any] | None:
        # A definition is established a moment before its description is there.
        try:
            whole = await admin.request("GET", f"/openapi/v3/apis/{GROUP}/{version}")
        except KubeError as error:
            if error.status == 404:
                return None
            raise
        return whole["components"]["schemas"].get(f"dev.stacklok.toolhive.{version}.{kind}")

    schema = await eventually(published)
    texts = dict(described(schema, ""))
    assert len(schema["description"]) > 20
    assert [path for path in fields_of(kind) if len(texts.get(path, "")) < 5] == []


@pytest.mark.parametrize("kind", KINDS)
def test_kubectl_explain_prints_the_description(kubectl: Callable[..., str], kind: str) -> None:
    table = KINDS[kind]
    field = next(path for path in table["fields"] if path.count(".") == 1)
    shown = kubectl("explain", f"{table['plural']}.{field}")
    assert "DESCRIPTION:" in shown
    assert "<empty>" not in shown


@pytest.mark.parametrize("kind", KINDS)
async def test_kubectl_get_shows_the_columns_under_every_short_name(
    admin: Kube, namespace: str, kubectl: Callable[..., str], kind: str
) -> None:
    metadata = {"name": "a", "namespace": namespace}
    body = {"apiVersion": f"{GROUP}/v1beta1", "kind": kind, "metadata": metadata}
    await admin.create(body | {"spec": Builder(kind).value("spec")})
    wanted = ["NAME", *(column[0].upper() for column in KINDS[kind]["columns"])]
    for name in KINDS[kind]["shortNames"]:
        header = kubectl("get", f"{name}.{GROUP}", "-n", namespace).splitlines()[0]
        assert [column.strip() for column in header.split("   ") if column.strip()] == wanted
    assert f"{kind.lower()}.{GROUP}/a" in kubectl("get", "toolhive", "-n", namespace, "-o", "name")


async def test_v1alpha1_warns_and_v1beta1_does_not(namespace: str, control_plane) -> None:
    quiet = control_plane.kubectl("get", f"mcpgroups.v1beta1.{GROUP}", "-n", namespace)
    loud = control_plane.kubectl("get", f"mcpgroups.v1alpha1.{GROUP}", "-n", namespace)
    assert "Warning: toolhive.stacklok.dev/v1alpha1 is deprecated; use v1beta1" in loud.stderr
    assert "deprecated" not in quiet.stderr


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "MCPRemoteEndpoint"])
async def test_spec_may_be_missing(admin: Kube, namespace: str, kind: str) -> None:
    metadata = {"name": "a", "namespace": namespace}
    await admin.create({"apiVersion": f"{GROUP}/v1beta1", "kind": kind, "metadata": metadata}, dry_run=True)


async def test_an_object_written_in_v1alpha1_reads_the_same_in_v1beta1(admin: Kube, namespace: str) -> None:
    spec = Builder("MCPServerEntry").value("spec")
    metadata = {"name": "a", "namespace": namespace}
    await admin.create(
        {"apiVersion": f"{GROUP}/v1alpha1", "kind": "MCPServerEntry", "metadata": metadata, "spec": spec}
    )
    stored = await admin.get(f"{GROUP}/v1beta1", "MCPServerEntry", "a", namespace=namespace)
    assert stored["spec"] == spec | {"allowPrivateEndpoint": False}


async def test_members_of_a_group_can_be_listed_by_field_selector(admin: Kube, namespace: str) -> None:
    spec = Builder("MCPServerEntry").value("spec")
    for name, group in (("a", "one"), ("b", "two"), ("c", "one")):
        metadata = {"name": name, "namespace": namespace}
        body = {"apiVersion": f"{GROUP}/v1beta1", "kind": "MCPServerEntry", "metadata": metadata}
        await admin.create(body | {"spec": spec | {"groupRef": {"name": group}}})
    found = await admin.list(f"{GROUP}/v1beta1", "MCPServerEntry", namespace=namespace, fields="spec.groupRef.name=one")
    assert [item["metadata"]["name"] for item in found] == ["a", "c"]
