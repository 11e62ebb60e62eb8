"""Owner references: who deletes whom, and which reconcile a child's change wakes.

The garbage collector deletes a child whose owner it cannot find. An owner in another namespace, or a namespaced owner
of a cluster-scoped object, is never found, so such a reference destroys the child: it is refused here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any

from runtime.wire.gvk import Resource
from runtime.wire.record import Meta, OwnerReference, Record


class OwnershipError(ValueError):
    """The reference would be wrong; the message says which rule it breaks."""


def controller_reference(owner: Record) -> dict[str, Any]:
    """The reference that makes `owner` the managing owner: controller and blockOwnerDeletion are true."""
    return {**owner_reference(owner), "controller": True, "blockOwnerDeletion": True}


def owner_reference(owner: Record) -> dict[str, Any]:
    """Return a plain reference to `owner`, for garbage collection alone.

    Raises:
        OwnershipError: The owner has no uid: it was not read from the server.
    """
    if not owner.meta.uid:
        raise OwnershipError(f"{owner.resource.kind} {owner.key} has no uid: it was not read from the server")
    return {
        "apiVersion": owner.resource.api_version,
        "kind": owner.resource.kind,
        "name": owner.meta.name,
        "uid": owner.meta.uid,
    }


def set_controller_reference(owner: Record, body: MutableMapping[str, Any], child: Resource) -> None:
    """Make `owner` the controller of the object that is about to be written.

    Args:
        owner: The managing object, as read from the server.
        body: The child's JSON; its `metadata.ownerReferences` is changed in place, other owners stay.
        child: The child's kind, for its scope.

    Raises:
        OwnershipError: Another controller is set, or the scopes do not allow it.
    """
    metadata = body.setdefault("metadata", {})
    _check_scope(owner, metadata.get("namespace", ""), child)
    present: list[dict[str, Any]] = metadata.setdefault("ownerReferences", [])
    new = controller_reference(owner)
    for reference in present:
        if reference.get("controller") and not _same_object(reference, new):
            raise OwnershipError(
                f"{child.kind} {metadata.get('name', '')} is already controlled by "
                f"{reference.get('kind')} {reference.get('name')}"
            )
    metadata["ownerReferences"] = [r for r in present if not _same_object(r, new)] + [new]


def is_controlled_by(child: Meta, owner: Record) -> bool:
    """Whether this very object (by uid, not only by name) is the controller of `child`."""
    controller = child.controller
    return controller is not None and controller.uid == owner.meta.uid


def owners_of(child: Meta, owner: Resource, *, controller_only: bool = True) -> Iterable[OwnerReference]:
    """The references of `child` to the kind `owner`; versions may differ, group and kind may not."""
    for reference in child.owner_references:
        if reference.group_kind == owner.group_kind and (reference.controller or not controller_only):
            yield reference


def _check_scope(owner: Record, child_namespace: str, child: Resource) -> None:
    if not owner.resource.namespaced:
        return
    if not child.namespaced:
        raise OwnershipError(f"{owner.resource.kind} is namespaced and cannot own cluster-scoped {child.kind}")
    if owner.meta.namespace != child_namespace:
        raise OwnershipError(
            f"{owner.resource.kind} {owner.key} cannot own {child.kind} in namespace {child_namespace!r}"
        )


def _same_object(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Group, kind and name, as controller-runtime compares: a recreated owner replaces its old reference."""
    return (_group(a), a.get("kind"), a.get("name")) == (_group(b), b.get("kind"), b.get("name"))


def _group(reference: Mapping[str, Any]) -> str:
    group, slash, _ = str(reference.get("apiVersion", "")).rpartition("/")
    return group if slash else ""
