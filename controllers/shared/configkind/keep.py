"""Watches, observes and writes the objects of one configuration kind; Secrets that they name are not looked at."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar

import orjson

from api.common.model import CustomResource as Model
from controllers.shared.configkind.decide import Judged, Snapshot, decide
from controllers.shared.depends import Depends, rules_of, watch
from controllers.shared.races import complete
from controllers.shared.status_repairs import StatusRepairs
from controllers.shared.verdicts import StatusWriter, Unreadable, read_model
from runtime import (
    Builder,
    Event,
    Key,
    Manager,
    NotFoundError,
    PolicyRule,
    Reader,
    Record,
    Resource,
    Result,
    add_finalizer,
    parse_conditions,
    remove_finalizer,
)
from runtime.cache.index import SpecIndex
from runtime.util.rbac import READ

Spec = TypeVar("Spec")


@dataclass(frozen=True, slots=True)
class Users:
    """Who refers to objects of a kind.

    Attributes:
        kinds: that can.
        index: of each of these kinds: the names that an object refers to.
        names_of: what that index holds of an object.
    """

    kinds: tuple[Resource, ...]
    index: str
    names_of: Callable[[Record], list[str]]

    def waiting(self, reader: Reader, kind: Resource) -> Callable[[Record], Iterable[Key]]:
        """Return the mapping from an object to the configurations that it names and whose deletion waits."""

        def mapping(user: Record) -> Iterable[Key]:
            for name in self.names_of(user):
                key = Key(user.meta.namespace, name)
                config = reader.get(kind, key)
                if config is not None and config.meta.deleting:
                    yield key

        return mapping

    def changed(self, event: Event) -> bool:
        """Predicate: a user came, went, or refers to other configurations than before."""
        old, new = event.old, event.new
        if old is None or new is None:
            return True
        return not new.same_spec(old) and self.names_of(old) != self.names_of(new)

    def depends(self) -> tuple[Depends, ...]:
        """Return what keeping the kind depends on."""
        return tuple(
            Depends(
                kind,
                by=self.waiting,
                when=self.changed,
                indexes={self.index: SpecIndex(self.names_of)},
                why="a deletion waits for all that refer to it",
            )
            for kind in self.kinds
        )


@dataclass(frozen=True, kw_only=True)
class ConfigKind(Generic[Spec]):
    """What is a configuration kind's own.

    Attributes:
        resource: the kind.
        model: of its objects.
        finalizer: that holds them.
        users: who refers to them.
        types: its condition types.
        judge: says what a spec is worth; gets the object's name, too.
    """

    resource: Resource
    model: type[Model]
    finalizer: str
    users: Users
    types: tuple[str, ...]
    judge: Callable[[str, Spec | Unreadable], Judged]


class ConfigReconciler(Generic[Spec]):
    """Keeps the status of objects of one kind, and holds those that are in use.

    Args:
        manager: gives reader, client and recorder.
        name: of the controller.
        kind: what is kept.
    """

    def __init__(self, manager: Manager, name: str, kind: ConfigKind[Spec]) -> None:
        self._reader, self._client, self._kind = manager.reader, manager.client, kind
        self._recorder = manager.recorder(f"{name}-controller")
        repairs = StatusRepairs(manager, kind.resource, self._recorder)
        self.status = StatusWriter(manager.client, kind.resource, repairs)

    async def reconcile(self, request: Key) -> Result | None:
        """Judge one object, write its status if that changes it, let it go when nobody refers to it."""
        record = self._reader.get(self._kind.resource, request)
        if record is not None and not record.meta.deleting:
            record = await self._hold(record)
        if record is None or self._kind.finalizer not in record.meta.finalizers:
            return None
        snapshot = self._observe(record)
        decision = decide(snapshot, self._kind.judge(snapshot.name, snapshot.spec), self._kind.types)
        if decision.release:
            await remove_finalizer(self._client, record, self._kind.finalizer)
        if decision.status is not None:
            await self.status.write(record, decision.status)
        for said in decision.announcements:
            self._recorder.event(record, type=said.type, reason=said.reason, action=said.action, note=said.note)
        return None

    async def _hold(self, record: Record) -> Record | None:
        """Put our finalizer on an object; None when it was gone first, which ends the reconcile and is no error.

        Raises:
            ConflictError: the object changed since it was read.
        """
        try:
            return await add_finalizer(self._client, record, self._kind.finalizer)
        except NotFoundError:
            return None

    def _observe(self, record: Record) -> Snapshot[Spec]:
        found = read_model(record, self._kind.model)
        known = record.path("status.configHash")
        return Snapshot(
            name=record.meta.name,
            spec=found if isinstance(found, Unreadable) else found.spec,  # type: ignore[attr-defined]  # every kind's
            spec_hash=hash_of(record),
            known_hash=known if isinstance(known, str) else None,
            generation=record.meta.generation,
            now=datetime.now(UTC),
            deleting=record.meta.deleting,
            referrers=self._referrers(record.key) if record.meta.deleting else (),
            previous=parse_conditions(record.path("status.conditions")),
        )

    def _referrers(self, config: Key) -> tuple[str, ...]:
        users = self._kind.users
        return tuple(
            f"{kind.kind}/{user.meta.name}"
            for kind in users.kinds
            for user in self._reader.by_index(kind, users.index, config.name, namespace=config.namespace)
        )


def hash_of(record: Record) -> str:
    """Return a hash of the spec; the order of its keys does not count."""
    return hashlib.sha256(orjson.dumps(record.path("spec"), option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def rules(kind: Resource, users: Users) -> tuple[PolicyRule, ...]:
    """Return the permissions that keeping a configuration kind takes."""
    return (
        PolicyRule.of(kind, *READ, "patch", why="the kind itself, and its finalizer"),
        PolicyRule.of(kind, "patch", subresource="status", why="conditions and hash"),
        *rules_of(users.depends()),
    )


def run(manager: Manager, name: str, kind: ConfigKind[Spec]) -> None:
    """Declare what objects of a configuration kind depend on, and run their controller."""
    manager.informer(kind.resource)
    reconciler = ConfigReconciler(manager, name, kind)
    builder = Builder(manager, name).for_(kind.resource, predicate=reconciler.status.matters)
    watch(builder, manager, kind.resource, kind.users.depends())
    complete(builder, reconciler, manager, kind.resource, reconciler.status.schema, reconciler.status.repairs)
