"""Values computed from objects, remembered for the last version asked about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from runtime import Record

T = TypeVar("T")


class PerVersion(Generic[T]):
    """A pure function of a record that many ask about one and the same version.

    Keeps one value per object and never the record: a cache keyed by records would keep old versions alive, and those
    of a group with thousands of members are large.

    Args:
        compute: the function.
        limit: objects to remember; when there are more, all are forgotten.
    """

    def __init__(self, compute: Callable[[Record], T], limit: int = 10_000) -> None:
        self._compute = compute
        self._limit = limit
        self._known: dict[str, tuple[str, T]] = {}

    def __call__(self, record: Record) -> T:
        """Return the value for this version of the object."""
        known = self._known.get(record.meta.uid)
        if known is not None and known[0] == record.meta.resource_version:
            return known[1]
        value = self._compute(record)
        if len(self._known) >= self._limit:
            self._known.clear()
        self._known[record.meta.uid] = (record.meta.resource_version, value)
        return value
