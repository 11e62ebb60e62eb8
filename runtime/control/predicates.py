"""Predicates: which events wake a controller. They filter events, they do not shrink the cache.

A predicate that hides too much is the more dangerous mistake: `generation_changed` alone hides labels, annotations,
finalizers and status. Deletions pass every predicate here except `never`, because cleaning up depends on them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from runtime.wire.record import Record


@dataclass(frozen=True, slots=True)
class Event:
    """One change of one object, as the cache saw it.

    Attributes:
        old: The object before; None when it is new.
        new: The object now; None when it is gone.
        initial: Part of the first list after a start or of a late registration: nobody waits for it.
        stale: The deletion was noticed by a list, so `old` may not be the last state.
    """

    old: Record | None
    new: Record | None
    initial: bool = False
    stale: bool = False

    @property
    def record(self) -> Record:
        """The newest known state."""
        record = self.new or self.old
        assert record is not None
        return record

    @property
    def resync(self) -> bool:
        """Both sides are the same version: a relist said nothing new."""
        old, new = self.old, self.new
        return old is not None and new is not None and old.meta.resource_version == new.meta.resource_version


Predicate = Callable[[Event], bool]


def always(event: Event) -> bool:  # noqa: ARG001  the signature of a predicate
    """Every event."""
    return True


def never(event: Event) -> bool:  # noqa: ARG001  the signature of a predicate
    """No event: the kind is watched only to be read."""
    return False


def is_behind(record: Record) -> bool:
    """Whether an object's status speaks of an older spec: somebody changed that while nobody looked, and waits.

    False for a kind whose status names no generation, and for an object that has no status yet.
    """
    observed = record.path("status.observedGeneration") if record.meta.generation else None
    return observed is not None and observed != record.meta.generation


def generation_changed(event: Event) -> bool:
    """The spec changed, or deletion was asked for (the server raises the generation for that too).

    Hides status, labels, annotations and finalizers. Kinds without generation (ConfigMap, Secret) never pass an update.
    """
    if event.old is None or event.new is None:
        return True
    return event.old.meta.generation != event.new.meta.generation
