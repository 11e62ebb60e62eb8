"""Objects that another operator wrote by update: its ownership of fields becomes ours.

Otherwise a field that we do not want any more could never be removed: it would still belong to the former operator (the
upgrade of kubernetes/client-go's `csaupgrade`).
"""

from __future__ import annotations

import copy
from typing import Any

LEGACY_MANAGERS = frozenset({"thv-operator", "toolhive-operator", "manager", "before-first-apply"})
"""Field managers of operators that wrote the same objects by update."""

_KEPT_BY_OTHERS = (
    ("f:spec", "f:replicas"),
    ("f:spec", "f:template", "f:metadata", "f:annotations", "f:kubectl.kubernetes.io/restartedAt"),
)
"""Fields that stay with whom they belong to: dropping them would scale or restart the workload."""

Json = dict[str, Any]


def upgrade_managed_fields(entries: list[Json], manager: str, *, mark: str = "") -> list[Json] | None:
    """Return managedFields in which everything that a former operator owned by update is owned by `manager`.

    Fields that must not be dropped (`_KEPT_BY_OTHERS`) stay with the former operator. None when nothing is to do.

    Args:
        entries: `metadata.managedFields`.
        manager: becomes the owner.
        mark: an annotation that only `manager` sets: whoever owns it by update has written back what `manager` made, as
            backup tools do, and counts as a former operator; "" for no such case.
    """
    legacy = [
        entry
        for entry in entries
        if entry.get("operation") == "Update"
        and not entry.get("subresource")
        and (entry.get("manager") in LEGACY_MANAGERS or (mark and _owns_annotation(entry, mark)))
    ]
    if not legacy:
        return None
    taken: Json = {}
    rest: list[Json] = []
    for entry in legacy:
        fields = copy.deepcopy(entry.get("fieldsV1") or {})
        kept: Json = {}
        for path in _KEPT_BY_OTHERS:
            _move(fields, kept, path)
        _union(taken, fields)
        if kept:
            rest.append(entry | {"fieldsV1": kept})
    own = next((e for e in entries if e.get("operation") == "Apply" and e.get("manager") == manager), None)
    base = own or {key: value for key, value in legacy[0].items() if key in ("apiVersion", "fieldsType", "time")}
    _union(taken, copy.deepcopy(base.get("fieldsV1") or {}))
    mine = base | {"manager": manager, "operation": "Apply", "fieldsV1": taken}
    others = [entry for entry in entries if entry not in legacy and entry is not own]
    return [mine, *others, *rest]


def _owns_annotation(entry: Json, name: str) -> bool:
    metadata = (entry.get("fieldsV1") or {}).get("f:metadata") or {}
    return f"f:{name}" in (metadata.get("f:annotations") or {})


def _move(source: Json, target: Json, path: tuple[str, ...]) -> None:
    """Move one leaf of a field set; branches that become empty go."""
    head, rest = path[0], path[1:]
    if head not in source:
        return
    if not rest:
        target[head] = source.pop(head)
        return
    inner: Json = {}
    _move(source[head], inner, rest)
    if inner:
        target.setdefault(head, {}).update(inner)
    if not source[head]:
        del source[head]


def _union(target: Json, other: Json) -> None:
    for key, value in other.items():
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            _union(target[key], value)
        else:
            target.setdefault(key, value)
