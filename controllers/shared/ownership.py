"""Whose an object is: ours, ours but without its owner, or somebody else's.

One sign is not enough. A backup tool restores objects without owner references, because the uids in them are those of
another cluster, and `kubectl delete --cascade=orphan` takes them away on purpose: what is left has no controller, but
bears our name and our marks. Such an object is adopted. Without marks, or with another controller, it is foreign and
left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from runtime import Key, Record, Resource
from runtime.util.owner import is_controlled_by

FIELD_MANAGER = "mcp-operator"
APPLIED = "toolhive.stacklok.dev/applied-by"
"""Annotation of objects that were applied (and taken over, where needed) by this operator."""


class ForeignObjectError(Exception):
    """An object of the wanted name belongs to someone else; it was left alone."""

    def __init__(self, resource: Resource, live: Record) -> None:
        self.resource, self.key = resource, live.key
        holder = live.meta.controller
        owner = f"{holder.kind} {holder.name}" if holder is not None else "nobody"
        super().__init__(f"{resource.kind} {live.key.name} exists and belongs to {owner}")


class Entitlement(Enum):
    """What entitles us to write an object."""

    OWNED = "our owner is its controller"
    ORPHANED = "it has no controller, and bears our marks"


def claim(live: Record, owner: Record, labels: Mapping[str, str]) -> Entitlement:
    """Say why an object of a wanted name is ours.

    Args:
        live: the object.
        owner: whose it should be.
        labels: those that we give it; where there are any, all of them are marks, also without our annotation.

    Raises:
        ForeignObjectError: it is not.
    """
    if is_controlled_by(live.meta, owner):
        return Entitlement.OWNED
    if live.meta.controller is None and _is_marked(live, labels):
        return Entitlement.ORPHANED
    raise ForeignObjectError(live.resource, live)


def _is_marked(live: Record, labels: Mapping[str, str]) -> bool:
    if live.meta.annotations.get(APPLIED) == FIELD_MANAGER:
        return True
    return bool(labels) and labels.items() <= dict(live.meta.labels).items()


def key_of(body: Mapping[str, Any]) -> Key:
    """Return the key of a body."""
    return Key(body["metadata"].get("namespace", ""), body["metadata"]["name"])
