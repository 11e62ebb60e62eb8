"""Who looked at what: from a changed object to those whose last decision depended on it.

The references of a gateway or a proxy are many and partly indirect (a Secret of an MCPExternalAuthConfig of a member).
Instead of an index per path, each reconcile notes the names that it looks up, before it looks; a name that is not there
is noted too, so that its coming wakes whoever asked. Nothing is lost at a start: everything is reconciled then.
"""

from __future__ import annotations

from collections.abc import Iterable

from runtime import Key, Record, Resource


class Dependencies:
    """The names that every object's last reconcile looked up."""

    def __init__(self) -> None:
        self._users: dict[tuple[Resource, Key], set[Key]] = {}
        self._used: dict[Key, set[tuple[Resource, Key]]] = {}

    def note(self, user: Key, kind: Resource, key: Key) -> None:
        """The user looks at an object that may or may not exist."""
        self._users.setdefault((kind, key), set()).add(user)
        self._used.setdefault(user, set()).add((kind, key))

    def forget(self, user: Key) -> None:
        """The user looks anew, or is gone."""
        for place in self._used.pop(user, set()):
            users = self._users[place]
            users.discard(user)
            if not users:
                del self._users[place]

    def users(self, record: Record) -> Iterable[Key]:
        """Return the users whose last decision depended on the object, sorted."""
        return sorted(self._users.get((record.resource, record.key), ()))
