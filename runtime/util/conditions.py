"""Status conditions by the rules of the Kubernetes API conventions.

`lastTransitionTime` moves only when `status` moves; a new reason or message of the same status is no transition, and
alerts that count from the transition time must not be reset by it. A list that needs no change comes back as the same
object, so that callers can skip the write.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from runtime.util.times import format_time

Status = Literal["True", "False", "Unknown"]

MAX_MESSAGE = 32_768
"""Longest message that the API server takes; longer ones are cut, with an ellipsis."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One `metav1.Condition`.

    Attributes:
        type: CamelCase; the key of the list.
        status: `True`, `False` or `Unknown`.
        reason: CamelCase, required, for programs.
        message: A sentence for people; may be empty.
        observed_generation: `metadata.generation` that this verdict is about; None to leave it out.
        last_transition_time: RFC 3339 in UTC, whole seconds; filled in by `set_condition`.
    """

    type: str
    status: Status
    reason: str
    message: str = ""
    observed_generation: int | None = None
    last_transition_time: str = ""

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Condition:
        """Read a condition from the JSON of a status; fields that are missing, or no texts, become empty."""
        status, generation = raw.get("status"), raw.get("observedGeneration")
        return cls(
            type=_text(raw.get("type")),
            status=status if status in ("True", "False") else "Unknown",
            reason=_text(raw.get("reason")),
            message=_text(raw.get("message")),
            observed_generation=generation if type(generation) is int else None,
            last_transition_time=_text(raw.get("lastTransitionTime")),
        )

    def as_dict(self) -> dict[str, Any]:
        """The JSON form, keys in a fixed order so that equal conditions give equal bytes."""
        body: dict[str, Any] = {"type": self.type, "status": self.status}
        if self.observed_generation is not None:
            body["observedGeneration"] = self.observed_generation
        body["lastTransitionTime"] = self.last_transition_time
        body["reason"] = self.reason
        body["message"] = self.message
        return body


Conditions = tuple[Condition, ...]


def parse_conditions(raw: object) -> Conditions:
    """Read `status.conditions`; whatever is no list of conditions is an empty tuple.

    An older schema may have let anything in: that must not keep an object from being judged, which mends its status.
    """
    return tuple(Condition.parse(item) for item in condition_items(raw))


def condition_items(raw: object) -> list[Mapping[str, Any]]:
    """Return the items of a list of conditions, as they stand there, that have a type."""
    items = raw if isinstance(raw, list) else []
    return [item for item in items if isinstance(item, Mapping) and isinstance(item.get("type"), str)]


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def get_condition(conditions: Conditions, type_: str) -> Condition | None:
    """The condition of this type, None when there is none."""
    return next((c for c in conditions if c.type == type_), None)


def set_condition(conditions: Conditions, new: Condition, *, now: datetime) -> Conditions:
    """Put `new` in place of the condition of its type, or at the end.

    The transition time is the old one while the status stays; else `new.last_transition_time` when the caller sets it;
    else `now`.

    Args:
        conditions: The present conditions, in their order.
        new: The verdict; a message beyond what the API server takes is cut.
        now: Time of the decision; passed in, so that deciding stays a pure function.

    Returns:
        `conditions` itself when nothing changes.

    Raises:
        ValueError: The reason is empty, which the API server would refuse.
    """
    if not new.reason:
        raise ValueError(f"condition {new.type} needs a reason")
    if len(new.message) > MAX_MESSAGE:
        new = replace(new, message=new.message[: MAX_MESSAGE - 1] + "…")
    for position, old in enumerate(conditions):
        if old.type != new.type:
            continue
        if old.status == new.status and old.last_transition_time:
            new = replace(new, last_transition_time=old.last_transition_time)
        new = _stamped(new, now)
        return conditions if new == old else (*conditions[:position], new, *conditions[position + 1 :])
    return (*conditions, _stamped(new, now))


def remove_condition(conditions: Conditions, type_: str) -> Conditions:
    """Drop the condition of this type; the others keep their order. The same tuple when there was none."""
    kept = tuple(c for c in conditions if c.type != type_)
    return conditions if len(kept) == len(conditions) else kept


def _stamped(condition: Condition, now: datetime) -> Condition:
    if condition.last_transition_time:
        return condition
    return replace(condition, last_transition_time=format_time(now))
