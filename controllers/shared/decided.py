"""Verdicts that were decided here and are still being stored: whoever goes by them need not wait until the watch tells.

Principle: a verdict is a function of one version of the object. Until the watch tells of a newer one, this version
together with the verdict says the same as the object will once the status is stored: `view`. What is made of it is
from one generation, as design decision D18 demands; the status in the server only tells others.

Edge cases, each with a test:
- the object moves on while the status is written: the verdict is about the old version and is not shown with another;
- the write fails: the verdict is taken back, and told anew with the next try. Whoever has seen it keeps what it saw;
- the watch tells of the status: that is nothing new to those who were told before (`take`);
- a newcomer's first verdict is not told here: groups that fill up are counted by what is stored (`groups.UNJUDGED`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

import msgspec
import orjson

from runtime import Event, Manager, Record
from runtime.control.source import Channel


class Decided:
    """The verdicts of one manager that are on their way.

    Attributes:
        source: tells of each verdict: the object as it is, and as it will be.
    """

    def __init__(self) -> None:
        self.source = Channel("decided statuses")
        self._records: dict[str, Record] = {}

    def tell(self, record: Record, patch: Mapping[str, Any]) -> None:
        """Tell what the status of this version of an object will be; nothing where nobody listens.

        Args:
            record: what the verdict is about.
            patch: the merge patch of its status.
        """
        status = record.path("status") if self.source.has_listeners else None
        if not isinstance(status, dict) or not status.get("phase"):
            return
        kept = {name: value for name, value in (status | dict(patch)).items() if value is not None}
        raw = orjson.dumps(record.as_dict() | {"status": kept})
        decided = msgspec.structs.replace(record, raw=raw, _models=None)
        self._records[record.meta.uid] = decided
        self.source.send(Event(record, decided))

    def withdraw(self, record: Record) -> None:
        """The status of this version could not be stored."""
        if self.view(record) is not record:
            del self._records[record.meta.uid]

    def view(self, record: Record) -> Record:
        """Return an object with the status that was decided on for this very version, or else as it is."""
        decided = self._records.get(record.meta.uid)
        return decided if decided is not None and _same_version(decided, record) else record

    def take(self, event: Event) -> Record | None:
        """Return what was told of an object before the watch told this, and forget it; None for nothing."""
        decided = self._records.get(event.record.meta.uid)
        if decided is None or (event.new is not None and _same_version(decided, event.new)):
            return None
        return self._records.pop(decided.meta.uid)


def _same_version(one: Record, other: Record) -> bool:
    return one.meta.resource_version == other.meta.resource_version


_shared: WeakKeyDictionary[Manager, Decided] = WeakKeyDictionary()


def decided(manager: Manager) -> Decided:
    """Return the manager's one set of verdicts that are on their way."""
    return _shared.setdefault(manager, Decided())
