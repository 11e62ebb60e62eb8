"""Repairs with a rate: what to do when somebody else puts an object back each time that we have repaired it.

A hand edit is repaired at once. Another controller that sticks to its value (a GitOps tool that heals, an image
updater, a second operator) would be answered as fast as both can write, without end, and every answer may be a new
ReplicaSet. So after a few repairs in a row of one object the next ones wait, each twice as long as the one before; the
object's condition names who writes there; and when it was left in peace for long enough, all is as before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from controllers.shared.timing import Timing
from runtime import Key, Resource

FREE = 3
"""Repairs in a row that are made at once: a person who edits, looks and edits again."""
LONGEST_PAUSE = 300.0
"""Seconds."""

Place = tuple[Resource, Key]


@dataclass(frozen=True, slots=True)
class Contest:
    """An object that somebody else keeps changing.

    Attributes:
        resource: its kind.
        key: its name.
        manager: the other field manager; "" when the server does not say, as after deletions.
        path: one field that both want; "" when unknown.
        due: seconds after which to look again.
        repair: whether a repair may be made now.
    """

    resource: Resource
    key: Key
    manager: str
    path: str
    due: float
    repair: bool

    def __str__(self) -> str:
        """Return the sentence for users; it does not change from one repair to the next."""
        who = f'the field manager "{self.manager}"' if self.manager else "something else"
        what = f"{self.path} of " if self.path else ""
        return (
            f"{who} keeps changing or removing {what}{self.resource.kind} {self.key.name}; "
            "it is repaired less and less often until that stops"
        )


@dataclass(frozen=True, slots=True)
class Leaving:
    """An object that somebody deletes and something holds: it is there, and will not stay. Its end is an event.

    Attributes:
        resource: its kind.
        key: its name.
        finalizers: what holds it.
    """

    resource: Resource
    key: Key
    finalizers: tuple[str, ...]

    def __str__(self) -> str:
        """Return the sentence for users."""
        held = f" and held by {', '.join(self.finalizers)}" if self.finalizers else ""
        return f"{self.resource.kind} {self.key.name} is being deleted{held}; it is made anew once it is gone"


Hindrance = Contest | Leaving
"""What others do to a generated object."""


@dataclass
class _Repairs:
    timing: Timing
    count: int = 0
    last: float = 0.0
    manager: str = ""
    path: str = ""
    asked: bool = False

    @property
    def pause(self) -> float:
        return (
            min(self.timing.first_pause * 2 ** min(self.count - FREE, 30), LONGEST_PAUSE) if self.count >= FREE else 0.0
        )

    @property
    def peace(self) -> float:
        return max(self.timing.peace, 2 * self.pause)


@dataclass
class Contests:
    """The repairs of all objects of one applier.

    Args:
        clock: seconds, monotonic.
        timing: how long repairs wait, and when a contest is over.
    """

    clock: Callable[[], float] = time.monotonic
    timing: Timing = field(default_factory=Timing)
    _repairs: dict[Place, _Repairs] = field(default_factory=dict)

    def repaired(self, place: Place) -> None:
        """Note that an object which had been right was made right again."""
        found = self._repairs.setdefault(place, _Repairs(self.timing))
        now = self.clock()
        if now - found.last >= found.peace:
            found.count = 0
        found.count, found.last, found.asked = found.count + 1, now, False

    def blame(self, place: Place, manager: str, path: str) -> None:
        """Note who has the other value, and of which field; "" where the server does not say: the last answer stays."""
        found = self._repairs.get(place)
        if found is None:
            return
        found.asked = True
        if manager:
            found.manager, found.path = manager, path

    def unnamed(self, place: Place) -> bool:
        """Whether the next repair makes or continues a contest, and nobody asked yet who it is with.

        To be asked before the repair: after it, the fields are ours again.
        """
        found = self._repairs.get(place)
        return found is not None and found.count >= FREE - 1 and not found.asked

    def of(self, place: Place) -> Contest | None:
        """Return the contest about an object; None while there is none, or after it is over."""
        found = self._repairs.get(place)
        if found is None:
            return None
        waited = self.clock() - found.last
        if waited >= found.peace:
            del self._repairs[place]
            return None
        if found.count < FREE:
            return None
        repair = waited >= found.pause
        due = found.peace - waited if repair else found.pause - waited
        return Contest(*place, found.manager, found.path, max(due, 0.05), repair)

    def forget(self, place: Place) -> None:
        """The object is not wanted any more."""
        self._repairs.pop(place, None)


def contender(
    managed: list[Mapping[str, Any]], intent: Mapping[str, Any], own: str, *, subresource: str = ""
) -> tuple[str, str]:
    """Return another field manager that holds a field of ours, and that field; ("", "") when there is none.

    Args:
        managed: `metadata.managedFields` of the object as it stands.
        intent: what we apply.
        own: our field manager.
        subresource: through which the fields are written; "" for the object itself.
    """
    latest = sorted(managed, key=lambda entry: str(entry.get("time") or ""), reverse=True)
    for entry in latest:
        if entry.get("manager") == own or (entry.get("subresource") or "") != subresource:
            continue
        fields = entry.get("fieldsV1")
        if isinstance(fields, Mapping) and (path := next(_shared(fields, intent, ""), "")):
            return str(entry.get("manager") or ""), path
    return "", ""


def _shared(fields: Mapping[str, Any], wanted: Any, path: str) -> Iterator[str]:
    """Yield the leaves of a field set that lie in what we want (structured-merge-diff's FieldsV1)."""
    for key, inner in fields.items():
        at = _step(key, wanted)
        if at is None:
            continue
        name, value = at
        here = f"{path}{name}" if name.startswith("[") or not path else f"{path}.{name}"
        if inner and isinstance(inner, Mapping):
            yield from _shared(inner, value, here)
        elif not isinstance(value, Mapping):  # of lists: one that is written as a whole
            yield here


def _step(key: str, wanted: Any) -> tuple[str, Any] | None:
    kind, _, rest = key.partition(":")
    match kind:
        case "f" if isinstance(wanted, Mapping) and rest in wanted:
            return rest, wanted[rest]
        case "k" if isinstance(wanted, list):
            return _element(rest, wanted)
        case _:
            return None


def _element(keys: str, wanted: list[Any]) -> tuple[str, Any] | None:
    try:
        found = orjson.loads(keys)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(found, dict):
        return None
    for element in wanted:
        if isinstance(element, Mapping) and all(element.get(name) == value for name, value in found.items()):
            return "[" + ",".join(f"{name}={value}" for name, value in found.items()) + "]", element
    return None
