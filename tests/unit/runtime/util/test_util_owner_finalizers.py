"""Owner references that the garbage collector can follow; finalizers that two writers can share."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from runtime.util.finalizers import add_finalizer, remove_finalizer
from runtime.util.owner import OwnershipError, controller_reference, is_controlled_by, set_controller_reference
from runtime.wire.decode import decode_record
from runtime.wire.errors import NotFoundError
from runtime.wire.gvk import Key, Resource
from runtime.wire.record import Record

OWNER = Resource("example.com", "v1", "Owner", "owners")
CLUSTER_OWNER = Resource("example.com", "v1", "ClusterOwner", "clusterowners", namespaced=False)
CONFIG_MAP = Resource("", "v1", "ConfigMap", "configmaps")
CLUSTER_ROLE = Resource("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", namespaced=False)


def record(resource: Resource = OWNER, **metadata: Any) -> Record:
    metadata = {"name": "o", "uid": "u1", "resourceVersion": "5", **metadata}
    if resource.namespaced:
        metadata.setdefault("namespace", "ns")
    body = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata}
    return decode_record(resource, orjson.dumps(body))


def child(**metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": "c", "namespace": "ns", **metadata}}


def test_a_controller_reference_holds_what_the_garbage_collector_needs():
    body = child()
    set_controller_reference(record(), body, CONFIG_MAP)
    assert body["metadata"]["ownerReferences"] == [
        {
            "apiVersion": "example.com/v1",
            "kind": "Owner",
            "name": "o",
            "uid": "u1",
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ]
    made = decode_record(CONFIG_MAP, orjson.dumps({"apiVersion": "v1", "kind": "ConfigMap", **body}))
    assert is_controlled_by(made.meta, record())
    assert not is_controlled_by(made.meta, record(uid="reborn"))


def test_a_second_controller_is_refused_and_plain_owners_stay():
    plain = {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "x"}
    body = child(ownerReferences=[plain])
    set_controller_reference(record(), body, CONFIG_MAP)
    assert body["metadata"]["ownerReferences"][0] == plain
    with pytest.raises(OwnershipError, match="already controlled by Owner o"):
        set_controller_reference(record(name="second", uid="u2"), body, CONFIG_MAP)


def test_a_recreated_owner_replaces_its_reference_whatever_version_wrote_it():
    old = {**controller_reference(record(uid="dead")), "apiVersion": "example.com/v0"}
    body = child(ownerReferences=[old])
    set_controller_reference(record(), body, CONFIG_MAP)
    assert [r["uid"] for r in body["metadata"]["ownerReferences"]] == ["u1"]


@pytest.mark.parametrize(
    ("owner", "body", "kind", "message"),
    [
        (record(), child(namespace="elsewhere"), CONFIG_MAP, "cannot own ConfigMap in namespace 'elsewhere'"),
        (record(), {"metadata": {"name": "c"}}, CLUSTER_ROLE, "cannot own cluster-scoped ClusterRole"),
        (record(uid=""), child(), CONFIG_MAP, "has no uid"),
    ],
)
def test_references_that_would_destroy_the_child_are_refused(owner, body, kind, message):
    with pytest.raises(OwnershipError, match=message):
        set_controller_reference(owner, body, kind)


def test_a_cluster_scoped_owner_may_own_anything():
    for body, kind in ((child(), CONFIG_MAP), ({"metadata": {"name": "c"}}, CLUSTER_ROLE)):
        set_controller_reference(record(CLUSTER_OWNER), body, kind)
        assert body["metadata"]["ownerReferences"][0]["kind"] == "ClusterOwner"


class Patches:
    def __init__(self, error: Exception | None = None) -> None:
        self.seen: list[tuple[Key, Any, str | None]] = []
        self.error = error

    async def merge_patch(self, resource, key, patch, *, resource_version=None):
        self.seen.append((key, patch, resource_version))
        if self.error:
            raise self.error
        return record(finalizers=patch["metadata"]["finalizers"], resourceVersion="6")


async def test_finalizers_are_written_with_the_version_that_was_read():
    client = Patches()
    held = await add_finalizer(client, record(finalizers=["theirs"]), "ours")
    assert held.meta.finalizers == ("theirs", "ours")
    assert await add_finalizer(client, held, "ours") is held
    freed = await remove_finalizer(client, held, "ours")
    assert freed is not None
    assert [(patch["metadata"]["finalizers"], version) for _, patch, version in client.seen] == [
        (["theirs", "ours"], "5"),
        (["theirs"], "6"),
    ]


async def test_a_dying_object_gets_no_new_finalizer_and_a_gone_one_is_fine():
    client = Patches(NotFoundError(404, "NotFound", "gone"))
    dying = record(deletionTimestamp="2026-01-01T00:00:00Z")
    assert await add_finalizer(client, dying, "ours") is dying
    assert await remove_finalizer(client, dying, "ours") is dying
    assert not client.seen
    assert await remove_finalizer(client, record(finalizers=["ours"]), "ours") is None
