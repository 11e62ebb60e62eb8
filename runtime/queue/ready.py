"""The ready part of the queue: highest priority first, first come first served within one, and nobody starves.

Plain priority starves: under a steady stream of changes (priority 0) the initial list (priority -100) would never be
worked (kubernetes-sigs/controller-runtime#3496). Serving every old item first would be the opposite mistake: after a
fail-over, 10,000 old low-priority keys would stand before the one change that a user waits for. So old lower items get
a share: of `share` picks in a row at most one goes to the longest-waiting item of a lower class, and only once that
item has waited `patience` seconds. High priority keeps at least (share - 1) / share of the workers, and the k-th low
item is served after at most `k * share` picks once it is old.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Ageing:
    """How lower priorities are kept from starving.

    Attributes:
        share: One of this many picks may go to a lower priority (default 8).
        patience: Seconds that an item must have been ready before it may use that share (default 1).
    """

    share: int = 8
    patience: float = 1.0

    def __post_init__(self) -> None:
        if self.share < 2 or self.patience < 0:
            raise ValueError(f"ageing needs share >= 2 and patience >= 0, got {self.share} and {self.patience}")


class Picked(NamedTuple, Generic[T]):
    """An item that left the ready part."""

    item: T
    priority: int
    since: float  # when it became ready


class ReadyClasses(Generic[T]):
    """Items by priority class, each class in order of arrival."""

    def __init__(self, ageing: Ageing) -> None:
        self._ageing = ageing
        self._classes: dict[int, OrderedDict[T, float]] = {}
        self._order: list[int] = []  # priorities present, highest first
        self._picks = 0  # since the last item of a lower class
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def push(self, item: T, priority: int, since: float) -> None:
        """Append `item` to its class; the caller guarantees that it is in none."""
        members = self._classes.get(priority)
        if members is None:
            members = self._classes[priority] = OrderedDict()
            self._order = sorted(self._classes, reverse=True)
        members[item] = since
        self._size += 1

    def move(self, item: T, old: int, new: int) -> None:
        """Put `item` at the end of a higher class; the time for which it has waited stays."""
        since = self._remove(item, old)
        self.push(item, new, since)

    def pop(self, now: float) -> Picked[T]:
        """Take the next item. Raises IndexError when nothing is ready."""
        if not self._size:
            raise IndexError("nothing is ready")
        priority = self._order[0]
        if len(self._order) > 1:
            self._picks += 1
            if self._picks >= self._ageing.share:
                priority = self._aged(now)
        if priority != self._order[0]:
            self._picks = 0
        members = self._classes[priority]
        item = next(iter(members))
        return Picked(item, priority, self._remove(item, priority))

    def depths(self) -> dict[int, int]:
        """Ready items per priority."""
        return {priority: len(members) for priority, members in self._classes.items()}

    def clear(self) -> None:
        """Drop everything."""
        self._classes.clear()
        self._order.clear()
        self._size = 0

    def _aged(self, now: float) -> int:
        """The lower class whose head has waited longest, if that is long enough; else the highest class."""
        oldest, chosen = now - self._ageing.patience, self._order[0]
        for priority in self._order[1:]:
            since = next(iter(self._classes[priority].values()))
            if since <= oldest:
                oldest, chosen = since, priority
        return chosen

    def _remove(self, item: T, priority: int) -> float:
        members = self._classes[priority]
        since = members.pop(item)
        self._size -= 1
        if not members:
            del self._classes[priority]
            self._order.remove(priority)
        return since
