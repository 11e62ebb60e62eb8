"""Buckets of keys by value and namespace, kept sorted so that reads are deterministic and need no sort."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from sys import intern

import structlog

from runtime.wire.gvk import Key
from runtime.wire.record import Record

log = structlog.get_logger("runtime.cache")

IndexFunction = Callable[[Record], Iterable[str]]
"""Gives the values under which a record is found. Must be pure; runs on every add and update."""


@dataclass(frozen=True, slots=True)
class SpecIndex:
    """An index function that looks at nothing but the spec: it is not asked again for a new status."""

    function: IndexFunction

    def __call__(self, record: Record) -> Iterable[str]:
        """Return the values."""
        return self.function(record)


def path_index(path: str) -> IndexFunction:
    """Index by the string, or the strings, at a path of the object; see `Record.path`."""

    def values(record: Record) -> Iterable[str]:
        found = record.path(path)
        if isinstance(found, str):
            return (found,)
        return [value for value in found if isinstance(value, str)] if isinstance(found, list) else ()

    return values


class IndexBuckets:
    """Sorted keys by (value, namespace)."""

    def __init__(self) -> None:
        self._keys: dict[str, dict[str, list[Key]]] = {}

    def add(self, value: str, key: Key) -> None:
        """Put a key that is not in the bucket yet."""
        insort(self._keys.setdefault(value, {}).setdefault(key.namespace, []), key)

    def discard(self, value: str, key: Key) -> None:
        """Take a key out; empty buckets go, too."""
        spaces = self._keys.get(value)
        keys = spaces.get(key.namespace) if spaces is not None else None
        if spaces is None or keys is None:
            return
        at = bisect_left(keys, key)
        if at < len(keys) and keys[at] == key:
            del keys[at]
        if not keys:
            del spaces[key.namespace]
            if not spaces:
                del self._keys[value]

    def read(self, value: str, namespace: str | None) -> Iterable[Key]:
        """Return the keys of one namespace, or of all when it is None, sorted."""
        spaces = self._keys.get(value, {})
        if namespace is not None:
            return spaces.get(namespace, ())
        return [key for space in sorted(spaces) for key in spaces[space]]

    def count(self, value: str, namespace: str | None) -> int:
        """Return the number of keys, without reading them."""
        spaces = self._keys.get(value, {})
        return len(spaces.get(namespace, ())) if namespace is not None else sum(map(len, spaces.values()))


class Index:
    """One index of one store."""

    def __init__(self, name: str, function: IndexFunction, *, of_spec: bool = False) -> None:
        """Make an index; `of_spec`: the values depend on the spec alone, so a new status need not be looked into."""
        self.name = name
        self._of_spec = of_spec
        self.errors = 0
        """Records on which the function raised; they are in no bucket."""
        self._function = function
        self._buckets = IndexBuckets()
        # Kept, not computed again from the old record: an impure function must not leave keys behind.
        self._values: dict[Key, tuple[str, ...]] = {}

    def update(self, key: Key, record: Record | None, known: Record | None = None) -> None:
        """Move the key to the buckets of its new record; None takes it out. `known` is the record that it had."""
        if self._of_spec and known is not None and record is not None and record.same_spec(known):
            return
        before = self._values.get(key, ())
        after = self._compute(record) if record is not None else ()
        if before == after:
            return
        for value in before:
            self._buckets.discard(value, key)
        for value in after:
            self._buckets.add(value, key)
        if after:
            self._values[key] = after
        else:
            del self._values[key]

    def read(self, value: str, namespace: str | None) -> Iterable[Key]:
        """Return the keys found under a value, sorted."""
        return self._buckets.read(value, namespace)

    def count(self, value: str, namespace: str | None) -> int:
        """Return the number of keys found under a value."""
        return self._buckets.count(value, namespace)

    def _compute(self, record: Record) -> tuple[str, ...]:
        try:
            # Without duplicates, in order: a key is at most once in a bucket.
            return tuple(dict.fromkeys(map(intern, self._function(record))))
        except Exception:
            self.errors += 1
            log.exception("index function failed", index=self.name, object=repr(record))
            return ()
