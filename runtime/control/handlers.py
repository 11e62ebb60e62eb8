"""Handlers: which requests an event leads to.

Where the relation between object and request can move (an owner, a reference in a spec), both the old and the new
object are asked: looking only at the new one leaves the former parent with a stale status.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from runtime.control.predicates import Event
from runtime.util.owner import owners_of
from runtime.wire.gvk import Key, Resource
from runtime.wire.record import Record

Handler = Callable[[Event], Iterable[Key]]
Mapping = Callable[[Record], Iterable[Key]]


def enqueue_object(event: Event) -> Iterable[Key]:
    """The object itself."""
    return (event.record.key,)


def enqueue_owner(owner: Resource, *, controller_only: bool = True) -> Handler:
    """The owners of that kind: the controller alone, or with `controller_only=False` every owner.

    Group and kind are compared, not the version. A cluster-scoped owner has no namespace.
    """

    def owners(record: Record) -> Iterable[Key]:
        namespace = record.meta.namespace if owner.namespaced else ""
        for reference in owners_of(record.meta, owner, controller_only=controller_only):
            yield Key(namespace, reference.name)

    return enqueue_mapped(owners)


def enqueue_mapped(mapping: Mapping) -> Handler:
    """What `mapping` says of the old and of the new object, without repetitions, in a stable order."""

    def requests(event: Event) -> Iterable[Key]:
        found: dict[Key, None] = {}
        for record in (event.old, event.new):
            if record is not None:
                found.update(dict.fromkeys(mapping(record)))
        return found

    return requests
