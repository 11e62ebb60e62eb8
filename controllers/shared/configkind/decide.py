"""What a configuration's status must say, and whether the object may go: a pure function of a snapshot."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

from api.conditions import ConfigCondition as Type
from api.conditions import ConfigReason as Reason
from controllers.shared.verdicts import Conditions, Unreadable, Verdict, conditions_json, fold, sum_up

MAX_REFERRERS = 10
"""Referrers that a message names; beyond, it gives their number."""

Spec = TypeVar("Spec")


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot(Generic[Spec]):
    """Everything that the decision depends on.

    Attributes:
        name: of the object.
        spec: of the object.
        spec_hash: hash of that spec.
        known_hash: hash in the status.
        generation: of that spec.
        now: time of the decision.
        deleting: whether its deletion waits for our finalizer.
        referrers: who refers to it, as `Kind/name`, sorted; only looked up while deleting.
        previous: conditions so far.
    """

    name: str
    spec: Spec | Unreadable
    spec_hash: str
    known_hash: str | None = None
    generation: int
    now: datetime
    deleting: bool = False
    referrers: tuple[str, ...] = ()
    previous: Conditions = ()


@dataclass(frozen=True, slots=True)
class Judged:
    """What a kind says of one spec.

    Attributes:
        valid: `Valid`.
        fine: `Ready` of a valid one; None for kinds that have no such condition.
        others: verdicts that decide nothing.
    """

    valid: Verdict
    fine: Verdict | None = None
    others: tuple[Verdict, ...] = ()


@dataclass(frozen=True, slots=True)
class Announcement:
    """An event to record."""

    type: Literal["Normal", "Warning"]
    reason: str
    action: str
    note: str


@dataclass(frozen=True, slots=True)
class ConfigDecision:
    """What to do.

    Attributes:
        release: let the object go.
        status: fields of the status; None when it is released.
        announcements: events, on transitions only.
    """

    release: bool = False
    status: Mapping[str, Any] | None = None
    announcements: tuple[Announcement, ...] = ()


def decide(snapshot: Snapshot[Any], judged: Judged, types: Iterable[str]) -> ConfigDecision:
    """Decide on one object.

    Args:
        snapshot: the object.
        judged: what its kind says of its spec.
        types: the kind's condition types; those that nothing is said of are taken away.
    """
    if snapshot.deleting and not snapshot.referrers:
        return ConfigDecision(release=True)
    valid = judged.valid
    verdicts = [valid, *(sum_up([valid], fine=judged.fine, passing=()) if judged.fine else ()), *judged.others]
    if snapshot.deleting:
        verdicts.append(_blocked(snapshot.referrers))
    said = {str(verdict.type) for verdict in verdicts}
    conditions = fold(
        snapshot.previous,
        verdicts,
        drop=[type_ for type_ in types if str(type_) not in said],
        generation=snapshot.generation,
        now=snapshot.now,
    )
    status = {
        "observedGeneration": snapshot.generation,
        # A broken spec does not move the hash: nobody shall roll out to it.
        "configHash": snapshot.spec_hash if valid.ok else snapshot.known_hash,
        "conditions": conditions_json(conditions),
    }
    return ConfigDecision(status=status, announcements=tuple(_announcements(snapshot.previous, verdicts)))


def hash_in_status(config: Any) -> str | None:
    """Return the hash that a configuration's status names; None where there is none."""
    if config is None or isinstance(config, Unreadable) or config.status is None:
        return None
    value = config.status.config_hash
    return value if isinstance(value, str) and value else None


def _blocked(referrers: tuple[str, ...]) -> Verdict:
    names = ", ".join(referrers[:MAX_REFERRERS])
    more = len(referrers) - MAX_REFERRERS
    message = f"Cannot delete: still referenced by {names}" + (f" and {more} more" if more > 0 else "")
    return Verdict(Type.DELETION_BLOCKED, True, Reason.REFERENCED_BY_WORKLOADS, message)


def _announcements(previous: Conditions, verdicts: list[Verdict]) -> Iterator[Announcement]:
    before = {condition.type: condition for condition in previous}
    for verdict in verdicts:
        known = before.get(verdict.type)
        status = known.status if known is not None else None
        if verdict.type == Type.VALID and not verdict.ok and status != "False":
            yield Announcement("Warning", "ConfigInvalid", "Validate", verdict.message)
        elif verdict.type == Type.VALID and verdict.ok and status == "False":
            yield Announcement("Normal", "ConfigValid", "Validate", "The configuration is valid again")
        elif verdict.type == Type.DELETION_BLOCKED and status != "True":
            yield Announcement("Warning", "DeletionBlocked", "Delete", verdict.message)
