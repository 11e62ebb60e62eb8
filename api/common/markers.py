"""Schema facts that Python's types cannot say, as typed metadata beside the field or on the class.

`hack/gen_crds.py` turns them into OpenAPI; `api.common.limits` checks those that bound one value when a user
constructs a model. Nothing here is looked at when an object is read from the server: the server has checked it,
perhaps by a newer schema than ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

C = TypeVar("C", bound=type)

RULES_ATTRIBUTE = "__schema_rules__"
ATOMIC_ATTRIBUTE = "__schema_atomic__"


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueBounds:
    """Bounds of one value, with OpenAPI's meaning; a bound that is None is absent.

    `pattern` is searched, not anchored, as the API server does it (write `^...$` to anchor).
    """

    pattern: str | None = None
    min_length: int | None = None
    max_length: int | None = None
    minimum: int | None = None
    maximum: int | None = None
    min_items: int | None = None
    max_items: int | None = None
    max_properties: int | None = None

    def violations(self, value: Any) -> Iterator[str]:
        """Yield a sentence for each bound that `value` breaks; a value of another type breaks none."""
        if isinstance(value, str):
            yield from self._text(value)
        elif isinstance(value, int) and not isinstance(value, bool):
            yield from _range(value, self.minimum, self.maximum, "must be")
        elif isinstance(value, tuple | list):
            yield from _range(len(value), self.min_items, self.max_items, "must have a number of items")
        elif isinstance(value, dict):
            yield from _range(len(value), None, self.max_properties, "must have a number of keys")

    def _text(self, value: str) -> Iterator[str]:
        yield from _range(len(value), self.min_length, self.max_length, "must have a length")
        if self.pattern is not None and not _compiled(self.pattern).search(value):
            yield f"must match {self.pattern}"


def _range(value: int, low: int | None, high: int | None, what: str) -> Iterator[str]:
    if low is not None and value < low:
        yield f"{what} of at least {low}"
    if high is not None and value > high:
        yield f"{what} of at most {high}"


def _compiled(pattern: str) -> re.Pattern[str]:
    """Compile a Go (RE2) pattern: of its own syntax our schemas use only the POSIX class for white space."""
    return re.compile(pattern.replace("[:space:]", r"\s"), re.ASCII)


@dataclass(frozen=True, slots=True)
class OneOf:
    """An enum that is only checked when a user constructs the model (status fields: a newer writer may know more)."""

    values: tuple[str, ...]

    def __init__(self, *values: str) -> None:
        object.__setattr__(self, "values", values)

    def violations(self, value: Any) -> Iterator[str]:
        """Yield a sentence when `value` is text outside the enum."""
        if isinstance(value, str) and value not in self.values:
            yield f"must be one of {', '.join(repr(v) for v in self.values)}"


@dataclass(frozen=True, slots=True)
class Format:
    """OpenAPI's `format`."""

    name: Literal["int32", "int64", "date-time"]


@dataclass(frozen=True, slots=True)
class ListType:
    """How server-side apply merges a list: replaced whole (`atomic`), as a set, or item by item by `keys` (`map`)."""

    kind: Literal["atomic", "set", "map"]
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Required:
    """Listed in the schema's `required` although the model has a default (which the schema states too)."""


@dataclass(frozen=True, slots=True)
class KeepUnknown:
    """`x-kubernetes-preserve-unknown-fields: true`: the server keeps what the schema does not list."""


@dataclass(frozen=True, slots=True)
class CelRule:
    """A CEL rule of the API server with the message that users see when it refuses.

    `old_self` rules (transition rules) are skipped on create by the server.
    """

    rule: str
    message: str


def rules(*checks: CelRule) -> Callable[[C], C]:
    """Class decorator: CEL rules on every object of this type."""

    def mark(cls: C) -> C:
        setattr(cls, RULES_ATTRIBUTE, checks)
        return cls

    return mark


def atomic(cls: C) -> C:
    """Class decorator: `x-kubernetes-map-type: atomic`, server-side apply replaces the object whole."""
    setattr(cls, ATOMIC_ATTRIBUTE, True)
    return cls


@dataclass(frozen=True, slots=True)
class Column:
    """A printer column of `kubectl get`."""

    name: str
    path: str
    type: Literal["string", "integer", "boolean", "date"] = "string"


AGE = Column("Age", ".metadata.creationTimestamp", "date")


def condition_column(name: str, condition: str) -> Column:
    """Return the column that shows the status of one condition type."""
    return Column(name, f".status.conditions[?(@.type=='{condition}')].status")


REASON = Column("Reason", ".status.conditions[?(@.type=='Ready')].reason")
"""Why an object is, or is not, ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """What a CRD says about a kind besides its schema.

    Attributes:
        plural: resource name in URLs, lower case.
        short_names: for kubectl; may be empty.
        columns: in the order that `kubectl get` shows them.
        selectable: paths usable in field selectors; one for each single-valued index of the operator, so that a
            live list can ask the same question as the cache. At most 8.
        versions: served versions; the last one is the storage version, all others are deprecated.
        spec_required: whether `spec` is in the top-level `required`.
        reconciled: whether this operator writes the status. Until it has, the schema makes `status.observedGeneration`
            -1, because kstatus takes an object without any status for one that is done.
    """

    plural: str
    short_names: tuple[str, ...]
    columns: tuple[Column, ...]
    selectable: tuple[str, ...] = ()
    versions: tuple[str, ...] = field(default=("v1alpha1", "v1beta1"))
    spec_required: bool = False
    reconciled: bool = False
