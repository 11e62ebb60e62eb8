"""What the installed CRD keeps of a status when it is older than the operator.

A field that a CRD does not declare is pruned from a merge patch without a word, and makes a server-side apply fail as a
whole (500, from structured-merge-diff); a value that its enum does not have makes any write fail (422). In each case
all else of the status would be lost with it, so what the CRD does not know is learned from the server's answers and
left out, and the object says so.

Learned from answers, and not read from the CRDs: that takes no right to read CRDs, and holds whatever the skew is.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import structlog

from api.conditions.vocabulary import CRD_OUTDATED_TYPE, STATUS_FIELDS_UNKNOWN_REASON
from runtime import ApiError, Condition, InvalidError, Record, Resource, set_condition
from runtime.util.conditions import condition_items, parse_conditions

log = structlog.get_logger("controllers.skew")

RECHECK = 300.0
"""Seconds until what was not known is tried again: nothing tells a program that a CRD was replaced."""
ATTEMPTS = 16
"""Writes of one status at most: an apply is told of one unknown field at a time."""
CRD_OUTDATED, _REASON = CRD_OUTDATED_TYPE[0], STATUS_FIELDS_UNKNOWN_REASON[0]

_UNDECLARED = re.compile(r"\.status\.(\w+(?:\.\w+|\[[^\]]*\])*): (?:field not declared in schema|expected )")
_INDEX = re.compile(r"\[[^\]]*\]")
_ENUM = "FieldValueNotSupported"


class InstalledSchema:
    """What the CRD of one kind does not know of the status that this operator writes.

    Args:
        kind: whose.
        clock: seconds, monotonic.

    Attributes:
        version: another one whenever more or less is known than was thought: what was fitted before is out of date.
    """

    def __init__(self, kind: Resource, clock: Callable[[], float] = time.monotonic) -> None:
        self._kind, self._clock = kind, clock
        # Path below the status -> values that are refused; none: the field itself is not known.
        self._gaps: dict[str, frozenset[str]] = {}
        self._defaults: dict[str, Any] = {}
        self._check_at = math.inf
        self.version = 0

    @property
    def outdated(self) -> bool:
        """Whether something had to be left out."""
        return bool(self._gaps)

    @property
    def due(self) -> bool:
        """Whether it is time to try again what was not known."""
        return self.outdated and self._clock() >= self._check_at

    def fit(self, record: Record, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of a status without what the CRD does not know, and with the condition that says so.

        When it is time to try again everything is left in.

        Args:
            record: whose status it is.
            wanted: its fields, the conditions as JSON; None stands for absent.
        """
        fields = dict(wanted)
        if "conditions" in fields:
            others = [item for item in fields["conditions"] if item["type"] != CRD_OUTDATED]
            fields["conditions"] = [*others, *self._condition(record)]
        if not self.outdated or self.due:
            return fields
        return {name: self._fit(name, value) for name, value in fields.items()}

    def sending(self, fields: Mapping[str, Any]) -> None:
        """Fields are about to be written: whoever tries again does it for all objects of the kind."""
        if self.due and any(self._has(fields, path) for path in self._gaps):
            self._check_at = self._clock() + RECHECK

    def answered(self, sent: Mapping[str, Any], status: Any) -> None:
        """Learn from the status that came of a write."""
        got = status if isinstance(status, dict) else {}
        self._defaults |= {name: got[name] for name, value in sent.items() if value is None and name in got}
        lost = set(_lost(sent, got))
        kept = {path for path in self._gaps if path not in lost and self._has(sent, path)}
        gaps = {path: values for path, values in self._gaps.items() if path not in kept}
        self._learn(gaps | dict.fromkeys(lost, frozenset()))

    def refused(self, error: ApiError, sent: Mapping[str, Any]) -> bool:
        """Learn from a refusal. Returns whether the same status without what was learned is worth another try."""
        gaps = dict(self._gaps)
        for match in _UNDECLARED.finditer(error.message):
            gaps[_INDEX.sub("", match[1])] = frozenset()
        causes = error.details.causes if isinstance(error, InvalidError) and error.details is not None else ()
        for cause in causes:
            name = cause.field.removeprefix("status.")
            if name == cause.field or name not in sent or name == "conditions":
                continue  # of the spec, or within a list: nothing that could be left out
            if cause.reason == _ENUM:
                gaps[name] = gaps.get(name, frozenset()) | {str(sent[name])}
            else:
                gaps[name] = frozenset()
        tried_again = any(self._has(sent, path) for path in self._gaps)
        return self._learn(gaps) or tried_again

    def _learn(self, gaps: dict[str, frozenset[str]]) -> bool:
        if gaps == self._gaps:
            return False
        self._gaps = gaps
        self.version += 1
        if gaps:
            self._check_at = self._clock() + RECHECK
            log.warning("the installed CRD is older than this operator", kind=self._kind.kind, unknown=self._unknown())
        else:
            log.info("the installed CRD has every field that this operator writes", kind=self._kind.kind)
        return True

    def _fit(self, path: str, value: Any) -> Any:
        refused = self._gaps.get(path)
        if refused is not None and (not refused or str(value) in refused):
            return self._defaults.get(path) if refused else None
        if isinstance(value, dict):
            inner = {name: self._fit(f"{path}.{name}", item) for name, item in value.items()}
            return {name: item for name, item in inner.items() if item is not None or value[name] is None}
        if isinstance(value, list) and any(gap.startswith(f"{path}.") for gap in self._gaps):
            return [self._fit(path, item) for item in value]
        return value

    def _has(self, fields: Mapping[str, Any], path: str) -> bool:
        """Whether fields hold what a gap is about."""
        values = self._gaps[path]
        found = list(_at(fields, path.split(".")))
        return any(str(value) in values for value in found) if values else bool(found)

    def _unknown(self) -> list[str]:
        return sorted(
            f"status.{path}" + (f" ({', '.join(sorted(values))})" if values else "")
            for path, values in self._gaps.items()
        )

    def _condition(self, record: Record) -> list[dict[str, Any]]:
        if not self.outdated:
            return []
        message = (
            f"the installed CRD of {self._kind.kind} is older than this operator and does not know "
            f"{', '.join(self._unknown())}: left out until the CRDs of this version are applied"
        )
        said = Condition(CRD_OUTDATED, "True", _REASON, message, record.meta.generation)
        before = tuple(c for c in parse_conditions(record.path("status.conditions")) if c.type == CRD_OUTDATED)
        return [condition.as_dict() for condition in set_condition(before, said, now=datetime.now(UTC))]


def _lost(sent: Any, got: Any, path: str = "") -> Iterator[str]:
    """Yield the paths of what was sent and is not there; items of lists share the path of their list."""
    if isinstance(sent, Mapping) and isinstance(got, Mapping):
        for name, value in sent.items():
            if value is None:
                continue
            below = f"{path}.{name}" if path else name
            if name in got:
                yield from _lost(value, got[name], below)
            else:
                yield below
    elif isinstance(sent, list) and isinstance(got, list):
        for mine, theirs in _pairs(sent, got):
            if mine != theirs:
                yield from _lost(mine, theirs, path)


def _pairs(sent: list[Any], got: list[Any]) -> Iterable[tuple[Any, Any]]:
    """Pair the items of two lists: conditions by their type, since others write there too; all else by position."""
    types = {item["type"]: item for item in condition_items(got)}
    if types:
        return [(item, types[item["type"]]) for item in sent if isinstance(item, Mapping) and item.get("type") in types]
    return zip(sent, got, strict=True) if len(sent) == len(got) else ()


def _at(value: Any, names: list[str]) -> Iterator[Any]:
    """Yield what stands at a path, once for each item of the lists on it."""
    if isinstance(value, list):
        for item in value:
            yield from _at(item, names)
    elif not names:
        if value is not None:
            yield value
    elif isinstance(value, Mapping):
        yield from _at(value.get(names[0]), names[1:])
