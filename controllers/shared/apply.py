"""Server-side apply with memory: generated objects are written when something differs, and only then.

The cache holds no managedFields, so comparing "what we want" with "what is there" could never see a field that we
stopped wanting, and defaults and quantities would look different for ever. Instead the applier remembers, per object,
the hash of what it last applied and what the object looked like afterwards; it applies when either changed, and once
after a start. The server does the rest: what is ours and was edited by hand is repaired, what is foreign (an injected
sidecar, an annotation, `kubectl rollout restart`) is left, what we no longer want is removed.

Objects that another operator wrote by update are taken over first: its ownership of fields becomes ours, or those
fields could never be removed again (the upgrade of kubernetes/client-go's `csaupgrade`).
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from runtime import ApiError, Client, Key, Manager, NotFoundError, Record, Resource
from runtime.util.owner import controller_reference, is_controlled_by

FIELD_MANAGER = "mcp-operator"
HANDOVER_MANAGER = "mcp-operator-handover"
APPLIED = "toolhive.stacklok.dev/applied-by"
"""Annotation of objects that were applied (and taken over, where needed) by this operator."""
REPLICAS_OWNED = "toolhive.stacklok.dev/replicas-managed"
"""Annotation of Deployments whose replicas this operator sets."""
LEGACY_MANAGERS = frozenset({"thv-operator", "toolhive-operator", "manager", "before-first-apply"})
"""Field managers of operators that wrote the same objects by update."""

_KEPT_BY_OTHERS = (
    ("f:spec", "f:replicas"),
    ("f:spec", "f:template", "f:metadata", "f:annotations", "f:kubectl.kubernetes.io/restartedAt"),
)
"""Fields that stay with whom they belong to: dropping them would scale or restart the workload."""

_UNTYPED = "failed to create typed patch object"

Json = dict[str, Any]


class ForeignObjectError(Exception):
    """An object of the wanted name belongs to someone else; it was left alone."""

    def __init__(self, resource: Resource, key: Key, owner: str) -> None:
        self.resource, self.key = resource, key
        super().__init__(f"{resource.kind} {key.name} exists and belongs to {owner or 'nobody'}")


@dataclass(frozen=True, slots=True)
class Applied:
    """The outcome: the object, and what happened to it."""

    record: Record
    created: bool = False
    updated: bool = False


@dataclass(frozen=True, slots=True)
class _Memory:
    intent: str
    seen: tuple[Any, ...]


class Applier:
    """Applies the objects that one controller generates.

    Args:
        manager: for the client, and for the connection that take-overs need.
        field_manager: who owns the fields; must never change between versions of the operator.
    """

    def __init__(self, manager: Manager, field_manager: str = FIELD_MANAGER) -> None:
        self._client: Client = manager.client
        self._transport = manager.transport
        self._field_manager = field_manager
        self._memory: dict[tuple[Resource, Key], _Memory] = {}

    def differs(self, resource: Resource, body: Json, owner: Record) -> bool:
        """Whether `apply` would write."""
        key = _key_of(body)
        live = self._client.cache.get(resource, key)
        memory = self._memory.get((resource, key))
        return live is None or memory is None or memory != _Memory(intent_hash(_owned(body, owner)), fingerprint(live))

    def intends(self, resource: Resource, body: Json, owner: Record) -> bool:
        """Whether the last apply by this process had the same intent; False also when there was none."""
        memory = self._memory.get((resource, _key_of(body)))
        return memory is not None and memory.intent == intent_hash(_owned(body, owner))

    def stands(self, resource: Resource, key: Key) -> bool:
        """Whether an object is as the last apply of this process left it."""
        live, memory = self._client.cache.get(resource, key), self._memory.get((resource, key))
        return live is not None and memory is not None and memory.seen == fingerprint(live)

    async def apply(self, resource: Resource, body: Json, owner: Record) -> Applied:
        """Make an object what it shall be.

        Args:
            resource: its kind.
            body: apiVersion, kind, metadata with name and namespace, and every field that is ours.
            owner: becomes the managing owner.

        Raises:
            ForeignObjectError: an object of that name has another owner, or none.
            ApiError, TransportError: the server refused, or did not answer.
        """
        key = _key_of(body)
        live = self._client.cache.get(resource, key)
        if live is not None and not is_controlled_by(live.meta, owner):
            holder = live.meta.controller
            raise ForeignObjectError(resource, key, f"{holder.kind} {holder.name}" if holder is not None else "")
        if live is not None and not self.differs(resource, body, owner):
            return Applied(live)
        intent = _owned(body, owner)
        if live is not None:
            await self._prepare(resource, key, live, intent)
        record = await self._client.apply(resource, intent, field_manager=self._field_manager)
        self._memory[resource, key] = _Memory(intent_hash(intent), fingerprint(record))
        changed = live is not None and live.meta.resource_version != record.meta.resource_version
        return Applied(record, created=live is None, updated=changed)

    def forget(self, owner: Key) -> None:
        """Drop what is remembered of objects in the owner's namespace that start with its name."""
        gone = [
            place for place in self._memory if place[1].namespace == owner.namespace and owner.name in place[1].name
        ]
        for place in gone:
            del self._memory[place]

    async def _prepare(self, resource: Resource, key: Key, live: Record, intent: Json) -> None:
        if APPLIED not in live.meta.annotations:
            await self._take_over(resource, key)
        spec = intent.get("spec")
        if REPLICAS_OWNED in live.meta.annotations and isinstance(spec, Mapping) and "replicas" not in spec:
            await self._hand_over_replicas(resource, key)

    async def _take_over(self, resource: Resource, key: Key) -> None:
        path = resource.object_path(key)
        try:
            answer = await self._transport.request("GET", path)
        except NotFoundError:
            return
        metadata = orjson.loads(answer.body)["metadata"]
        upgraded = upgrade_managed_fields(metadata.get("managedFields") or [], self._field_manager)
        if upgraded is None:
            return
        patch = [
            {"op": "replace", "path": "/metadata/managedFields", "value": upgraded},
            {"op": "replace", "path": "/metadata/resourceVersion", "value": metadata["resourceVersion"]},
        ]
        await self._transport.request(
            "PATCH",
            path,
            query={"fieldManager": self._field_manager},
            body=orjson.dumps(patch),
            content_type="application/json-patch+json",
        )

    async def _hand_over_replicas(self, resource: Resource, key: Key) -> None:
        """Let another manager own the present number before we give it up, or the server would reset it to 1."""
        live = await self._client.get_live(resource, key)
        replicas = live.path("spec.replicas")
        if replicas is None:
            return
        body = {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {"name": key.name, "namespace": key.namespace},
            "spec": {"replicas": replicas},
        }
        await self._client.apply(resource, body, field_manager=HANDOVER_MANAGER)


def upgrade_managed_fields(entries: list[Json], manager: str) -> list[Json] | None:
    """Return managedFields in which everything that a former operator owned by update is owned by `manager`.

    Fields that must not be dropped (`_KEPT_BY_OTHERS`) stay with the former operator. None when nothing is to do.
    """
    legacy = [
        entry
        for entry in entries
        if entry.get("operation") == "Update"
        and entry.get("manager") in LEGACY_MANAGERS
        and not entry.get("subresource")
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


def intent_hash(intent: Json) -> str:
    """Return a hash of what is to be applied."""
    return hashlib.sha256(orjson.dumps(intent, option=orjson.OPT_SORT_KEYS)).hexdigest()


def fingerprint(record: Record) -> tuple[Any, ...]:
    """Return what changes when somebody changes the object; a status does not count where the kind has generations."""
    meta = record.meta
    if not meta.generation:
        return (meta.uid, meta.resource_version)
    annotations = {k: v for k, v in meta.annotations.items() if not k.startswith("deployment.kubernetes.io/")}
    owners = tuple((owner.uid, owner.controller) for owner in meta.owner_references)
    return (meta.uid, meta.generation, tuple(sorted(meta.labels.items())), tuple(sorted(annotations.items())), owners)


def is_refusal(error: ApiError) -> bool:
    """Whether trying again cannot help until the object or the spec changes.

    A server-side apply of a field that the schema does not know, or of another type, is answered with a 500 without
    reason, as if the server had failed; only the words tell (kubernetes/apiserver, fieldmanager.Apply).
    """
    return error.status in (400, 403, 422) or (error.status == 500 and _UNTYPED in error.message)


def _owned(body: Json, owner: Record) -> Json:
    metadata = dict(body["metadata"])
    annotations = dict(metadata.get("annotations") or {}) | {APPLIED: FIELD_MANAGER}
    spec = body.get("spec")
    if body["kind"] == "Deployment" and isinstance(spec, Mapping) and "replicas" in spec:
        annotations[REPLICAS_OWNED] = "true"
    metadata["annotations"] = annotations
    metadata["ownerReferences"] = [controller_reference(owner)]
    return body | {"metadata": metadata}


def _key_of(body: Json) -> Key:
    return Key(body["metadata"].get("namespace", ""), body["metadata"]["name"])


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
