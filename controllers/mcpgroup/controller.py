"""Watches, observes and writes MCPGroups; what is written is decided in `decide`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from api.conditions import MCPGroupPhase as Phase
from api.conditions import MCPServerEntryPhase
from controllers.mcpgroup.decide import (
    QUIET,
    Pending,
    Snapshot,
    changed,
    coalesce,
    decide,
    due_in,
    look_in,
    may_fill,
)
from controllers.options import OperatorOptions
from controllers.shared import references
from controllers.shared.depends import Depends, rules_of, watch
from controllers.shared.groups import UNJUDGED, count_unjudged, unjudged
from controllers.shared.races import complete
from controllers.shared.resources import ENDPOINT, ENTRY, GROUP, MEMBER_KINDS, PROXY, SERVER
from controllers.shared.status_repairs import StatusRepairs
from controllers.shared.verdicts import StatusWriter
from runtime import (
    Builder,
    Event,
    Key,
    Manager,
    PolicyRule,
    Record,
    Resource,
    Result,
    parse_conditions,
    remove_finalizer,
)
from runtime.util.rbac import READ

NAME = "mcpgroup"
TELL_EVERY = 3600.0
"""Seconds between two events of one group about the deprecation of its entries."""
DEPRECATED = (
    "The group has {members} of the deprecated kind MCPServerEntry: use MCPRemoteEndpoint with type: direct, "
    "where every field keeps its name"
)
SERVABLE = "servable"
"""Name of the index of members that a gateway can serve, by group."""
FINALIZER = "toolhive.stacklok.dev/mcpgroup-finalizer"
"""Of ToolHive's operator, and of earlier versions: taken off wherever it is. Members watch their group and say
GroupRefNotFound by themselves, so there is nothing to clean up, and each kind with a finalizer makes the deletion of a
namespace wait 8 s (the namespace controller's estimate for objects that it finds still there)."""


class GroupReconciler:
    """Keeps the member lists of groups.

    The lists are written when members have been quiet for a moment and all have their verdict, or after a few seconds
    of unrest; a group's first status is written at once, because its members wait for it.

    Args:
        manager: gives reader and client.
        clock: seconds, monotonic.
    """

    def __init__(self, manager: Manager, clock: Callable[[], float] = time.monotonic) -> None:
        self._reader, self._client = manager.reader, manager.client
        self._clock = clock
        self._pending: dict[Key, Pending] = {}
        self._recorder = manager.recorder(f"{NAME}-controller")
        self._grown: set[Key] = set()
        self._told: dict[Key, float] = {}
        self.status = StatusWriter(manager.client, GROUP, StatusRepairs(manager, GROUP, self._recorder))

    async def reconcile(self, request: Key) -> Result | None:
        """Bring one group's status up to date."""
        record = self._reader.get(GROUP, request)
        if record is None or record.meta.deleting:
            self._forget(request)
        if record is None:
            return None
        record = await remove_finalizer(self._client, record, FINALIZER)
        return None if record is None or record.meta.deleting else await self._write(record)

    async def _write(self, record: Record) -> Result | None:
        now, pending = self._clock(), self._pending.get(record.key)
        if (wait := look_in(pending, now)) > 0:
            return Result(requeue_after=wait, hold=True)
        if pending is not None and may_fill(pending, now) and count_unjudged(self._reader, record.key):
            self._pending[record.key] = changed(pending, now)
            return Result(requeue_after=QUIET, hold=True)
        wanted = decide(self._observe(record))
        if not self.status.differs(record, wanted):
            self._pending.pop(record.key, None)
            self._tell(record, wanted["entryCount"], now)
            return None
        pending = self._pending[record.key] = coalesce(pending, wanted, now)
        if (wait := due_in(pending, now)) > 0 and record.path("status.phase") == Phase.READY:
            return Result(requeue_after=min(wait, QUIET), hold=True)  # not looked at earlier anyway
        del self._pending[record.key]
        await self.status.write(record, wanted)
        before = record.path("status.entryCount")
        if wanted["entryCount"] > (before if isinstance(before, int) else 0):
            self._grown.add(record.key)
        return Result(requeue_after=QUIET) if record.key in self._grown else None

    def _tell(self, record: Record, entries: int, now: float) -> None:
        """Say that entries are deprecated when some came to a group and it is at rest, at most once an hour.

        Entries come by the thousand: an event each would double what a burst writes. A restart of the manager repeats
        nothing, because the number in the status is what it was.
        """
        if record.key not in self._grown or now - self._told.get(record.key, -math.inf) < TELL_EVERY:
            return
        self._grown.discard(record.key)
        self._told[record.key] = now
        note = DEPRECATED.format(members="1 member" if entries == 1 else f"{entries} members")
        self._recorder.event(record, type="Warning", reason="Deprecated", action="Reconcile", note=note, minor=True)

    def _forget(self, key: Key) -> None:
        self._pending.pop(key, None)
        self._told.pop(key, None)
        self._grown.discard(key)

    def _observe(self, record: Record) -> Snapshot:
        return Snapshot(
            generation=record.meta.generation,
            now=datetime.now(UTC),
            servers=self._members(SERVER, record.key),
            proxies=self._members(PROXY, record.key),
            entries=self._members(ENTRY, record.key),
            endpoints=self._members(ENDPOINT, record.key),
            served=sum(self._served(kind, record.key) for kind in MEMBER_KINDS),
            previous=parse_conditions(record.path("status.conditions")),
        )

    def _members(self, kind: Resource, group: Key) -> tuple[str, ...]:
        found = self._reader.by_index(kind, references.GROUP_REF, group.name, namespace=group.namespace)
        return tuple(record.meta.name for record in found)

    def _served(self, kind: Resource, group: Key) -> int:
        return self._reader.count(kind, SERVABLE, group.name, namespace=group.namespace)


def groups_of(record: Record) -> Iterable[Key]:
    """Return the group that a member names, whether it is there or not; one that changes its group wakes both."""
    name = record.path(references.GROUP_REF)
    return (Key(record.meta.namespace, name),) if isinstance(name, str) and name else ()


def servable(record: Record) -> Iterable[str]:
    """Index of members: the group that they name, if a gateway can serve them."""
    name = record.path(references.GROUP_REF) if is_servable(record) else None
    return (name,) if isinstance(name, str) else ()


def is_servable(record: Record) -> bool:
    """Whether a gateway can serve a member: its checks passed and its URL is known."""
    if record.meta.deleting:
        return False
    if record.resource == ENTRY:
        return bool(record.path("status.phase") == MCPServerEntryPhase.VALID)
    return bool(record.path("status.url"))


def membership_changed(event: Event) -> bool:
    """Predicate: a member came, went, moved to another group, or can (no longer) be served."""
    old, new = event.old, event.new
    if old is None or new is None:
        return True
    moved = not new.same_spec(old) and old.path(references.GROUP_REF) != new.path(references.GROUP_REF)
    return moved or is_servable(old) != is_servable(new)


DEPENDS = tuple(
    Depends(
        kind,
        by=lambda _reader, _kind: groups_of,
        when=membership_changed,
        indexes={references.GROUP_REF: None, SERVABLE: servable, UNJUDGED: unjudged},
        why="groups list their members",
    )
    for kind in MEMBER_KINDS
)
RULES = (
    PolicyRule.of(GROUP, *READ, "patch", why="the kind itself, and a finalizer that others left on it"),
    PolicyRule.of(GROUP, "patch", subresource="status", why="phase, conditions and members"),
    *rules_of(DEPENDS),
)


def setup(manager: Manager, options: OperatorOptions) -> None:  # noqa: ARG001  the signature of every setup
    """Run the controller of groups."""
    manager.informer(GROUP)
    reconciler = GroupReconciler(manager)
    builder = Builder(manager, NAME).for_(GROUP, predicate=reconciler.status.matters)
    watch(builder, manager, GROUP, DEPENDS)
    complete(builder, reconciler, manager, GROUP, reconciler.status.schema, reconciler.status.repairs)
