"""What a member must know of its group, and how long a newcomer waits for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from enum import Enum

from api.conditions import MCPGroupPhase
from controllers.shared.memo import PerVersion
from controllers.shared.references import GROUP_REF
from controllers.shared.resources import ENDPOINT, ENTRY, GROUP
from controllers.shared.verdicts import Verdict
from runtime import Event, Key, Reader, Record

GRACE = 0.5
"""Seconds that a member that was never judged waits for a group that is not there or not Ready yet.

Whoever applies a group and its members together would otherwise see every member fail first, and the server would
store two statuses per member instead of one. The group's own event ends the wait at once.
"""
UNJUDGED = "unjudged"
"""Name of the index of members that this operator never judged so far, by group."""


class GroupState(Enum):
    """A group as its members see it."""

    MISSING = "missing"
    DELETING = "deleting"
    NOT_READY = "not ready"
    READY = "ready"


def group_state(reader: Reader, namespace: str, name: str) -> GroupState:
    """Look the group up."""
    group = reader.get(GROUP, Key(namespace, name)) if name else None
    if group is None:
        return GroupState.MISSING
    if group.meta.deleting:
        return GroupState.DELETING
    return GroupState.READY if is_ready(group) else GroupState.NOT_READY


def judge_group(state: GroupState, name: str, type_: str, *, valid: str, not_ready: str, not_found: str) -> Verdict:
    """Say whether the group can be used; condition type and reasons are the kind's own words."""
    match state:
        case GroupState.READY:
            return Verdict(type_, True, valid, f"MCPGroup '{name}' is valid and ready")
        case GroupState.NOT_READY:
            return Verdict(type_, False, not_ready, f"MCPGroup '{name}' is not ready")
        case GroupState.DELETING:
            return Verdict(type_, False, not_found, "Referenced MCPGroup is being deleted")
        case GroupState.MISSING:
            return Verdict(type_, False, not_found, f"MCPGroup '{name}' not found")


def _says_ready(group: Record) -> bool:
    return bool(group.path("status.phase") == MCPGroupPhase.READY)


is_ready = PerVersion(_says_ready)
"""Whether a group says that it is Ready. Thousands of members ask, and the status to search holds all their names."""


def group_changed_for_members(event: Event) -> bool:
    """Predicate: the group came, went, is being deleted, or became (not) Ready. Its member lists do not matter."""
    old, new = event.old, event.new
    if old is None or new is None:
        return True
    return old.meta.deleting != new.meta.deleting or is_ready(old) != is_ready(new)


def unjudged(record: Record) -> Iterable[str]:
    """Index of members that this operator judges: the group of one that has no verdict yet. Empty for other kinds."""
    direct = record.resource == ENTRY or (record.resource == ENDPOINT and record.path("spec.type") == "direct")
    if not direct or record.meta.deleting or record.path("status.phase"):
        return ()
    group = record.path(GROUP_REF)
    return (group,) if isinstance(group, str) else ()


def count_unjudged(reader: Reader, group: Key) -> int:
    """Return how many members of a group have no verdict yet: whether it is filling up, without a look at them."""
    return sum(reader.count(kind, UNJUDGED, group.name, namespace=group.namespace) for kind in (ENTRY, ENDPOINT))


class Patience:
    """Remembers since when newcomers wait.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: dict[Key, float] = {}

    def waited(self, key: Key) -> float:
        """Return the seconds since the object was first seen without a verdict; 0 the first time."""
        now = self._clock()
        return now - self._since.setdefault(key, now)

    def forget(self, key: Key) -> None:
        """The object has a verdict, or is gone."""
        self._since.pop(key, None)
