"""Which events are written: repeated ones become a series, floods are cut.

The rules are client-go's: the first occurrence creates an Event, the second turns it into a series, later ones are only
counted and the count is written now and then. One deviation: the note belongs to the identity of an event here. The API
does not let a note change, and an event that says "3 members skipped" must not be swallowed by a series of "2 members
skipped". What this opens to floods (notes that differ each time), a token bucket per object closes.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NamedTuple


class SeriesKey(NamedTuple):
    """What makes two events the same."""

    type: str
    reason: str
    action: str
    controller: str
    regarding: str
    related: str
    note: str


class SeriesAction(Enum):
    """What an occurrence asks for."""

    CREATE = auto()
    PATCH = auto()
    NOTHING = auto()
    DROP = auto()


@dataclass(frozen=True, slots=True)
class SeriesSettings:
    """Limits, with client-go's numbers.

    Attributes:
        burst: Event writes per object at once.
        refill: Seconds per further write of an object that used up its burst.
        refresh: Seconds between two writes of the count of a series that goes on.
        idle: Seconds without an occurrence after which a series is closed with a last write and forgotten.
        capacity: Series and objects that are remembered; the least recently used are forgotten.
    """

    burst: int = 25
    refill: float = 300.0
    refresh: float = 1800.0
    idle: float = 360.0
    capacity: int = 4096


@dataclass(slots=True)
class Series:
    """One event and its repetitions."""

    namespace: str
    name: str
    count: int = 1
    last: float = 0.0
    written: int = 1  # the count that the server knows
    written_at: float = 0.0


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


@dataclass(slots=True)
class SeriesBook:
    """Remembers what was said. Pure: time comes as an argument, nothing is written here."""

    settings: SeriesSettings = field(default_factory=SeriesSettings)
    _series: OrderedDict[SeriesKey, Series] = field(default_factory=OrderedDict)
    _buckets: OrderedDict[str, _Bucket] = field(default_factory=OrderedDict)

    def occurred(self, key: SeriesKey, namespace: str, name: str, now: float) -> tuple[SeriesAction, Series | None]:
        """Note an occurrence and say what to write. `namespace` and `name` are those of a new Event."""
        known = self._series.get(key)
        if known is not None:
            self._series.move_to_end(key)
            known.count += 1
            known.last = now
            if (known.written == 1 or now - known.written_at >= self.settings.refresh) and self._take(key, now):
                return SeriesAction.PATCH, known
            return SeriesAction.NOTHING, known
        if not self._take(key, now):
            return SeriesAction.DROP, None
        made = self._series[key] = Series(namespace, name, last=now, written_at=now)
        while len(self._series) > self.settings.capacity:
            self._series.popitem(last=False)
        return SeriesAction.CREATE, made

    def forget(self, key: SeriesKey) -> None:
        """The Event could not be written, or is gone: the next occurrence starts anew."""
        self._series.pop(key, None)

    def close_idle(self, now: float) -> list[tuple[SeriesKey, Series]]:
        """Forget the series that ended; returns those whose last count was not written yet."""
        ended = [(k, s) for k, s in self._series.items() if now - s.last >= self.settings.idle]
        for key, _ in ended:
            del self._series[key]
        return [(key, series) for key, series in ended if series.count > series.written]

    def __len__(self) -> int:
        return len(self._series)

    def _take(self, key: SeriesKey, now: float) -> bool:
        bucket = self._buckets.pop(key.regarding, None) or _Bucket(self.settings.burst, now)
        bucket.tokens = min(self.settings.burst, bucket.tokens + (now - bucket.at) / self.settings.refill)
        bucket.at = now
        self._buckets[key.regarding] = bucket
        while len(self._buckets) > self.settings.capacity:
            self._buckets.popitem(last=False)
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True
