"""Server-side apply with memory: generated objects are written when something differs, and only then.

The cache holds no managedFields, so comparing "what we want" with "what is there" could never see a field that we
stopped wanting, and defaults and quantities would look different for ever. Instead the applier remembers, per object,
the hash of what it last applied and what the object looked like afterwards; it applies when either changed, and once
after a start. The server does the rest: what is ours and was edited by hand is repaired, what is foreign (an injected
sidecar, an annotation, `kubectl rollout restart`) is left, what we no longer want is removed.

An apply alone would take over whatever has the wanted name at the moment at which it arrives. So each write names what
was seen: nothing, or this very object. Whose an object is: `ownership`; what happens when somebody else keeps putting
it back: `contests`; objects that another operator wrote: `takeover`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from controllers.shared.contests import Contest, Contests, contender
from controllers.shared.ownership import APPLIED, FIELD_MANAGER, Entitlement, claim, key_of
from controllers.shared.workload.takeover import upgrade_managed_fields
from runtime import AlreadyExistsError, ApiError, Client, ConflictError, Key, Manager, NotFoundError, Record, Resource
from runtime.util.owner import controller_reference

HANDOVER_MANAGER = "mcp-operator-handover"
REPLICAS_OWNED = "toolhive.stacklok.dev/replicas-managed"
"""Annotation of Deployments whose replicas this operator sets."""

_UNTYPED = "failed to create typed patch object"
_NOTHING_SEEN = {"resourceVersion": "1"}
"""Of an apply that may only create: no object ever has this version, so the server finds a conflict where there is one
of that name, and ignores the version where there is none."""

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Applied:
    """The outcome: the object, and what happened to it.

    Attributes:
        record: the object; None when it is missing and its repair waits.
        created: it was made.
        updated: it was changed.
        contest: somebody else keeps changing it.
    """

    record: Record | None
    created: bool = False
    updated: bool = False
    contest: Contest | None = None


_Place = tuple[Resource, Key]
_Fingerprint = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class _Memory:
    intent: str
    seen: _Fingerprint
    owner: Key


class Applier:
    """Applies the objects that one controller generates.

    Args:
        manager: for the client, and for the connection that take-overs need.
        field_manager: who owns the fields; must never change between versions of the operator.
        contests: the rate of repairs.
    """

    def __init__(
        self, manager: Manager, field_manager: str = FIELD_MANAGER, *, contests: Contests | None = None
    ) -> None:
        self._client: Client = manager.client
        self._transport = manager.transport
        self._field_manager = field_manager
        self._contests = contests or Contests()
        self._memory: dict[_Place, _Memory] = {}
        self._early: dict[_Place, set[_Fingerprint]] = {}
        self._missed: set[Key] = set()

    def intends(self, resource: Resource, body: Json, owner: Record) -> bool:
        """Whether the last apply by this process had the same intent; False also when there was none."""
        memory = self._memory.get((resource, key_of(body)))
        return memory is not None and memory.intent == intent_hash(_owned(body, owner))

    def stands(self, resource: Resource, key: Key) -> bool:
        """Whether an object is as the last apply of this process left it, and nobody contends for it."""
        live, memory = self._client.cache.get(resource, key), self._memory.get((resource, key))
        if live is None or memory is None or memory.seen != fingerprint(live):
            return False
        return self._contests.of((resource, key)) is None

    def left(self, record: Record) -> bool:
        """Whether this very version of an object is what the last apply of this process left.

        Never for kinds that have a generation: their status is somebody else's. The watch is often faster than the
        answer, so what it tells while an apply is under way counts as what that leaves; if it turns out to be something
        else, `missed` says so.
        """
        if record.meta.generation:
            return False
        place, seen = (record.resource, record.key), fingerprint(record)
        if place in self._early:
            self._early[place].add(seen)
            return True
        memory = self._memory.get(place)
        return memory is not None and memory.seen == seen

    def missed(self, owner: Key) -> bool:
        """Whether something else was told than what the applies left while they were under way; once per occasion."""
        if owner not in self._missed:
            return False
        self._missed.discard(owner)
        return True

    async def apply(self, resource: Resource, body: Json, owner: Record) -> Applied:
        """Make an object what it shall be.

        Args:
            resource: its kind.
            body: apiVersion, kind, metadata with name and namespace, and every field that is ours.
            owner: becomes the managing owner.

        Raises:
            ForeignObjectError: an object of that name has another owner, or none and not our marks.
            ApiError, TransportError: the server refused, or did not answer.
        """
        place = (resource, key_of(body))
        intent = _owned(body, owner)
        live = self._client.cache.get(resource, place[1])
        if live is not None:
            claim(live, owner, _labels(body))
        memory, contest = self._memory.get(place), self._contests.of(place)
        wanted = intent_hash(intent)
        again = memory is not None and memory.intent == wanted
        if again and live is not None and memory is not None and memory.seen == fingerprint(live):
            return Applied(live, contest=contest)
        if again and self._contests.unnamed(place):
            await self._blame(place, intent)
        if again and contest is not None and not contest.repair:
            return Applied(live, contest=self._contests.of(place))
        record, created, left = None, False, None
        early = self._early[place] = set()
        try:
            if live is None:
                record, live = await self._create(resource, place[1], intent)
            created = record is not None
            if record is None:
                assert live is not None
                record = await self._change(resource, live, intent, claim(live, owner, _labels(body)))
            left = fingerprint(record)
        finally:
            del self._early[place]
            if early - {left}:
                self._missed.add(owner.key)
        self._memory[place] = _Memory(wanted, left, owner.key)
        changed = live is not None and live.meta.resource_version != record.meta.resource_version
        if again and (created or changed):
            self._contests.repaired(place)
        return Applied(record, created=created, updated=changed, contest=self._contests.of(place))

    def forget(self, owner: Key) -> None:
        """Drop what is remembered of an owner's objects."""
        for place in [place for place, memory in self._memory.items() if memory.owner == owner]:
            del self._memory[place]
            self._contests.forget(place)
        self._missed.discard(owner)

    async def _create(self, resource: Resource, key: Key, intent: Json) -> tuple[Record | None, Record | None]:
        """Make the object, and return what was made, or else the one that the cache does not know yet."""
        body = intent | {"metadata": intent["metadata"] | _NOTHING_SEEN}
        try:
            return await self._client.apply(resource, body, field_manager=self._field_manager), None
        except (AlreadyExistsError, ConflictError) as error:
            if error.details is not None and error.details.causes:
                raise  # of fields, which `force` leaves no room for: something else is wrong
            lost = error
        try:
            return None, await self._client.get_live(resource, key)
        except NotFoundError:  # it is gone again: a lost race, to be tried again soon
            raise lost from None

    async def _change(self, resource: Resource, live: Record, intent: Json, claimed: Entitlement) -> Record:
        seen = {"uid": live.meta.uid}
        if claimed is Entitlement.ORPHANED or APPLIED not in live.meta.annotations:
            version = await self._take_over(live, restored=claimed is Entitlement.ORPHANED)
            if claimed is Entitlement.ORPHANED:  # whoever claims it in this moment was first
                seen["resourceVersion"] = version
        spec = intent.get("spec")
        if REPLICAS_OWNED in live.meta.annotations and isinstance(spec, Mapping) and "replicas" not in spec:
            await self._hand_over_replicas(resource, live.key)
        body = intent | {"metadata": intent["metadata"] | seen}
        return await self._client.apply(resource, body, field_manager=self._field_manager)

    async def _blame(self, place: tuple[Resource, Key], intent: Json) -> None:
        """Find out who has the other value."""
        try:
            answer = await self._transport.request("GET", place[0].object_path(place[1]))
        except NotFoundError:
            self._contests.blame(place, "", "")
            return
        managed = orjson.loads(answer.body)["metadata"].get("managedFields") or []
        manager, path = contender(managed, intent, self._field_manager)
        self._contests.blame(place, manager, path)

    async def _take_over(self, live: Record, *, restored: bool) -> str:
        """Make what another operator or a backup tool owned by update ours; return the version that it has then."""
        path = live.resource.object_path(live.key)
        answer = await self._transport.request("GET", path)
        metadata = orjson.loads(answer.body)["metadata"]
        version: str = metadata["resourceVersion"]
        upgraded = upgrade_managed_fields(
            metadata.get("managedFields") or [], self._field_manager, mark=APPLIED if restored else ""
        )
        if upgraded is None or metadata["uid"] != live.meta.uid:
            return version
        patch = [
            {"op": "replace", "path": "/metadata/managedFields", "value": upgraded},
            {"op": "replace", "path": "/metadata/resourceVersion", "value": version},
        ]
        answer = await self._transport.request(
            "PATCH",
            path,
            query={"fieldManager": self._field_manager},
            body=orjson.dumps(patch),
            content_type="application/json-patch+json",
        )
        return str(orjson.loads(answer.body)["metadata"]["resourceVersion"])

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


def intent_hash(intent: Json) -> str:
    """Return a hash of what is to be applied."""
    return hashlib.sha256(orjson.dumps(intent, option=orjson.OPT_SORT_KEYS)).hexdigest()


def fingerprint(record: Record) -> _Fingerprint:
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


def _labels(body: Json) -> dict[str, str]:
    labels: dict[str, str] = body["metadata"].get("labels") or {}
    return labels
